"""The output of a command: a file that grows, of which the head and the tail are kept.

Promises: offsets are true for ever, since what is cut from the middle becomes a hole and the file keeps its
size; a reader that follows a growing log never takes a hole for output.
"""

from __future__ import annotations

import errno
import os

from openclaw.platform import punch_hole

KEPT_BYTES_MIN = 64 << 20  # so much is kept however full the disk is, unless less is asked for
DISK_SHARE = 16  # and of what the disk has free at most this part
BLOCK_BYTES = 4096  # cuts lie on whole blocks: only those go back to the disk
READ_TRIES_MAX = 16


def head_bytes(kept_max: int) -> int:
    """How much of the beginning survives a cut: where the cut begins, always the same for one setting."""
    return min(kept_max, KEPT_BYTES_MIN) // 2 // BLOCK_BYTES * BLOCK_BYTES


def allowed_bytes(kept_max: int, free_bytes: int) -> int:
    """How much of a log is kept: as much as is asked for, while that is a small part of what the disk has free."""
    return min(kept_max, max(KEPT_BYTES_MIN, free_bytes // DISK_SHARE))


def trim(path: str, kept_max: int, cut: int) -> tuple[int, int]:
    """Cut the log at `path`, `cut` bytes of which are gone already, down to its limit. (size, cut) now.

    Where the file system cannot punch holes, `cut` stays and the log is still over its limit.
    """
    size = os.stat(path).st_size
    head = head_bytes(kept_max)
    end = (size - (kept_max - head)) // BLOCK_BYTES * BLOCK_BYTES
    if size - cut <= kept_max or end <= head + cut:
        return size, min(cut, size)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        done = punch_hole(fd, head + cut, end - head - cut)
    finally:
        os.close(fd)
    return size, end - head if done else cut


def over(size: int, cut: int, kept_max: int) -> bool:
    """Whether more is kept than may be; the tail begins on a whole block, so it may be that much longer."""
    return size - cut > kept_max + BLOCK_BYTES


def read_log(path: str | os.PathLike[str], offset: int, length: int) -> tuple[int, bytes]:
    """Up to `length` bytes of a log from `offset` on, and where they begin: further on, if that was cut.

    No bytes means the end for now; the offset is then where to go on.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for _ in range(READ_TRIES_MAX):
            start, end = _extent(fd, offset)
            data = os.pread(fd, min(length, end - start), start)
            if not data or _extent(fd, start)[0] == start:  # else it was cut while we read
                return start, data
        return offset, b""
    finally:
        os.close(fd)


def _extent(fd: int, offset: int) -> tuple[int, int]:
    """The next bytes that are not a hole, as (begin, end)."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return offset, offset
