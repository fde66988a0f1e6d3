"""What a worker has to say at the end of a batch, to owners and to the leader.

Promises: a handful of messages for a batch of any size; the leader hears of a changed load at once, but not
more often than the gap allows, and now and then in any case.
"""

from __future__ import annotations

from typing import TypeVar

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Rng, Send
from openclaw.exec.outbox import ITEMS_MAX
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.messages import Holding, Refused
from openclaw.notes import LoadChanged
from openclaw.records import Size

T = TypeVar("T")

_TAKEN_MAX = 4096


class News:
    def __init__(self, me: NodeId, boot: str, settings: Settings, rng: Rng) -> None:
        self._me = me
        self._boot = boot
        self._settings = settings
        self._rng = rng
        self._started: dict[NodeId, dict[tuple[TaskId, Token], float]] = {}
        self._returned: dict[NodeId, list[Refused]] = {}
        self._have: dict[NodeId, list[tuple[TaskId, Token, Holding]]] = {}
        self._rooms: list[Effect] = []
        self._sought: list[Effect] = []
        self._leader: Epoch | None = None
        self._taken: dict[tuple[NodeId, int], int] = {}
        self._taken_back = 0
        self._load: LoadChanged | None = None
        self._reported: tuple[LoadChanged, Size, int, bool] | None = None
        self._report_from_s = 0.0
        self._report_due_s: float | None = None

    def started(self, owner: NodeId, task: TaskId, token: Token, at: float) -> None:
        self._started.setdefault(owner, {})[task, token] = at

    def ended(self, owner: NodeId, task: TaskId, token: Token) -> None:
        """Its outcome says when it started: that need not be told apart."""
        self._started.get(owner, {}).pop((task, token), None)

    def returned(
        self, owner: NodeId, task: TaskId, token: Token, reason: str, *, taken_back: bool = False
    ) -> None:
        self._taken_back += taken_back
        self._returned.setdefault(owner, []).append(Refused(task, token, reason, taken_back))

    def have(self, owner: NodeId, task: TaskId, token: Token, holding: Holding) -> None:
        self._have.setdefault(owner, []).append((task, token, holding))

    def found(self, asker: NodeId, message: m.Found) -> None:
        self._sought.append(Send(asker, message))

    def room(self, asker: NodeId, seq: int, load: int, free: int) -> None:
        self._rooms.append(Send(asker, m.Room(seq, self._boot, load, free)))

    def took(self, owner: NodeId, assign: m.Assign, count: int) -> None:
        """`count` places of a grant are used up; those of a former leader nobody counts any more."""
        if assign.grant and assign.epoch == self._leader and len(self._taken) < _TAKEN_MAX:
            key = (owner, assign.grant)
            self._taken[key] = self._taken.get(key, 0) + count

    def follow(self, epoch: Epoch | None, now: float) -> None:
        self._leader = epoch
        self._taken.clear()
        self._taken_back = 0
        self._reported = None
        self._report_from_s = now
        self._report_due_s = None if epoch is None else now

    def next(self) -> float | None:
        return self._report_due_s

    def flush(
        self, now: float, load: LoadChanged, taken: Size, slots: int, *, draining: bool
    ) -> list[Effect]:
        """`taken` is what all that runs and waits takes together."""
        effects, self._rooms, self._sought = [*self._rooms, *self._sought], [], []
        for owner, returned in self._returned.items():
            effects += [Send(owner, m.Returned(tuple(part))) for part in _parts(returned)]
        for owner, have in self._have.items():
            effects += [Send(owner, m.Have(self._boot, tuple(part))) for part in _parts(have)]
        for owner, started in self._started.items():
            rows = [(task, token, at) for (task, token), at in started.items()]
            effects += [Send(owner, m.Started(tuple(part))) for part in _parts(rows)]
        self._returned, self._have, self._started = {}, {}, {}
        if load != self._load:
            self._load = load
            effects.append(load)
        return effects + self._report(now, load, taken, slots, draining)

    def _report(self, now: float, load: LoadChanged, size: Size, slots: int, draining: bool) -> list[Effect]:
        if self._leader is None:
            return []
        state = (load, size, slots, draining)
        due = self._report_due_s is not None and self._report_due_s <= now
        if not due and state == self._reported and not self._taken:
            return []
        if now < self._report_from_s:
            self._report_due_s = self._report_from_s
            return []
        taken = tuple((owner, grant, count) for (owner, grant), count in self._taken.items())
        self._taken.clear()
        back, self._taken_back = self._taken_back, 0
        self._reported = state
        self._report_from_s = now + self._settings.report_gap_s_min
        # Spread over the period, so that a thousand workers do not speak in chorus.
        self._report_due_s = now + self._settings.report_every_s * (0.9 + 0.2 * self._rng.random())
        report = m.Report(
            self._leader, self._boot, slots, load.running, load.queued, draining, taken, size, back
        )
        return [Send(self._leader.node, report)]


def _parts(items: list[T]) -> list[list[T]]:
    return [items[start : start + ITEMS_MAX] for start in range(0, len(items), ITEMS_MAX)]
