"""The record of a run: one file, first which process it is (if it lived for a moment),
then, appended, how it ended.

Promises: its making is exclusive, so a run starts at most once, whoever asks again; a half-written end reads
as no end. It is not synced: after a crash of the machine the process is gone too, and that is what it says.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import msgpack

from openclaw.executor.process import ExitRow

RECORD_BYTES_MAX = 16 << 20


class StartRow(NamedTuple):
    """Which process it was: together these name one for ever."""

    pid: int
    process_start: str
    boot: str


def create(folder: str) -> int:
    """A new, empty record; FileExistsError if this run has one."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    return os.open(folder + "/record", flags, 0o600)


def append(fd: int, row: StartRow | ExitRow) -> None:
    """Write down a row; a disk that takes only part of it is an OSError, and the part is taken back."""
    data = msgpack.packb(row)
    written = os.write(fd, data)
    if written != len(data):
        os.ftruncate(fd, os.fstat(fd).st_size - written)
        raise OSError(f"the disk took only part of a record of {len(data)} bytes")


def read(folder: str) -> tuple[StartRow | None, ExitRow | None]:
    """What is written down about a run; raises FileNotFoundError if it never got as far as a record."""
    rows, _ = _rows(folder)
    start = next((StartRow(*row) for row in rows if len(row) == len(StartRow._fields)), None)
    ended = next((ExitRow(*row) for row in rows if len(row) == len(ExitRow._fields)), None)
    return start, ended


def reopen(folder: str) -> int:
    """A record that a lost executor left, ready to append to: what it wrote in part is taken back."""
    _, whole_bytes = _rows(folder)
    fd = os.open(folder + "/record", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    os.ftruncate(fd, whole_bytes)
    return fd


def _rows(folder: str) -> tuple[list[list[Any]], int]:
    """The rows that were written whole, and how many bytes they are."""
    unpacker = msgpack.Unpacker(max_buffer_size=RECORD_BYTES_MAX)
    with open(folder + "/record", "rb") as file:
        unpacker.feed(file.read(RECORD_BYTES_MAX))
    rows: list[list[Any]] = []
    whole_bytes = 0
    try:
        for row in unpacker:
            if not isinstance(row, list):
                break
            rows.append(row)
            whole_bytes = unpacker.tell()
    except (ValueError, msgpack.UnpackException):
        pass  # torn by a crash: what came before it stands
    return rows, whole_bytes
