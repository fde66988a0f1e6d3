"""What this node hands out on the bulk port: files by content, logs of attempts, kept outputs.

A name from a peer never becomes a path unless it matches exactly what we ourselves would have written.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path

from openclaw.executor import record
from openclaw.executor.logs import read_log
from openclaw.executor.paths import RUNS, SCRATCH
from openclaw.ids import NodeId, TaskId
from openclaw.runtime.context import Context
from openclaw.transport.frames import Ref

FILE, LOG, OUTPUT, KEPT, OFFER, DIGEST = "file", "log", "output", "kept", "offer", "digest"
STREAMS = ("stdout", "stderr")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_TASK = r"[a-z2-7]{16}-[a-z2-7]{1,32}"
_RUN = rf"({_TASK}\.\d{{1,9}}\.[a-z2-7]{{16}}\.\d{{1,16}}\.\d{{1,9}})"
_LOG = re.compile(rf"{_RUN}/(stdout|stderr)")
_OUTPUT = re.compile(rf"{_RUN}/([^\0]{{1,1024}})")
_KEPT = re.compile(rf"({_TASK})/(stdout|stderr)")

TAIL_S_MIN, TAIL_S_MAX = 0.02, 0.25
THREAD_BYTES_MIN = 64 << 10


class FileSource:
    """Reads a file from any offset. At its end it waits for more as long as `ended` says no."""

    def __init__(self, path: Path, ended: Callable[[], bool] = lambda: True) -> None:
        self._path, self._ended = path, ended
        self._fd: int | None = None

    async def read(self, offset: int, size: int) -> bytes | None:
        """Up to `size` bytes, or None at the end. Raises OSError when the file cannot be read."""
        if self._fd is None:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        pause_s = TAIL_S_MIN
        while True:
            ended = self._ended()  # before the read: what was written until then is read
            if size >= THREAD_BYTES_MIN and os.fstat(self._fd).st_size - offset >= THREAD_BYTES_MIN:
                data = await asyncio.to_thread(self._take, self._fd, size, offset)
            else:
                data = self._take(self._fd, size, offset)
            if data is None:
                return None
            if data or ended:
                return data or None
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, TAIL_S_MAX)

    def _take(self, fd: int, size: int, offset: int) -> bytes | None:
        return os.pread(fd, size, offset)

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class LogSource(FileSource):
    """A log of an attempt. It ends where its middle was cut out: what is a hole was never output."""

    def _take(self, _fd: int, size: int, offset: int) -> bytes | None:
        start, data = read_log(self._path, offset, size)
        return data if start == offset else None


class DigestSource(FileSource):
    """The SHA-256 of a file, 64 hexadecimal digits: computed when it is asked for."""

    async def read(self, offset: int, size: int) -> bytes | None:
        digest = await asyncio.to_thread(self._digest)
        return digest[offset : offset + size] or None

    def _digest(self) -> bytes:
        import hashlib

        with self._path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest().encode()


class Sources:
    """Answers `Ref`s of roster members. None when there is no such thing here."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.logs_dir = context.state_dir / "logs"
        self.logs_dir.mkdir(mode=0o700, exist_ok=True)
        self.offers: dict[str, tuple[NodeId, Path]] = {}  # what `openclaw cp` lets one node have

    def serve(self, peer: NodeId, ref: Ref) -> FileSource | None:
        if ref.kind in (OFFER, DIGEST):
            offered_to, path = self.offers.get(ref.name, (None, None))
            if offered_to != peer or path is None:
                return None
            return FileSource(path) if ref.kind == OFFER else DigestSource(path)
        path = self._path(ref)
        if path is None or not path.is_file() or path.is_symlink():
            return None
        if ref.kind != LOG:
            return FileSource(path)
        return LogSource(path, lambda: _ended(path.parent)) if ref.follow else LogSource(path)

    def kept(self, task: TaskId, stream: str) -> Path:
        """Where this node keeps the fetched output of a task that it owns."""
        return self.logs_dir / f"{task}.{stream}"

    def _path(self, ref: Ref) -> Path | None:
        match ref.kind:
            case kind if kind == FILE and _SHA256.fullmatch(ref.name):
                return self._context.files.path(ref.name)
            case kind if kind == LOG and (found := _LOG.fullmatch(ref.name)):
                return self._runs / found[1] / found[2]
            case kind if kind == OUTPUT and (found := _OUTPUT.fullmatch(ref.name)):
                return self._inside(self._runs / found[1] / SCRATCH, found[2])
            case kind if kind == KEPT and (found := _KEPT.fullmatch(ref.name)):
                return self.kept(TaskId(found[1]), found[2])
            case _:
                return None

    @property
    def _runs(self) -> Path:
        return self._context.state_dir / RUNS

    @staticmethod
    def _inside(folder: Path, name: str) -> Path | None:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) else None


def _ended(run: Path) -> bool:
    """Whether nothing more is written to the logs of this run; a folder that is gone has been forgotten."""
    try:
        return record.read(str(run))[1] is not None
    except FileNotFoundError:
        return True
