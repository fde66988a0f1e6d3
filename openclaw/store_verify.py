"""Reads a store row by row and says what is wrong with it: where, and what to do.

`python -m openclaw.store_verify FOLDER` reads all the bytes of one, for a node whose machine has died with the
store open; it ends with 1 and a reason when one cannot be read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import lmdb

from openclaw.errors import BadState
from openclaw.records import Attempt, Copy, Counts, EpochRow, Number, Progress, Record, Submission, Table
from openclaw.store_env import Environment
from openclaw.store_rows import (
    COPIED,
    FINAL_COUNTS,
    NAMED,
    OPEN,
    ORDER,
    Rows,
    decode,
    input_files,
    order_key,
    output_files,
)

_META: Mapping[bytes, type[Record]] = {b"epoch": EpochRow, b"counts": Counts}


class Problem(NamedTuple):
    """One row that is not as it should be. `mendable`: it is an index, and those can be made anew."""

    table: str
    key: str
    what: str
    mendable: bool = False

    def __str__(self) -> str:
        return f"{self.table}, row {self.key!r}: {self.what}"


def problems(
    txn: lmdb.Transaction, tables: Mapping[str, lmdb._Database], *, indexes: bool = True
) -> Iterator[Problem]:
    """Every row that cannot be read or that contradicts another; without `indexes` only the rows themselves."""
    rows = Rows(tables)
    for key, value in rows.items(txn, Table.META):
        if key != FINAL_COUNTS:
            yield from _unreadable(Table.META, key, value, _META.get(key, Number))
    for key, value in rows.items(txn, Table.ATTEMPTS):
        yield from _unreadable(Table.ATTEMPTS, key, value, Attempt)
    for table in (name for name in COPIED if name in tables):
        for key, value in rows.items(txn, table):
            yield from _unreadable(table, key, value, Copy)
    for key, value in rows.items(txn, Table.PROGRESS):
        yield from _unreadable(Table.PROGRESS, key, value, Progress)
        if txn.get(key, db=tables[Table.TASKS]) is None:
            yield Problem(Table.PROGRESS, key.decode(), "its task is missing")
    for key, value in rows.items(txn, Table.TASKS):
        unreadable = list(_unreadable(Table.TASKS, key, value, Submission))
        yield from unreadable
        if indexes and not unreadable:
            yield from _unindexed(txn, rows, tables, key, decode(value, Submission))
    if indexes:
        yield from _astray(txn, rows, tables)


def _unreadable(table: str, key: bytes, value: bytes, row_type: type[Record]) -> Iterator[Problem]:
    try:
        decode(value, row_type)
    except lmdb.CorruptedError as error:
        yield Problem(table, key.decode(errors="replace"), str(error))


def _unindexed(
    txn: lmdb.Transaction, rows: Rows, tables: Mapping[str, lmdb._Database], key: bytes, task: Submission
) -> Iterator[Problem]:
    """What of a task the indexes do not say."""
    try:
        progress = rows.get(txn, Table.PROGRESS, key, Progress)
    except lmdb.CorruptedError:
        return  # told already
    unfinished = progress is None or not progress.over
    if unfinished != (txn.get(key, db=tables[OPEN]) is not None):
        yield Problem(OPEN, key.decode(), "it does not say whether the task is over", mendable=True)
    if txn.get(order_key(task), db=tables[ORDER]) != key:
        yield Problem(ORDER, key.decode(), "the task is not in the order of submission", mendable=True)
    for sha256 in input_files(task) | output_files(progress):
        if txn.get(sha256.encode() + key, db=tables[NAMED]) is None:
            yield Problem(NAMED, key.decode(), f"the file {sha256[:12]}… is not noted", mendable=True)


def _astray(txn: lmdb.Transaction, rows: Rows, tables: Mapping[str, lmdb._Database]) -> Iterator[Problem]:
    """Index rows of tasks that are not there. What a task has too many of is harmless: a file is kept longer."""
    for table in (OPEN, ORDER):
        for key, value in rows.items(txn, table):
            task = value if table == ORDER else key
            if txn.get(task, db=tables[Table.TASKS]) is None:
                yield Problem(
                    table, bytes(task).decode(errors="replace"), "there is no such task", mendable=True
                )


def _read_all(folder: Path) -> None:
    env = Environment.open_to_read(folder)
    with env.reading() as txn:
        names = [bytes(key).decode() for key in txn.cursor().iternext(values=False)]
    for table in env.existing(names).values():
        with env.reading() as txn:
            for _ in txn.cursor(table):
                pass


if __name__ == "__main__":
    try:
        _read_all(Path(sys.argv[1]))
    except BadState as error:
        sys.exit(str(error))
