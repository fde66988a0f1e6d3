"""A node's disk: one LMDB environment, one transaction per batch of effects.

What `commit` returned from is there after a kill -9 and after a power cut. A store that is damaged, newer
than this program, or out of disk says so with the line that mends it; an older one is copied, the copy is read
whole, and then it is brought up to this version in one transaction.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path

import lmdb
import msgspec

from openclaw.config import MAP_BYTES_MIN
from openclaw.effects import Store as Write
from openclaw.errors import BadState
from openclaw.ids import NODE_ID_CHARS, NodeId, TaskId, short
from openclaw.records import (
    Attempt,
    Copy,
    Counts,
    Ended,
    EpochRow,
    Number,
    Progress,
    Restored,
    State,
    Submission,
    Table,
)
from openclaw.store_check import damaged
from openclaw.store_env import DATA, Environment
from openclaw.store_rows import (
    AS_INPUT,
    INDEXES,
    NAMED,
    OPEN,
    ORDER,
    SHA256_CHARS,
    Row,
    Rows,
    decode,
    order_prefix,
)
from openclaw.store_verify import Problem, problems

SCHEMA = 2  # 1 had no index of the files that tasks name
ROSTER, MESH = "roster", "mesh"
SCHEMA = 2  # 1 had no index of the files that tasks name
ROSTER, MESH = "roster", "mesh"
HEARD = b"heard:"
TABLES = (*(table.value for table in Table), ROSTER, MESH, *INDEXES)


class Need(Enum):
    """Why a file by content must stay: an open task needs it, or a kept one left it."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Store:
    """One node's environment. Safe to use from several threads: one writes, any read."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._tables = env.tables(TABLES)
        self._rows = Rows(self._tables)
        self.migrated_from: Path | None = None  # the copy of what was there before

    @classmethod
    def open(cls, path: Path, map_bytes: int = MAP_BYTES_MIN, *, power_lost: bool = False) -> Store:
        """Open or create the store in the folder `path`. Raises BadState when it must not be used.

        After a machine has died with it open (`power_lost`) all of it is read first, by another process.
        """
        env = Environment.open(path, map_bytes, power_lost=power_lost)
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
        self._env.write(lambda txn: self._rows.put(txn, rows))

    def restored(self) -> Restored:
        """What a starting node must know: its counters, and the tasks that are not over.

        `counts` has the final ones alone; the others are all there to be counted.
        """
        with self._env.reading() as txn:
            ids = [key for key, _ in self._rows.items(txn, OPEN)]
            submissions = [self._rows.get(txn, Table.TASKS, key, Submission) for key in ids]
            progress = [self._rows.get(txn, Table.PROGRESS, key, Progress) for key in ids]
            attempts = tuple(decode(value, Attempt) for _, value in self._rows.items(txn, Table.ATTEMPTS))
            epoch = self._rows.get(txn, Table.META, b"epoch", EpochRow)
            counts = Counts(**self._rows.final_counts(txn))
            numbers = {name: self._number(txn, name) for name in (b"incarnation", b"meta_version")}
            copies = tuple(decode(value, Copy) for _, value in self._rows.items(txn, Table.COPIES))
            heard = tuple(self._heard(txn))
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
            copies=copies,
            heard=heard,
        )

    def copy(self, task: TaskId) -> Copy | None:
        """What this node keeps of another owner's task, over or not."""
        with self._env.reading() as txn:
            return self._copy(txn, task.encode())

    def copies(self, limit: int) -> list[Copy]:
        """Up to `limit` copies of other owners' tasks, those that are not over first."""
        found: list[Copy] = []
        with self._env.reading() as txn:
            for table in (Table.COPIES, Table.RESULTS):
                for _, value in self._rows.items(txn, table):
                    if len(found) >= limit:
                        return found
                    found.append(decode(value, Copy))
        return found

    def forget_results(self, finished_until: float, limit: int) -> list[TaskId]:
        """Delete up to `limit` copies of tasks that ended before then (UTC seconds) at other owners; which."""
        gone: list[TaskId] = []
        with self._env.reading() as txn:
            for key, value in self._rows.items(txn, Table.RESULTS):
                if len(gone) >= limit:
                    break
                if decode(value, Copy).progress.finished < finished_until:
                    gone.append(TaskId(key.decode()))
        if gone:
            self.commit([Write(Table.RESULTS, task, None) for task in gone])
        return gone

    def ends(self, tasks: Sequence[TaskId]) -> tuple[Copy, ...]:
        """Those of `tasks` that ended as far as this disk knows, ours and copies."""
        found: list[Copy] = []
        with self._env.reading() as txn:
            for task in tasks:
                mine = self._task(txn, task.encode())
                copy = Copy(*mine) if mine is not None else self._copy(txn, task.encode())
                if copy is not None and copy.progress.state.final:
                    found.append(copy)
        return tuple(found)

    def task(self, task: TaskId) -> tuple[Submission, Progress] | None:
        with self._env.reading() as txn:
            return self._task(txn, task.encode())

    def progress(self, tasks: Sequence[TaskId]) -> list[Progress | None]:
        """How far each of them has come, in one look; None for one that is not here."""
        with self._env.reading() as txn:
            return [self._rows.get(txn, Table.PROGRESS, task.encode(), Progress) for task in tasks]

    def find(self, prefix: str, limit: int = 10) -> list[TaskId]:
        """The tasks whose id, or its short form, is `prefix`; else those where it begins with it. Copies too."""
        with self._env.reading() as txn:
            tables = (Table.TASKS, Table.COPIES, Table.RESULTS)
            found = [task for table in tables for task in self._find(txn, table, prefix, limit)]
        return [task for task in found if prefix in (task, short(task))] or found

    def _find(self, txn: lmdb.Transaction, table: Table, prefix: str, limit: int) -> list[TaskId]:
        head, dash, tail = prefix.partition("-")
        found: list[TaskId] = []
        cursor = txn.cursor(self._tables[table])
        there = cursor.set_range(head.encode()) if head else cursor.first()
        while there and len(found) < limit and (key := bytes(cursor.key())).startswith(head.encode()):
            owner = key[:NODE_ID_CHARS]
            wanted = owner + (b"-" + tail.encode() if dash else b"")
            there = cursor.set_range(wanted)
            while there and len(found) < limit and (key := bytes(cursor.key())).startswith(wanted):
                found.append(TaskId(key.decode()))
                there = cursor.next()
            there = cursor.set_range(owner + b"\xff")
        return found

    def page(
        self, place: bytes, state: State | None, limit: int, looked_max: int
    ) -> tuple[list[tuple[bytes, Submission, Progress]], bytes]:
        """Up to `limit` tasks among the `looked_max` from `place` on, the newest submitted first.

        Each with its place; and where to go on, b"" when there are no more. Places begin with b"".
        """
        found: list[tuple[bytes, Submission, Progress]] = []
        with self._env.reading() as txn:
            cursor = txn.cursor(self._tables[ORDER])
            there = cursor.set_range(place) if place else cursor.last()
            if place and (not there or bytes(cursor.key()) > place):
                there = cursor.prev() if there else cursor.last()
            for _ in range(looked_max):
                if not there or len(found) >= limit:
                    break
                task = self._task(txn, bytes(cursor.value()))
                if task is not None and state in (None, task[1].state):
                    found.append((bytes(cursor.key()), *task))
                there = cursor.prev()
            return found, bytes(cursor.key()) if there else b""

    def free_bytes(self) -> int:
        """What the disk under the store still holds."""
        return shutil.disk_usage(self._env.path).free

    # --- rows of bytes, for trust ----------------------------------------------------------------

    def rows(self, table: str) -> dict[str, bytes]:
        with self._env.reading() as txn:
            return {key.decode(): value for key, value in self._rows.items(txn, table)}

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

    # --- upkeep ----------------------------------------------------------------------------------

    def ended(self, place: bytes, looked_max: int, submitted_until: float) -> tuple[list[Ended], bytes]:
        """The tasks that are over among the next `looked_max` after `place`, by the time of their submission.

        With the place that was reached: b"" when there are no more until then; it is also where to begin.
        """
        found: list[Ended] = []
        until = order_prefix(submitted_until)
        with self._env.reading() as txn:
            cursor = txn.cursor(self._tables[ORDER])
            there = cursor.set_range(place) if place else cursor.first()
            for _ in range(looked_max):
                if not there or bytes(cursor.key()) > until:
                    return found, b""
                ended = self._ended(txn, bytes(cursor.value()))
                if ended is not None:
                    found.append(ended)
                there = cursor.next()
            return found, bytes(cursor.key()) if there else b""

    def file_need(self, sha256: str) -> Need:
        """Why a file must stay, if it must."""
        need = Need.NONE
        with self._env.reading() as txn:
            for task, kind in self._rows.names(txn, sha256):
                if kind != AS_INPUT:
                    return Need.OUTPUT
                if need is Need.NONE and self._rows.is_open(txn, task.encode()):
                    need = Need.INPUT
        return need

    def has(self, task: TaskId) -> bool:
        with self._env.reading() as txn:
            return txn.get(task.encode(), db=self._tables[Table.TASKS]) is not None

    def output_files(self) -> list[str]:
        """The files that kept tasks left, by their hashes."""
        with self._env.reading() as txn:
            rows = self._rows.items(txn, NAMED)
            return sorted({key[:SHA256_CHARS].decode() for key, kind in rows if kind != AS_INPUT})

    def task_bytes(self) -> int:
        """What the records of tasks take on the disk."""
        with self._env.reading() as txn:
            stats = [txn.stat(self._tables[table]) for table in (Table.TASKS, Table.PROGRESS, Table.RESULTS)]
        pages = sum(stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"] for stat in stats)
        return int(pages * stats[0]["psize"])

    def copy_to(self, folder: Path) -> int:
        """A compact copy as of now, while others read and write; its bytes. Raises BadState, or DiskFull."""
        return self._env.copy_to(folder)

    def problems(self) -> list[Problem]:
        """What is wrong with the rows, read one by one; empty when all is well."""
        with self._env.reading() as txn:
            return list(problems(txn, self._tables))

    def rebuild(self) -> None:
        """The indexes anew, from the rows."""
        self._env.write(self._rows.rebuild)

    def _ended(self, txn: lmdb.Transaction, key: bytes) -> Ended | None:
        submission, progress = (txn.get(key, db=self._tables[name]) for name in (Table.TASKS, Table.PROGRESS))
        if submission is None or progress is None:
            return None
        there = decode(bytes(progress), Progress)
        if not there.over:
            return None
        size = len(submission) + len(progress) + (there.exit.kept_bytes if there.exit is not None else 0)
        return Ended(there.task, there.state, there.finished, size)

    # --- inside a transaction --------------------------------------------------------------------

    def _settle_schema(self) -> None:
        with self._env.reading() as txn:
            found = self._number(txn, b"schema")
            empty = not txn.stat(self._tables[Table.META])["entries"]
        if found > SCHEMA:
            raise BadState(
                f"the store in {self._env.path} was written by a newer version (schema {found}, this one reads up "
                f"to {SCHEMA}). Upgrade this installation: pip install --upgrade openclaw-mesh"
            )
        if found == SCHEMA:
            return
        if not empty:
            self._keep_copy(found)
        self._env.write(lambda txn: self._migrate(txn, found))

    def _keep_copy(self, found: int) -> None:
        """What was there stays beside the store: whoever goes back to the older version finds it whole."""
        folder = self._env.path.with_name(f"{self._env.path.name}.schema-{found}")
        (folder / DATA).unlink(missing_ok=True)  # of a migration that was cut off
        self.copy_to(folder)
        with closing(Environment.open_to_read(folder)) as copy:
            tables = copy.existing(TABLES)
            with copy.reading() as txn:
                for problem in problems(txn, tables, indexes=False):
                    raise damaged(self._env.path, str(problem))
        self.migrated_from = folder

    def _migrate(self, txn: lmdb.Transaction, found: int) -> None:
        """All steps from schema `found` on, in one transaction."""
        if found == 1:
            self._rows.rebuild(txn)
        txn.put(b"schema", msgspec.msgpack.encode(Number(SCHEMA)), db=self._tables[Table.META])

    def _task(self, txn: lmdb.Transaction, key: bytes) -> tuple[Submission, Progress] | None:
        submission = self._rows.get(txn, Table.TASKS, key, Submission)
        if submission is None:
            return None
        progress = self._rows.get(txn, Table.PROGRESS, key, Progress)
        return submission, progress or Progress(submission.task, State.QUEUED)

    def _copy(self, txn: lmdb.Transaction, key: bytes) -> Copy | None:
        get = self._rows.get
        return get(txn, Table.RESULTS, key, Copy) or get(txn, Table.COPIES, key, Copy)

    def _heard(self, txn: lmdb.Transaction) -> Iterator[tuple[NodeId, float]]:
        """When each owner of copies was last heard of, UTC seconds."""
        cursor = txn.cursor(self._tables[Table.META])
        there = cursor.set_range(HEARD)
        while there and (key := bytes(cursor.key())).startswith(HEARD):
            yield NodeId(key[len(HEARD) :].decode()), float(decode(bytes(cursor.value()), Number).value)
            there = cursor.next()

    def _number(self, txn: lmdb.Transaction, key: bytes) -> int:
        row = self._rows.get(txn, Table.META, key, Number)
        return 0 if row is None else row.value
