"""What an owner says at the end of a batch: grouped by worker, cut to what one message may carry.

Promises: everything for one worker leaves in the order assign, adopt, end, ask, acknowledge; nothing leaves before
`flush`, so a batch of a thousand events is a handful of messages.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Send
from openclaw.ids import NOBODY, Epoch, NodeId, TaskId, Token
from openclaw.records import Batch, Submission

T = TypeVar("T")

ITEMS_MAX = 1024
_ITEM_OVERHEAD_BYTES = 160

Place = tuple[NodeId, str, Epoch, int]
"""A worker, its boot, and the epoch and number of the grant."""
_Start = tuple[Submission, Token, float]


class Outbox:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.effects: list[Effect] = []
        self._assigns: dict[Place, list[_Start]] = {}
        self._ends: dict[tuple[NodeId, str], dict[tuple[TaskId, Token], None]] = {}
        self._adoptions: dict[NodeId, dict[tuple[TaskId, Token], int]] = {}
        self._asks: dict[NodeId, dict[tuple[TaskId, Token], None]] = {}
        self._acks: dict[NodeId, dict[tuple[TaskId, Token], None]] = {}

    def assign(self, place: Place, submission: Submission, token: Token, runtime_s: float) -> None:
        """`runtime_s`: what its kind took lately, below 0 while that is not known."""
        self._assigns.setdefault(place, []).append((submission, token, runtime_s))

    def end(self, worker: NodeId, task: TaskId, token: Token, reason: str) -> None:
        """An assignment that has not left yet stays here: its worker only hears that it will not come."""
        self.withdraw(worker, task, token)
        self._ends.setdefault((worker, reason), {})[task, token] = None

    def withdraw(self, worker: NodeId, task: TaskId, token: Token) -> None:
        """If its assignment has not left yet, it never does."""
        for place, items in self._assigns.items():
            if place[0] == worker:
                items[:] = [item for item in items if (item[0].task, item[1]) != (task, token)]

    def adopt(self, worker: NodeId, task: TaskId, token: Token, takeover: int) -> None:
        self._adoptions.setdefault(worker, {})[task, token] = takeover

    def spare(self, worker: NodeId, task: TaskId, token: Token) -> None:
        """It counts after all: an end that has not left yet stays here."""
        for (to, _), ends in self._ends.items():
            if to == worker:
                ends.pop((task, token), None)

    def ask(self, worker: NodeId, task: TaskId, token: Token) -> None:
        self._asks.setdefault(worker, {})[task, token] = None

    def acknowledge(self, worker: NodeId, task: TaskId, token: Token) -> None:
        self._acks.setdefault(worker, {})[task, token] = None

    @property
    def waiting(self) -> bool:
        return bool(self._assigns or self._adoptions or self._ends or self._asks or self._acks)

    def flush(self) -> None:
        for place, items in self._assigns.items():
            for message in _assigns(place, items, self._settings):
                self.effects.append(Send(place[0], message))
        for worker, adoptions in self._adoptions.items():
            rows = [(task, token, takeover) for (task, token), takeover in adoptions.items()]
            self.effects.extend(Send(worker, m.Adopt(part)) for part in cut(rows))
        for (worker, reason), ends in self._ends.items():
            self.effects.extend(Send(worker, m.End(part, reason)) for part in cut(list(ends)))
        for worker, asks in self._asks.items():
            self.effects.extend(Send(worker, m.Ask(part)) for part in cut(list(asks)))
        for worker, acks in self._acks.items():
            self.effects.extend(Send(worker, m.OutcomesStored(part)) for part in cut(list(acks)))
        self._assigns, self._adoptions, self._ends, self._asks, self._acks = {}, {}, {}, {}, {}

    def take(self) -> list[Effect]:
        effects, self.effects = self.effects, []
        return effects


def cut(items: list[T]) -> Iterator[tuple[T, ...]]:
    """`items` in parts that one message may carry."""
    for start in range(0, len(items), ITEMS_MAX):
        yield tuple(items[start : start + ITEMS_MAX])


def _assigns(place: Place, work: list[_Start], settings: Settings) -> Iterator[m.Assign]:
    """`work` in messages of bounded size, each signature batch once a message."""
    _, boot, epoch, grant = place
    items: list[m.Item] = []
    batches: dict[bytes, int] = {}
    kept: list[Batch] = []
    size = 0
    for submission, token, runtime_s in work:
        batch = submission.batch
        index = batches.get(batch.signature)
        weight = len(submission.payload) + _ITEM_OVERHEAD_BYTES
        weight += 0 if index is not None else len(batch.leaves) + len(batch.signature)
        if items and (len(items) >= settings.assign_tasks_max or size + weight > settings.assign_bytes_max):
            yield m.Assign(epoch, grant, boot, tuple(kept), tuple(items))
            items, batches, kept, size, index = [], {}, [], 0, None
        if index is None:
            index = batches[batch.signature] = len(kept)
            kept.append(batch)
        size += weight
        items.append(
            m.Item(
                submission.task, token, submission.needs, submission.payload, index, submission.leaf,
                submission.once, NOBODY if submission.submitter == token.owner else submission.submitter, runtime_s,
                submission.no_overlap,
            )
        )  # fmt: skip
    if items:
        yield m.Assign(epoch, grant, boot, tuple(kept), tuple(items))
