"""A node's disk: one LMDB environment, one transaction per batch of effects.

What `commit` returned from is there after a kill -9 and after a power cut. A store that is damaged, newer
than this program, or out of disk says so with the line that mends it. Beside the tables of the core it keeps
two indexes in the same transactions: `open`, the tasks that a restart must pick up, so that starting does
not read a hundred thousand finished ones; and `order`, the tasks in the order of their submission.
"""

from __future__ import annotations

import errno
import shutil
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb
import msgspec

from openclaw.config import MAP_BYTES_MAX, MAP_BYTES_MIN
from openclaw.effects import Store as Write
from openclaw.errors import BadState, MeshError
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
from openclaw.store_check import damaged, refuse_damage

SCHEMA = 1
ROSTER, MESH = "roster", "mesh"
OPEN, ORDER = "open", "order"
TABLES = (*(table.value for table in Table), ROSTER, MESH, OPEN, ORDER)
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
T = TypeVar("T")
R = TypeVar("R", bound=Record)


class DiskFull(MeshError):
    """Nothing of the batch was written; everything before it is safe."""

    kind = "disk_full"
    exit_code = 125


class Store:
    """One node's environment. Safe to use from several threads: one writes, any read."""

    def __init__(self, path: Path, env: lmdb.Environment, tables: Mapping[str, lmdb._Database]) -> None:
        self._path = path
        self._env = env
        self._tables = tables
        self._writing = threading.Lock()
        self._gate = threading.Condition()
        self._readers = 0
        self._growing = False

    @classmethod
    def open(cls, path: Path, map_bytes: int = MAP_BYTES_MIN) -> Store:
        """Open or create the store in the folder `path`. Raises BadState when it must not be used."""
        data = path / "data.mdb"
        size = refuse_damage(data)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            env = lmdb.open(
                str(path),
                map_size=max(map_bytes, _power_of_two(size)),
                max_dbs=len(TABLES) + 8,
                mode=0o700,
                metasync=True,
                sync=True,
                writemap=False,
            )
        except (OSError, lmdb.Error) as error:
            raise _refusal(path, error) from error
        try:
            env.reader_check()
            store = cls(path, env, {})
            store._tables = store._write(
                lambda txn: {name: env.open_db(name.encode(), txn) for name in TABLES}
            )
            store._settle_schema()
        except BaseException:
            env.close()
            raise
        return store

    def close(self) -> None:
        with self._writing, self._gate:
            self._env.close()

    # --- the core's tables -----------------------------------------------------------------------

    def commit(self, effects: Sequence[Write]) -> None:
        """All of it or nothing, durably. The last write of a key wins."""
        last = {(effect.table, effect.key): effect.value for effect in effects}
        encode = msgspec.msgpack.Encoder().encode
        rows = [
            (table, key.encode(), value, b"" if value is None else encode(value))
            for (table, key), value in last.items()
        ]
        self._write(lambda txn: self._put_all(txn, rows))

    def restored(self) -> Restored:
        """What a starting node must know: its counters, and the tasks that are not over.

        `counts` has the final ones alone; the others are all there to be counted.
        """
        with self._reading() as txn:
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
        with self._reading() as txn:
            return self._task(txn, task.encode())

    def find(self, prefix: str, limit: int = 10) -> list[TaskId]:
        """The tasks whose id, or its short form, is `prefix`; else those where it begins with it."""
        head, dash, tail = prefix.partition("-")
        found: list[TaskId] = []
        with self._reading() as txn:
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
        with self._reading() as txn:
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
        return shutil.disk_usage(self._path).free

    # --- rows of bytes, for trust ----------------------------------------------------------------

    def rows(self, table: str) -> dict[str, bytes]:
        with self._reading() as txn:
            return {key.decode(): value for key, value in self._cursor(txn, table)}

    def count(self, table: str) -> int:
        """How many rows a table has."""
        with self._reading() as txn:
            return int(txn.stat(self._tables[table])["entries"])

    def put_rows(self, rows: Mapping[tuple[str, str], bytes | None]) -> None:
        def put(txn: lmdb.Transaction) -> None:
            for (table, key), value in rows.items():
                if value is None:
                    txn.delete(key.encode(), db=self._tables[table])
                else:
                    txn.put(key.encode(), value, db=self._tables[table])

        self._write(put)

    # --- inside a transaction --------------------------------------------------------------------

    def _put_all(
        self, txn: lmdb.Transaction, rows: Iterable[tuple[Table, bytes, Record | None, bytes]]
    ) -> None:
        finals: dict[str, int] = {}
        for table, key, value, data in rows:
            if table is Table.PROGRESS:
                self._index_progress(txn, key, value, finals)
            elif table is Table.TASKS:
                self._index_task(txn, key, value)
            if value is None:
                txn.delete(key, db=self._tables[table])
            else:
                txn.put(key, data, db=self._tables[table])
        if any(finals.values()):
            counts = self._final_counts(txn)
            for state, change in finals.items():
                counts[state] = counts.get(state, 0) + change
            txn.put(b"final_counts", msgspec.msgpack.encode(counts), db=self._tables[Table.META])

    def _index_progress(
        self, txn: lmdb.Transaction, key: bytes, value: Record | None, finals: dict[str, int]
    ) -> None:
        """Keep `open` true, and note in `finals` what this row changes in the counts of final tasks."""
        index = self._tables[OPEN]
        before = txn.get(key, db=index)
        if before is None:
            row = self._get(txn, Table.PROGRESS, key, Progress)
            before = row.state.value.encode() if row is not None and row.state.final else b""
        after = b""
        if isinstance(value, Progress):
            after = value.state.value.encode() if value.state.final else b""
        if isinstance(value, Progress) and not (value.state.final and value.fetched):
            txn.put(key, after, db=index)
        else:
            txn.delete(key, db=index)
        if bytes(before) != after:
            for state, change in ((bytes(before), -1), (after, 1)):
                if state:
                    finals[state.decode()] = finals.get(state.decode(), 0) + change

    def _index_task(self, txn: lmdb.Transaction, key: bytes, value: Record | None) -> None:
        before = self._get(txn, Table.TASKS, key, Submission)
        if before is not None:
            txn.delete(_order_key(before), db=self._tables[ORDER])
        if isinstance(value, Submission):
            txn.put(_order_key(value), key, db=self._tables[ORDER])
            if before is None and txn.get(key, db=self._tables[Table.PROGRESS]) is None:
                txn.put(key, b"", db=self._tables[OPEN])
        else:
            txn.delete(key, db=self._tables[OPEN])

    def _settle_schema(self) -> None:
        with self._reading() as txn:
            found = self._number(txn, b"schema")
        if found > SCHEMA:
            raise BadState(
                f"the store in {self._path} was written by a newer version (schema {found}, this one reads up "
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

    # --- transactions ----------------------------------------------------------------------------

    def _write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Run `work` in a transaction; when the map is full, grow it and run all of it again."""
        with self._writing:
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise _refusal(self._path, error) from error

    def _grow(self) -> None:
        """Twice the map. Growing it would pull it from under a reader, so it waits until there is none."""
        size = self._env.info()["map_size"] * 2
        if size > MAP_BYTES_MAX:
            raise DiskFull(
                f"the store in {self._path} has reached its limit of {MAP_BYTES_MAX} bytes; "
                "delete old tasks or keep fewer results"
            )
        with self._gate:
            self._growing = True
            self._gate.wait_for(lambda: self._readers == 0)
            try:
                self._env.set_mapsize(size)
            finally:
                self._growing = False
                self._gate.notify_all()

    @contextmanager
    def _reading(self) -> Iterator[lmdb.Transaction]:
        with self._gate:
            self._gate.wait_for(lambda: not self._growing)
            self._readers += 1
        try:
            with self._env.begin() as txn:
                yield txn
        except lmdb.Error as error:
            raise _refusal(self._path, error) from error
        finally:
            with self._gate:
                self._readers -= 1
                if self._growing:
                    self._gate.notify_all()


def _refusal(path: Path, error: OSError | lmdb.Error) -> MeshError:
    """The same trouble, for people."""
    if isinstance(error, DAMAGE):
        return damaged(path, str(error))
    number = error.errno if isinstance(error, OSError) else error.code
    if number in FULL_ERRNOS or isinstance(error, lmdb.DiskError):
        return DiskFull(
            f"the disk under {path} is full: nothing of this was written, what was accepted before is safe. "
            f"Free some space there: df -h {path}"
        )
    if isinstance(error, lmdb.LockError) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadState(f"cannot write to {path} ({error}). Mend it: chmod -R u+rwX {path}")
    return BadState(f"the store in {path} does not open: {error}")


def _decode(value: bytes, row_type: type[R]) -> R:
    try:
        return msgspec.msgpack.decode(value, type=row_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise lmdb.CorruptedError(f"a {row_type.__name__} that cannot be read: {error}") from error


def _order_key(submission: Submission) -> bytes:
    return struct.pack(">Q", max(0, int(submission.submitted * 1e6))) + submission.task.encode()


def _power_of_two(size: int) -> int:
    return 1 << max(0, (2 * size - 1).bit_length()) if size else 0
