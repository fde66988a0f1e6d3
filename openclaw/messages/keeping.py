"""The second copy of a task: kept by its guardian, and what follows when its owner is gone."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta as Bound

from openclaw.ids import Claim, TaskId, Token
from openclaw.messages.base import Message
from openclaw.messages.placing import Holding
from openclaw.records import Batch, Count, Progress, Record, Submission

Tasks = Annotated[tuple[TaskId, ...], Bound(max_length=1024)]


class Kept(Record, frozen=True):
    """One task as its owner has it. `batch` says where its signature is; no `submission` where only it moved."""

    progress: Progress
    submission: Submission | None = None  # without its batch
    batch: Count = 0


class Guard(Message, frozen=True):
    """Keep these for me, or what became of them."""

    batches: Annotated[tuple[Batch, ...], Bound(max_length=256)]
    items: Annotated[tuple[Kept, ...], Bound(max_length=1024)]


class Guarded(Message, frozen=True):
    """These are on my disk as of that move, with the outputs of those that are final."""

    items: Annotated[tuple[tuple[TaskId, Claim, Count], ...], Bound(max_length=1024)]


class Unguarded(Message, frozen=True):
    """I have no copy of these: send me all of it."""

    tasks: Tasks


class Superseded(Message, frozen=True):
    """These have another owner now, whose claim is higher than yours."""

    items: Annotated[tuple[tuple[TaskId, Claim], ...], Bound(max_length=1024)]


class Keeping(Message, frozen=True):
    """I keep copies of these for you, and we have not spoken for a while: are they still of use?"""

    tasks: Tasks


class Release(Message, frozen=True):
    """Let your copies of these go: they are over, or kept elsewhere."""

    tasks: Tasks
    number: Count = 0


class Released(Message, frozen=True):
    """My copies of these are gone from my disk, as of your request of that number."""

    tasks: Tasks
    number: Count = 0


class Seek(Message, frozen=True):
    """I own these now, by `takeover`: what have you of them? What you have not, start under no older claim."""

    seq: Count
    takeover: Count
    tasks: Tasks


class Found(Message, frozen=True):
    """The attempts of the sought tasks that this worker has; of the others it will start none that is older."""

    seq: Count
    items: Annotated[tuple[tuple[TaskId, Token, Holding], ...], Bound(max_length=1024)] = ()


class Known(Message, frozen=True):
    """The ends of sought tasks that this node has on its disk; the last answer to a `Seek` says so."""

    seq: Count
    items: Annotated[tuple[Kept, ...], Bound(max_length=1024)] = ()
    last: bool = True


class Adopt(Message, frozen=True):
    """These attempts report to me from now on, since I own their tasks by `takeover`."""

    items: Annotated[tuple[tuple[TaskId, Token, Count], ...], Bound(max_length=1024)]
