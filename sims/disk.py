"""A simulated disk: a batch is on it whole or not at all, and a crash loses what was not committed.

Commits are synced, as the real store's are: what was committed outlives a power cut. A full disk refuses some
batches and takes others, as LMDB does while it still has free pages of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from openclaw.effects import Store
from openclaw.ids import NO_EPOCH, Epoch, NodeId, TaskId, Token
from openclaw.records import (
    Attempt,
    Copy,
    Counts,
    EpochRow,
    Number,
    Progress,
    Record,
    Restored,
    State,
    Submission,
    Table,
)

_SHOWN_AS = {State.RETRYING: State.QUEUED, State.CANCELLING: State.RUNNING}


class Full(Exception):
    """Nothing of the batch was written; everything before it is safe."""


class Disk:
    """`full` and `stalled` count the troubles of each kind that are on it. `outputs` are files of tasks' outputs."""

    def __init__(self) -> None:
        self.full = 0
        self.stalled = 0
        self.outputs: set[tuple[TaskId, Token]] = set()
        self._rows: dict[Table, dict[str, Record]] = {table: {} for table in Table}

    def commit(self, stores: Sequence[Store]) -> None:
        for store in stores:
            if store.value is None:
                self._rows[store.table].pop(store.key, None)
            else:
                self._rows[store.table][store.key] = store.value

    def copy(self) -> Disk:
        """What is on it now, on another disk that works."""
        copy = Disk()
        copy.outputs = set(self.outputs)
        copy._rows = {table: dict(rows) for table, rows in self._rows.items()}
        return copy

    def revert(self, backup: Disk) -> None:
        """Everything since the backup is gone."""
        self.outputs = set(backup.outputs)
        self._rows = {table: dict(rows) for table, rows in backup._rows.items()}

    def make_room(self) -> None:
        self.full -= 1

    @property
    def epoch(self) -> Epoch:
        row = self._rows[Table.META].get("epoch")
        return row.epoch if isinstance(row, EpochRow) else NO_EPOCH

    def number(self, key: str) -> int:
        row = self._rows[Table.META].get(key)
        return row.value if isinstance(row, Number) else 0

    def submission(self, task: TaskId) -> Submission | None:
        row = self._rows[Table.TASKS].get(task)
        return row if isinstance(row, Submission) else None

    def progress(self, task: TaskId) -> Progress | None:
        row = self._rows[Table.PROGRESS].get(task)
        return row if isinstance(row, Progress) else None

    def attempt(self, task: TaskId) -> Attempt | None:
        row = self._rows[Table.ATTEMPTS].get(task)
        return row if isinstance(row, Attempt) else None

    def copy_of(self, task: TaskId) -> Copy | None:
        """What it has of a task of another owner."""
        row = self._rows[Table.RESULTS].get(task) or self._rows[Table.COPIES].get(task)
        return row if isinstance(row, Copy) else None

    def ends(self, tasks: Sequence[TaskId]) -> tuple[Copy, ...]:
        found = []
        for task in tasks:
            submission, progress = self.submission(task), self.progress(task)
            own = Copy(submission, progress) if submission is not None and progress is not None else None
            copy = own or self.copy_of(task)
            if copy is not None and copy.progress.state.final:
                found.append(copy)
        return tuple(found)

    def tasks(self) -> list[Progress]:
        return [row for row in self._rows[Table.PROGRESS].values() if isinstance(row, Progress)]

    def restored(self) -> Restored:
        """What a node that starts on this disk is given."""
        unfinished = [row for row in self.tasks() if not row.over]
        there = [(self.submission(row.task), row) for row in unfinished]
        pairs = [(submission, row) for submission, row in there if submission is not None]
        pairs.sort(key=lambda pair: (pair[0].submitted, pair[0].task))
        states = Counter(_SHOWN_AS.get(row.state, row.state).value for row in self.tasks())
        return Restored(
            incarnation=self.number("incarnation"),
            epoch=self.epoch,
            meta_version=self.number("meta_version"),
            counts=Counts(**{name: states[name] for name in Counts.__struct_fields__}),
            submissions=tuple(submission for submission, _ in pairs),
            progress=tuple(row for _, row in pairs),
            attempts=tuple(row for row in self._rows[Table.ATTEMPTS].values() if isinstance(row, Attempt)),
            copies=tuple(row for row in self._rows[Table.COPIES].values() if isinstance(row, Copy)),
            heard=tuple(
                (NodeId(key.removeprefix("heard:")), float(row.value))
                for key, row in self._rows[Table.META].items()
                if key.startswith("heard:") and isinstance(row, Number)
            ),
        )
