"""A node's disk: one LMDB environment, one transaction per batch of effects.

What `commit` returned from is there after a kill -9 and after a power cut. A store that is damaged, newer
than this program, or out of disk says so with the line that mends it. Beside the tables of the core it keeps
two indexes in the same transactions: `open`, the tasks that a restart must pick up, so that starting does
not read a hundred thousand finished ones; and `order`, the tasks in the order of their submission.
"""

from __future__ import annotations

import shutil
import struct
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import lmdb
import msgspec

from openclaw.config import MAP_BYTES_MIN
from openclaw.effects import Store as Write
from openclaw.errors import BadState
from openclaw.ids import NODE_ID_CHARS, TaskId, short
from openclaw.records import (
    Attempt,
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
from openclaw.store_env import Environment

SCHEMA = 1
ROSTER, MESH = "roster", "mesh"
OPEN, ORDER = "open", "order"
TABLES = (*(table.value for table in Table), ROSTER, MESH, OPEN, ORDER)
R = TypeVar("R", bound=Record)


class Row(NamedTuple):
    """What is to stand in a row, as it is and encoded; None deletes it."""

    value: Record | None
    data: bytes | None


class Store:
    """One node's environment. Safe to use from several threads: one writes, any read."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._tables = env.tables(TABLES)

    @classmethod
    def open(cls, path: Path, map_bytes: int = MAP_BYTES_MIN) -> Store:
        """Open or create the store in the folder `path`. Raises BadState when it must not be used."""
        env = Environment.open(path, map_bytes, len(TABLES) + 8)
        try:
            store = cls(env)
            store._settle_schema()
        except BaseException:
            env.close()
            raise
        return store

    def close(self) -> None:
        self._env.close()

    # --- the core's tables -----------------------------------------------------------------------

    def commit(self, effects: Sequence[Write]) -> None:
        """All of it or nothing, durably. The last write of a key wins."""
        last = {(effect.table, effect.key): effect.value for effect in effects}
        encode = msgspec.msgpack.Encoder().encode
        rows = {
            (table, key.encode()): Row(value, None if value is None else encode(value))
            for (table, key), value in last.items()
        }
        self._env.write(lambda txn: self._put_all(txn, rows))

    def restored(self) -> Restored:
        """What a starting node must know: its counters, and the tasks that are not over.

        `counts` has the final ones alone; the others are all there to be counted.
        """
        with self._env.reading() as txn:
            ids = [key for key, _ in self._cursor(txn, OPEN)]
            submissions = [self._get(txn, Table.TASKS, key, Submission) for key in ids]
            progress = [self._get(txn, Table.PROGRESS, key, Progress) for key in ids]
            attempts = tuple(_decode(value, Attempt) for _, value in self._cursor(txn, Table.ATTEMPTS))
            epoch = self._get(txn, Table.META, b"epoch", EpochRow)
            counts = Counts(**self._final_counts(txn))
            numbers = {name: self._number(txn, name) for name in (b"incarnation", b"meta_version")}
        pairs = [
            (submission, there or Progress(submission.task, State.QUEUED))
            for submission, there in zip(submissions, progress, strict=True)
            if submission is not None
        ]
        pairs.sort(key=lambda pair: (pair[0].submitted, pair[0].task))
        return Restored(
            incarnation=numbers[b"incarnation"],
            epoch=epoch.epoch if epoch is not None else Restored().epoch,
            meta_version=numbers[b"meta_version"],
            counts=counts,
            submissions=tuple(submission for submission, _ in pairs),
            progress=tuple(there for _, there in pairs),
            attempts=attempts,
        )

    def task(self, task: TaskId) -> tuple[Submission, Progress] | None:
        with self._env.reading() as txn:
            return self._task(txn, task.encode())

    def find(self, prefix: str, limit: int = 10) -> list[TaskId]:
        """The tasks whose id, or its short form, is `prefix`; else those where it begins with it."""
        head, dash, tail = prefix.partition("-")
        found: list[TaskId] = []
        with self._env.reading() as txn:
            cursor = txn.cursor(self._tables[Table.TASKS])
            there = cursor.set_range(head.encode()) if head else cursor.first()
            while there and len(found) < limit and (key := bytes(cursor.key())).startswith(head.encode()):
                owner = key[:NODE_ID_CHARS]
                wanted = owner + (b"-" + tail.encode() if dash else b"")
                there = cursor.set_range(wanted)
                while there and len(found) < limit and (key := bytes(cursor.key())).startswith(wanted):
                    found.append(TaskId(key.decode()))
                    there = cursor.next()
                there = cursor.set_range(owner + b"\xff")
        return [task for task in found if prefix in (task, short(task))] or found

    def tasks(
        self, limit: int, state: State | None = None, newest_first: bool = True
    ) -> list[tuple[Submission, Progress]]:
        """Up to `limit` tasks by the time of their submission."""
        found: list[tuple[Submission, Progress]] = []
        with self._env.reading() as txn:
            cursor = txn.cursor(self._tables[ORDER])
            keys = (
                cursor.iterprev(keys=False, values=True)
                if newest_first
                else cursor.iternext(keys=False, values=True)
            )
            for key in keys:
                if len(found) >= limit:
                    break
                task = self._task(txn, bytes(key))
                if task is not None and state in (None, task[1].state):
                    found.append(task)
        return found

    def free_bytes(self) -> int:
        """What the disk under the store still holds."""
        return shutil.disk_usage(self._env.path).free

    # --- rows of bytes, for trust ----------------------------------------------------------------

    def rows(self, table: str) -> dict[str, bytes]:
        with self._env.reading() as txn:
            return {key.decode(): value for key, value in self._cursor(txn, table)}

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self._env.reading() as txn:
            return int(txn.stat(self._tables[table])["entries"])

    def put_rows(self, rows: Mapping[tuple[str, str], bytes | None]) -> None:
        def put(txn: lmdb.Transaction) -> None:
            for (table, key), value in rows.items():
                if value is None:
                    txn.delete(key.encode(), db=self._tables[table])
                else:
                    txn.put(key.encode(), value, db=self._tables[table])

        self._env.write(put)

    # --- inside a transaction --------------------------------------------------------------------

    def _put_all(self, txn: lmdb.Transaction, rows: Mapping[tuple[Table, bytes], Row]) -> None:
        """Every operation gives up the interpreter's lock and may wait for it again, so there are few a row."""
        finals: Counter[State] = Counter()
        for (table, key), row in rows.items():
            before = self._exchange(txn, table, key, row.data)
            if table is Table.PROGRESS:
                self._index_progress(txn, key, before, row.value, finals)
            elif table is Table.TASKS and (before is None) != (row.value is None):
                self._index_task(txn, key, before, row.value, (Table.PROGRESS, key) in rows)
        if any(finals.values()):
            counts = Counter(self._final_counts(txn))
            counts.update({state.value: change for state, change in finals.items()})
            txn.put(b"final_counts", msgspec.msgpack.encode(dict(counts)), db=self._tables[Table.META])

    def _exchange(self, txn: lmdb.Transaction, table: Table, key: bytes, data: bytes | None) -> bytes | None:
        """Put or delete a row, and give back what was there where an index hangs on it."""
        database = self._tables[table]
        if table not in (Table.TASKS, Table.PROGRESS):
            _ = txn.delete(key, db=database) if data is None else txn.put(key, data, db=database)
            return None
        before = txn.pop(key, db=database) if data is None else txn.replace(key, data, db=database)
        return None if before is None else bytes(before)

    def _index_progress(
        self,
        txn: lmdb.Transaction,
        key: bytes,
        before: bytes | None,
        after: Record | None,
        finals: Counter[State],
    ) -> None:
        """Keep `open` true, and note in `finals` what this row changes in the counts of final tasks."""
        old = None if before is None else _decode(before, Progress)
        new = after if isinstance(after, Progress) else None
        for progress, change in ((old, -1), (new, 1)):
            if progress is not None and progress.state.final:
                finals[progress.state] += change
        if new is not None and not _over(new):
            if old is None or _over(old):
                txn.put(key, b"", db=self._tables[OPEN])
        elif old is None or not _over(old):
            txn.delete(key, db=self._tables[OPEN])

    def _index_task(
        self,
        txn: lmdb.Transaction,
        key: bytes,
        before: bytes | None,
        after: Record | None,
        progress_follows: bool,
    ) -> None:
        """Keep `order` true; a submission never changes, so only its coming and going matters."""
        if before is not None:
            txn.delete(_order_key(_decode(before, Submission)), db=self._tables[ORDER])
            txn.delete(key, db=self._tables[OPEN])
        elif isinstance(after, Submission):
            txn.put(_order_key(after), key, db=self._tables[ORDER])
            if not progress_follows and txn.get(key, db=self._tables[Table.PROGRESS]) is None:
                txn.put(key, b"", db=self._tables[OPEN])

    def _settle_schema(self) -> None:
        with self._env.reading() as txn:
            found = self._number(txn, b"schema")
        if found > SCHEMA:
            raise BadState(
                f"the store in {self._env.path} was written by a newer version (schema {found}, this one reads up "
                f"to {SCHEMA}). Upgrade this installation: pip install --upgrade openclaw-mesh"
            )
        if found < SCHEMA:
            self.commit([Write(Table.META, "schema", Number(SCHEMA))])

    def _task(self, txn: lmdb.Transaction, key: bytes) -> tuple[Submission, Progress] | None:
        submission = self._get(txn, Table.TASKS, key, Submission)
        if submission is None:
            return None
        progress = self._get(txn, Table.PROGRESS, key, Progress)
        return submission, progress or Progress(submission.task, State.QUEUED)

    def _get(self, txn: lmdb.Transaction, table: str, key: bytes, row_type: type[R]) -> R | None:
        value = txn.get(key, db=self._tables[table])
        return None if value is None else _decode(bytes(value), row_type)

    def _number(self, txn: lmdb.Transaction, key: bytes) -> int:
        row = self._get(txn, Table.META, key, Number)
        return 0 if row is None else row.value

    def _final_counts(self, txn: lmdb.Transaction) -> dict[str, int]:
        value = txn.get(b"final_counts", db=self._tables[Table.META])
        return {} if value is None else msgspec.msgpack.decode(value, type=dict[str, int])

    def _cursor(self, txn: lmdb.Transaction, table: str) -> Iterator[tuple[bytes, bytes]]:
        for key, value in txn.cursor(self._tables[table]):
            yield bytes(key), bytes(value)


def _decode(value: bytes, row_type: type[R]) -> R:
    try:
        return msgspec.msgpack.decode(value, type=row_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise lmdb.CorruptedError(f"a {row_type.__name__} that cannot be read: {error}") from error


def _over(progress: Progress) -> bool:
    """Whether a restart has nothing left to do for the task."""
    return progress.state.final and progress.fetched


def _order_key(submission: Submission) -> bytes:
    return struct.pack(">Q", max(0, int(submission.submitted * 1e6))) + submission.task.encode()
