"""What an owner has been asked to accept, and has not accepted yet: it waits for the guardian's disk.

Promises: an acceptance names the guardian only when that has all of the batch; it comes once, and at the latest when
the guardian has been silent for too long, or there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.exec.ledger import Ledger
from openclaw.ids import NodeId, TaskId
from openclaw.notes import Accepted


@dataclass(slots=True, eq=False)
class _Promise:
    """A batch of submissions. `left` are those whose copy is not confirmed yet."""

    tasks: tuple[TaskId, ...]
    left: set[TaskId]
    keepers: set[NodeId] = field(default_factory=set)  # who has some of them


class Promises:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: dict[TaskId, _Promise] = {}

    def make(self, tasks: tuple[TaskId, ...], left: set[TaskId], now: float) -> None:
        """Accept `tasks` when the guardian has those that are `left`, or has been silent for too long."""
        promise = _Promise(tasks, left)
        if not left:
            self._accept(promise)
            return
        self._open |= dict.fromkeys(left, promise)
        self._ledger.timers.set(now + self._ledger.settings.guard_wait_s, "promise", tasks[0])

    def kept(self, task: TaskId, keeper: NodeId) -> None:
        promise = self._open.pop(task, None)
        if promise is not None:
            promise.left.discard(task)
            promise.keepers.add(keeper)
            if not promise.left:
                self._accept(promise)

    def overdue(self, task: TaskId) -> None:
        """The guardian is silent: the acceptance says that there is no copy yet."""
        for promise in self._all():
            if promise.tasks[0] == task:
                self._accept(promise)

    def sweep(self) -> None:
        """There is no guardian."""
        for promise in self._all():
            self._accept(promise)

    def _all(self) -> list[_Promise]:
        return list({id(promise): promise for promise in self._open.values()}.values())

    def _accept(self, promise: _Promise) -> None:
        for task in promise.left:
            self._open.pop(task, None)
        guardian = self._ledger.guardian
        kept = not promise.left and all(self._kept(task) for task in promise.tasks)
        if not promise.keepers <= {guardian}:
            kept = False  # some were over before the guardian changed: no one node has all of them
        guardians = (guardian,) if kept and guardian is not None else ()
        self._ledger.out.effects.append(Accepted(promise.tasks, guardians))

    def _kept(self, task: TaskId) -> bool:
        """Whether it is at the guardian. What is over already has been."""
        entry = self._ledger.tasks.get(task)
        return entry is None or entry.kept_moves >= 0
