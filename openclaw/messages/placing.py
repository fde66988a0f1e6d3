"""Tasks: demand, grant, assign, and what became of them."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta as Bound

from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.messages.base import Message
from openclaw.records import Batch, Count, Exit, Name, Needs, Record, Seconds, Size, Text


class DemandRow(Record, frozen=True):
    """`count` tasks of one class that wait for a place, as of the grant numbered in `Demand.seen`."""

    row: Count  # the owner's own number of the class
    needs: Needs
    count: Count
    priority: int = 0
    runtime_s: Annotated[float, Bound(ge=-1, lt=1e12)] = -1.0  # what such tasks took lately; -1 unknown
    job: Name = ""
    waited_s: Seconds = 0.0  # since one of them got a place, or since they began to wait


class Unused(Record, frozen=True):
    """Grants that found no task any more."""

    seq: Count
    worker: NodeId
    count: Count


class Demand(Message, frozen=True):
    """All that I want a place for, replacing what I said. `seen` is your last grant that I counted in."""

    epoch: Epoch
    seen: Count
    rows: Annotated[tuple[DemandRow, ...], Bound(max_length=1024)]
    unused: Annotated[tuple[Unused, ...], Bound(max_length=1024)] = ()


class DemandOf(Record, frozen=True):
    """One owner's demand, as a leader hands it over to the next."""

    owner: NodeId
    rows: Annotated[tuple[DemandRow, ...], Bound(max_length=1024)]


class GrantRow(Record, frozen=True):
    """`count` places on `worker` (during its start `boot`) for the owner's class `row`."""

    row: Count
    worker: NodeId
    boot: Name
    count: Count
    owner: NodeId = NodeId("")
    size: Size | None = None  # of each, in a hand-over; None is one slot


class Grant(Message, frozen=True):
    """A lease on places, `ttl_s` long on the receiver's own clock."""

    epoch: Epoch
    seq: Count
    ttl_s: Seconds
    rows: Annotated[tuple[GrantRow, ...], Bound(max_length=1024)]


class Report(Message, frozen=True):
    """A worker's load, to the leader. `taken` counts assigned tasks per grant since the last report.

    `size` is what all that runs and waits takes together; None from who counts tasks alone. `returned` is how many
    it gave back to their owners since, because the leader asked for them.
    """

    epoch: Epoch
    boot: Name
    slots: Count
    running: Count
    queued: Count
    draining: bool
    taken: Annotated[tuple[tuple[NodeId, Count, Count], ...], Bound(max_length=4096)] = ()  # owner, grant, n
    size: Size | None = None
    returned: Count = 0


class Recall(Message, frozen=True):
    """From the leader to a worker: give up to `count` tasks that wait back to their owners, the last that came first;
    `idle` could run them at once."""

    epoch: Epoch
    count: Count
    idle: NodeId


class Item(Record, frozen=True):
    """One task on its way to a worker. `batch` and `leaf` say where its signature is."""

    task: TaskId
    token: Token
    needs: Needs
    payload: bytes
    batch: Count
    leaf: Count
    once: bool = False
    submitter: NodeId = NodeId("")  # who signed it, where it is not the owner
    runtime_s: float = -1.0  # what its kind took lately, as its owner knows; below 0 while it does not
    no_overlap: bool = False


class Assign(Message, frozen=True):
    """Start these. Addressed to one start (`boot`) of the worker; a later start refuses it.

    `grant` is the leader's number for the lease used, 0 when the owner chose by probing (leaderless).
    """

    epoch: Epoch
    grant: Count
    boot: Name
    batches: Annotated[tuple[Batch, ...], Bound(max_length=256)]
    items: Annotated[tuple[Item, ...], Bound(max_length=1024)]


class Refused(Record, frozen=True):
    task: TaskId
    token: Token
    reason: Text
    taken_back: bool = False  # the leader asked for it: nothing is wrong with the worker


class Returned(Message, frozen=True):
    """Not started, and never will be under these tokens."""

    items: Annotated[tuple[Refused, ...], Bound(max_length=1024)]


class Started(Message, frozen=True):
    """These run now; wall-clock start times, UTC seconds."""

    items: Annotated[tuple[tuple[TaskId, Token, float], ...], Bound(max_length=1024)]


class Outcome(Record, frozen=True):
    task: TaskId
    token: Token
    exit: Exit


class Outcomes(Message, frozen=True):
    """These ended; kept and sent again until acknowledged."""

    items: Annotated[tuple[Outcome, ...], Bound(max_length=1024)]


class OutcomesStored(Message, frozen=True):
    """These outcomes are on my disk (or are no longer wanted): let them go."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Ask(Message, frozen=True):
    """What have you of these? Whatever you have not, never start under such a token."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Holding(IntEnum):
    """A worker's answer about one token."""

    NOT_STARTED = 0  # and fenced
    WAITING = 1
    RUNNING = 2
    MAYBE_STARTED = 3  # it was started; how it ended is not known here
    ENDED = 4  # the outcome follows


class Have(Message, frozen=True):
    boot: Name
    items: Annotated[tuple[tuple[TaskId, Token, Holding], ...], Bound(max_length=1024)]


class End(Message, frozen=True):
    """End these attempts if they run, never start them if they do not: cancelled, or superseded."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]
    reason: Name  # "cancel" or "superseded"


class Renew(Message, frozen=True):
    """To the owner: may these go on, or begin? They must not overlap."""

    number: Count
    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Leased(Message, frozen=True):
    """They may, for `lease_s` from when the worker sent the question with that number."""

    number: Count
    lease_s: Seconds
    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Cancel(Message, frozen=True):
    """To the owner, from wherever the person sits."""

    tasks: Annotated[tuple[TaskId, ...], Bound(max_length=1024)]


class Probe(Message, frozen=True):
    """No leader right now: how full are you?"""

    seq: Count


class Room(Message, frozen=True):
    seq: Count
    boot: Name
    load: Count
    free: Count
