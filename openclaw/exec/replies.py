"""A guardian's answers, gathered over a batch and cut to what one message may carry."""

from __future__ import annotations

from openclaw import messages as m
from openclaw.effects import Effect, Send
from openclaw.exec.outbox import cut
from openclaw.ids import Claim, NodeId, TaskId


class Replies:
    def __init__(self) -> None:
        self._guarded: dict[NodeId, dict[TaskId, tuple[Claim, int]]] = {}
        self._superseded: dict[NodeId, dict[TaskId, Claim]] = {}
        self._unguarded: dict[NodeId, dict[TaskId, None]] = {}
        self._released: dict[NodeId, dict[TaskId, int]] = {}

    @property
    def waiting(self) -> bool:
        return bool(self._guarded or self._superseded or self._unguarded or self._released)

    def guarded(self, owner: NodeId, task: TaskId, claim: Claim, moves: int) -> None:
        self._released.get(owner, {}).pop(task, None)
        self._guarded.setdefault(owner, {})[task] = claim, moves

    def superseded(self, to: NodeId, task: TaskId, claim: Claim) -> None:
        self._superseded.setdefault(to, {})[task] = claim

    def unguarded(self, owner: NodeId, task: TaskId) -> None:
        self._unguarded.setdefault(owner, {})[task] = None

    def released(self, owner: NodeId, task: TaskId, number: int) -> None:
        self._guarded.get(owner, {}).pop(task, None)
        self._released.setdefault(owner, {})[task] = number

    def flush(self) -> list[Effect]:
        effects: list[Effect] = []
        for to, guarded in self._guarded.items():
            rows = [(task, claim, moves) for task, (claim, moves) in guarded.items()]
            effects += [Send(to, m.Guarded(part)) for part in cut(rows)]
        for to, superseded in self._superseded.items():
            effects += [Send(to, m.Superseded(part)) for part in cut(list(superseded.items()))]
        for to, unguarded in self._unguarded.items():
            effects += [Send(to, m.Unguarded(part)) for part in cut(list(unguarded))]
        for to, released in self._released.items():
            for number in sorted(set(released.values())):
                tasks = [task for task, asked in released.items() if asked == number]
                effects += [Send(to, m.Released(part, number)) for part in cut(tasks)]
        self._guarded, self._superseded, self._unguarded, self._released = {}, {}, {}, {}
        return effects
