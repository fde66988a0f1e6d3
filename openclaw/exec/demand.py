"""An owner's queue, by class: tasks with equal needs, priority and job are one row to the leader.

Promises: first come, first served within a class; 100,000 equal tasks are one row; every operation on a task
takes constant time.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from heapq import nsmallest

from openclaw.ids import TaskId
from openclaw.messages import DemandRow
from openclaw.records import Needs, Submission

_EWMA_WEIGHT = 0.2
_NOTABLE = 2.0
_ROW_OVERHEAD_BYTES = 48
_WORD_OVERHEAD_BYTES = 3


@dataclass(slots=True, eq=False)
class Row:
    """One class. `runtime_s` is a moving average of what such tasks took, -1 while unknown."""

    number: int
    needs: Needs
    priority: int
    job: str
    weight: int  # about how many bytes it is in a message
    runtime_s: float = -1.0
    told_s: float = -1.0  # what the leader was told of it
    since_s: float = 0.0  # when one of them got a place last, or the first began to wait
    tasks: OrderedDict[TaskId, None] = field(default_factory=OrderedDict)


class Demands:
    """All rows of one owner."""

    def __init__(self, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max
        self._classes_max = 2 * rows_max  # from here on, classes that are empty are forgotten
        self._by_class: dict[tuple[Needs, int, str], Row] = {}
        self._live: dict[int, Row] = {}
        self._number = 0
        self.queued = 0
        self.changed = False  # in a way that the leader cannot know

    def row_of(self, submission: Submission) -> Row:
        key = (submission.needs, submission.priority, submission.job)
        row = self._by_class.get(key)
        if row is None:
            if len(self._by_class) >= self._classes_max:
                self._by_class = {k: r for k, r in self._by_class.items() if r.tasks}
                self._classes_max = 2 * max(len(self._by_class), self._rows_max)
            self._number += 1
            row = self._by_class[key] = Row(self._number, *key, weight(submission.needs, submission.job))
        return row

    def push(self, task: TaskId, row: Row, now: float, *, front: bool = False) -> None:
        if not row.tasks:
            row.since_s = now
        row.tasks[task] = None
        if front:
            row.tasks.move_to_end(task, last=False)
        self._live[row.number] = row
        self.queued += 1
        self.changed = True

    def remove(self, task: TaskId, row: Row) -> None:
        """Take `task` out of the middle: cancelled, or finished elsewhere."""
        del row.tasks[task]
        self.queued -= 1
        self.changed = True
        if not row.tasks:
            del self._live[row.number]

    def take(self, number: int, count: int, now: float) -> list[TaskId]:
        """Up to `count` tasks of row `number`, oldest first, for places that the leader granted."""
        row = self._live.get(number)
        if row is None:
            return []
        taken = [row.tasks.popitem(last=False)[0] for _ in range(min(count, len(row.tasks)))]
        self.queued -= len(taken)
        row.since_s = now if taken else row.since_s
        if not row.tasks:
            del self._live[number]
        return taken

    def rows(self) -> list[Row]:
        """Rows with tasks, most urgent first, at most as many as one message may carry."""
        if len(self._live) <= self._rows_max:
            return sorted(self._live.values(), key=_urgency)
        return nsmallest(self._rows_max, self._live.values(), key=_urgency)

    def ran(self, row: Row, runtime_s: float) -> None:
        """A task of `row` took so long. The leader hears of it when it makes a difference to run-ahead."""
        known = row.runtime_s >= 0
        row.runtime_s = row.runtime_s + _EWMA_WEIGHT * (runtime_s - row.runtime_s) if known else runtime_s
        far = row.runtime_s > _NOTABLE * row.told_s or row.runtime_s < row.told_s / _NOTABLE
        if far and row.tasks:
            self.changed = True

    def table(self, now: float) -> tuple[DemandRow, ...]:
        """The demand as the leader is told now: all of it, or what is most urgent and fits into a message."""
        rows = self.rows()
        total = sum(row.weight for row in rows)
        while len(rows) > 1 and total > self._bytes_max:
            total -= rows.pop().weight
        for row in rows:
            row.told_s = row.runtime_s
        return tuple(
            DemandRow(
                r.number, r.needs, len(r.tasks), r.priority, r.runtime_s, r.job, max(0.0, now - r.since_s)
            )
            for r in rows
        )


def weight(needs: Needs, job: str) -> int:
    """About how many bytes a row of this class is in a message, rather too many."""
    words = [
        needs.node,
        needs.handler,
        job,
        *needs.skills,
        *(word for label in needs.labels for word in label),
    ]
    return _ROW_OVERHEAD_BYTES + sum(len(word.encode()) + _WORD_OVERHEAD_BYTES for word in words)


def _urgency(row: Row) -> tuple[int, int]:
    return -row.priority, row.number
