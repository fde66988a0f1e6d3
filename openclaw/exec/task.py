"""The table of a task's legal moves, and the story that every move adds a line to.

Promises: a task is only ever in a state that this table leads to; a final state is never left; anything else
raises `IllegalMove` with the task's whole story.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from openclaw.errors import IllegalMove
from openclaw.ids import NodeId, TaskId
from openclaw.records import FINAL, Move, Progress, State

_S = State
LEGAL: Mapping[State, frozenset[State]] = {
    # A result may still come from an attempt that was given up, and one that runs on may be adopted.
    # What was taken over may run somewhere, until everybody was asked: it is cancelled as what runs.
    _S.QUEUED: FINAL | {_S.PLACED, _S.RUNNING, _S.CANCELLING},
    _S.RETRYING: FINAL | {_S.QUEUED, _S.RUNNING},
    _S.PLACED: FINAL | {_S.RUNNING, _S.QUEUED, _S.RETRYING, _S.CANCELLING},
    _S.RUNNING: FINAL | {_S.QUEUED, _S.RETRYING, _S.CANCELLING},
    # What ends before its cancellation arrives keeps its own result.
    _S.CANCELLING: FINAL,
    **{state: frozenset() for state in FINAL},
}

ACTIVE = frozenset({State.PLACED, State.RUNNING, State.CANCELLING})
"""States in which a worker has the task, or may have."""

WAITING = frozenset({State.QUEUED, State.RETRYING})


def begin(task: TaskId, at: float, owner: NodeId, guardians: tuple[NodeId, ...] = ()) -> Progress:
    """The first line of a story."""
    story = (Move(0, at, State.QUEUED, owner, "submitted"),)
    return Progress(task=task, state=State.QUEUED, story=story, owner=owner, guardians=guardians)


def inherit(progress: Progress, owner: NodeId, at: float, reason: str, *, exclusive: bool) -> Progress:
    """The same task under its next owner. What was asked to be cancelled stays so; the rest begins to wait.

    An attempt that may have started is kept in mind for a task with an intent; others are found by asking. So are other
    holders of a copy, but for those of an exclusive task: they may be heirs too, and have started it out of our sight.
    """
    holders = tuple(node for node in progress.guardians if node != owner) if exclusive else ()
    state = State.CANCELLING if progress.state is State.CANCELLING else State.QUEUED
    line = Move(progress.moves + 1, at, state, owner, f"taken over: {reason}")
    after = replace(
        progress, state=state, owner=owner, takeover=progress.takeover + 1, guardians=holders,
        story=(*progress.story, line),
    )  # fmt: skip
    return after if progress.intent else replace(after, token=None, worker=NodeId(""))


def advance(
    progress: Progress,
    to: State,
    at: float,
    node: NodeId,
    reason: str = "",
    *,
    moves_max: int = 64,
    **changes: object,
) -> Progress:
    """`progress` after the move to `to`, with one more line; `changes` are other fields set with it.

    A story of `moves_max` lines keeps its beginning and its end; the numbers show the gap.
    """
    if to not in LEGAL[progress.state]:
        raise IllegalMove(f"{progress.state} -> {to} ({reason or 'no reason'})\n{tell(progress)}")
    story = progress.story
    number = story[-1].n + 1 if story else 0
    if len(story) >= moves_max:
        head = moves_max // 4
        story = story[:head] + story[len(story) - (moves_max - head - 1) :]
    story = (*story, Move(number, at, to, node, reason))
    return replace(progress, state=to, story=story, **changes)


def tell(progress: Progress) -> str:
    """The story in words, one move a line."""
    lines = [f"{move.n} {move.state} {move.node} {move.reason}".rstrip() for move in progress.story]
    return "\n".join([f"task {progress.task}:", *lines])


def was_on(progress: Progress, node: NodeId) -> bool:
    """Whether an attempt of this task was ever placed on `node`."""
    return progress.worker == node or any(
        move.node == node and move.state is State.PLACED for move in progress.story
    )
