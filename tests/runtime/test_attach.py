"""What a reader of a cut log is told: the bytes that were kept, each at the offset at which it was written."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

import pytest

from openclaw.ids import NodeId, TaskId
from openclaw.records import Batch, Exit, Needs, Progress, State, Submission
from openclaw.runtime.attach import Attachment
from openclaw.runtime.context import Context
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.tasks import Snapshot, Tasks

OWNER = NodeId("a" * 16)
TASK = TaskId(f"{OWNER}-boota")
WRITTEN = bytes(range(100))
HEAD, CUT = 20, 50
KEPT = WRITTEN[:HEAD] + WRITTEN[HEAD + CUT :]
EXIT = Exit(0, stdout_size=len(WRITTEN), stdout_cut=CUT, stdout_head=HEAD)


class Kept:
    """The owner's copy of the log, handed out in pieces of seven bytes."""

    async def whole(
        self, _peer: NodeId, _kind: str, _name: str, offset: int, sink: Callable[[bytes], Awaitable[None]]
    ) -> None:
        for at in range(offset, len(KEPT), 7):
            await sink(KEPT[at : at + 7])


@pytest.mark.parametrize("offset", [0, 5, HEAD, HEAD + 10, HEAD + CUT, 90, len(WRITTEN)])
async def test_every_byte_stands_where_it_was_written(offset: int) -> None:
    submission = Submission(TASK, Needs(), b"", Batch(b"", b""), 0, 0.0)
    snapshot = Snapshot(OWNER, submission, Progress(TASK, State.SUCCEEDED, exit=EXIT))

    async def read(_task: TaskId) -> Snapshot:
        return snapshot

    told: dict[int, int] = {}

    async def emit(frame: dict[str, object]) -> None:
        data = cast("bytes", frame["data"])
        told.update(enumerate(data, cast("int", frame["offset"])))

    context = cast("Context", SimpleNamespace())
    attachment = Attachment(
        context, cast("Tasks", SimpleNamespace(read=read)), cast("Pulls", Kept()), emit, (offset, None)
    )
    await attachment.so_far(TASK)
    kept = [*range(HEAD), *range(HEAD + CUT, len(WRITTEN))]
    assert told == {at: WRITTEN[at] for at in kept if at >= offset}
