"""The rows of a store and the indexes that hang on them, changed in one transaction.

Promises: `open` names exactly the tasks that a restart must pick up, `order` has every task under the time of its
submission, `named` says which tasks name which file, and the counts of final tasks are those of the rows.
Whatever writes to the tables of the core goes through `put`.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, TypeVar

import lmdb
import msgspec

from openclaw.ids import TaskId
from openclaw.records import Copy, InputFile, Payload, Progress, Record, State, Submission, Table

OPEN, ORDER, NAMED = "open", "order", "named"
INDEXES = (OPEN, ORDER, NAMED)
COPIED = (Table.COPIES, Table.RESULTS)
FINAL_COUNTS = b"final_counts"
SHA256_CHARS = 64
_SHA256 = re.compile(f"[0-9a-f]{{{SHA256_CHARS}}}")
AS_INPUT, AS_OUTPUT = b"i", b"o"
R = TypeVar("R", bound=Record)


KEY_BYTES_MAX = 511  # of LMDB


class Row(NamedTuple):
    """What is to stand in a row, as it is and encoded; None deletes it."""

    value: Record | None
    data: bytes | None


class Rows:
    """The tables by name. Every operation gives up the interpreter's lock and may wait for it: few a row."""

    def __init__(self, tables: Mapping[str, lmdb._Database]) -> None:
        self._tables = tables

    def put(self, txn: lmdb.Transaction, rows: Mapping[tuple[Table, bytes], Row]) -> None:
        finals: Counter[State] = Counter()
        for (table, key), row in rows.items():
            before = self._exchange(txn, table, key, row.data)
            if table is Table.PROGRESS:
                self._index_progress(txn, key, before, row.value, finals)
            elif table is Table.TASKS and (before is None) != (row.value is None):
                self._index_task(txn, key, before, row.value, (Table.PROGRESS, key) in rows)
            elif table in COPIED:
                self._index_copy(txn, key, before, row.value)
        if any(finals.values()):
            counts = Counter(self.final_counts(txn))
            counts.update({state.value: change for state, change in finals.items()})
            self._put_counts(txn, counts)

    def rebuild(self, txn: lmdb.Transaction) -> None:
        """The indexes anew, from the rows."""
        for index in INDEXES:
            txn.drop(self._tables[index], delete=False)
        finals: Counter[str] = Counter()
        for key, value in self.items(txn, Table.TASKS):
            progress = txn.get(key, db=self._tables[Table.PROGRESS])
            self._index_task(txn, key, None, decode(value, Submission), progress is not None)
            if progress is not None:
                there = decode(bytes(progress), Progress)
                self._index_progress(txn, key, None, there, Counter())
                finals[there.state.value] += there.state.final
        for table in COPIED:
            for key, value in self.items(txn, table):
                self._index_copy(txn, key, None, decode(value, Copy))
        self._put_counts(txn, +finals)

    def final_counts(self, txn: lmdb.Transaction) -> dict[str, int]:
        value = txn.get(FINAL_COUNTS, db=self._tables[Table.META])
        return {} if value is None else msgspec.msgpack.decode(value, type=dict[str, int])

    def get(self, txn: lmdb.Transaction, table: str, key: bytes, row_type: type[R]) -> R | None:
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return None  # a stranger's word for a task: LMDB would call the whole store unusable
        value = txn.get(key, db=self._tables[table])
        return None if value is None else decode(bytes(value), row_type)

    def items(self, txn: lmdb.Transaction, table: str) -> Iterator[tuple[bytes, bytes]]:
        for key, value in txn.cursor(self._tables[table]):
            yield bytes(key), bytes(value)

    def names(self, txn: lmdb.Transaction, sha256: str) -> Iterator[tuple[TaskId, bytes]]:
        """The tasks that name a file, each with AS_INPUT or AS_OUTPUT."""
        cursor = txn.cursor(self._tables[NAMED])
        there = cursor.set_range(sha256.encode())
        while there and (key := bytes(cursor.key())).startswith(sha256.encode()):
            yield TaskId(key[SHA256_CHARS:].decode()), bytes(cursor.value())
            there = cursor.next()

    # --- indexes ---------------------------------------------------------------------------------

    def _exchange(self, txn: lmdb.Transaction, table: Table, key: bytes, data: bytes | None) -> bytes | None:
        """Put or delete a row, and give back what was there where an index hangs on it."""
        database = self._tables[table]
        if table not in (Table.TASKS, Table.PROGRESS, *COPIED):
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
        """Keep `open` and `named` true, and note in `finals` what this row changes in the counts of final tasks."""
        old = None if before is None else decode(before, Progress)
        new = after if isinstance(after, Progress) else None
        for progress, change in ((old, -1), (new, 1)):
            if progress is not None and progress.state.final:
                finals[progress.state] += change
        if new is not None and not new.over:
            if old is None or old.over:
                txn.put(key, b"", db=self._tables[OPEN])
        elif old is None or not old.over:
            txn.delete(key, db=self._tables[OPEN])
        left, come = output_files(old), output_files(new)
        for sha256 in left - come:
            txn.delete(sha256.encode() + key, db=self._tables[NAMED])
        for sha256 in come - left:
            txn.put(sha256.encode() + key, AS_OUTPUT, db=self._tables[NAMED])

    def _index_task(
        self,
        txn: lmdb.Transaction,
        key: bytes,
        before: bytes | None,
        after: Record | None,
        progress_follows: bool,
    ) -> None:
        """Keep `order` and `named` true; a submission never changes, so only its coming and going matters."""
        if before is not None:
            gone = decode(before, Submission)
            txn.delete(order_key(gone), db=self._tables[ORDER])
            txn.delete(key, db=self._tables[OPEN])
            for sha256 in input_files(gone):
                txn.delete(sha256.encode() + key, db=self._tables[NAMED])
        elif isinstance(after, Submission):
            txn.put(order_key(after), key, db=self._tables[ORDER])
            for sha256 in input_files(after):
                txn.put(sha256.encode() + key, AS_INPUT, db=self._tables[NAMED])
            if not progress_follows and txn.get(key, db=self._tables[Table.PROGRESS]) is None:
                txn.put(key, b"", db=self._tables[OPEN])

    def _index_copy(
        self, txn: lmdb.Transaction, key: bytes, before: bytes | None, after: Record | None
    ) -> None:
        """Keep `named` true of another owner's task."""
        left = copied_files(None if before is None else decode(before, Copy))
        come = copied_files(after if isinstance(after, Copy) else None)
        for sha256 in left.keys() - come.keys():
            txn.delete(sha256.encode() + key, db=self._tables[NAMED])
        for sha256, kind in come.items():
            txn.put(sha256.encode() + key, kind, db=self._tables[NAMED])

    def is_open(self, txn: lmdb.Transaction, key: bytes) -> bool:
        """Whether a task may run yet, ours or a copy."""
        return any(txn.get(key, db=self._tables[name]) is not None for name in (OPEN, Table.COPIES))

    def _put_counts(self, txn: lmdb.Transaction, counts: Mapping[str, int]) -> None:
        txn.put(FINAL_COUNTS, msgspec.msgpack.encode(dict(counts)), db=self._tables[Table.META])


def decode(value: bytes, row_type: type[R]) -> R:
    try:
        return msgspec.msgpack.decode(value, type=row_type)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise lmdb.CorruptedError(f"a {row_type.__name__} that cannot be read: {error}") from error


def order_key(submission: Submission) -> bytes:
    return order_prefix(submission.submitted) + submission.task.encode()


def order_prefix(submitted: float) -> bytes:
    """How the key begins of what was submitted then (UTC seconds)."""
    return struct.pack(">Q", int(max(0.0, min(submitted * 1e6, 1e18))))


def input_files(submission: Submission) -> frozenset[str]:
    """The files that a task needs until it is over, by their hashes."""
    try:
        payload = msgspec.msgpack.decode(submission.payload, type=Payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return frozenset()  # nobody could run it either
    files = payload.inputs if payload.stdin is None else (*payload.inputs, payload.stdin)
    return _hashes(files)


def copied_files(copy: Copy | None) -> dict[str, bytes]:
    """The files of a copy, by their hashes: what it left once it is over, and until then what it needs too."""
    if copy is None:
        return {}
    needed = dict.fromkeys(input_files(copy.submission), AS_INPUT) if not copy.progress.state.final else {}
    return needed | dict.fromkeys(output_files(copy.progress), AS_OUTPUT)


def output_files(progress: Progress | None) -> frozenset[str]:
    """The files that a task left, by their hashes."""
    if progress is None or progress.exit is None:
        return frozenset()
    return _hashes(progress.exit.outputs)


def _hashes(files: Iterable[InputFile]) -> frozenset[str]:
    """Without what a worker may have sent in place of one: no file is ever called so."""
    return frozenset(file.sha256 for file in files if _SHA256.fullmatch(file.sha256))
