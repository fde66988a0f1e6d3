"""Files by their content: inputs and outputs of tasks, each kept once under its SHA-256.

A name in here is a proof: a file appears under its hash only when all of its bytes are on disk and have been
counted and hashed. What is cut off lies in `partial` and is taken up where it stopped.

The folder is bounded by `evict`: what nobody needs goes, the longest unused first. The time of a file is when it was
last used.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from openclaw.config import FILE_BYTES_MAX, FILES_REST_S, PARTIAL_REST_S, ROOM_SHARE
from openclaw.errors import MeshError

PIECE_BYTES = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


class WrongContent(MeshError):
    """What came is not what was announced; it has been thrown away."""

    kind = "wrong_content"


def appear(written: Path, target: Path) -> None:
    """Give a synced file its name, for good: a name that its folder may still forget proves nothing."""
    if not target.parent.is_dir():
        target.parent.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(target.parent.parent)
    written.replace(target)
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


class Writer:
    """Takes a file in piece by piece, from `offset` on; `commit` makes it appear."""

    def __init__(self, file: BinaryIO, partial: Path, target: Path, size: int) -> None:
        self._file, self._partial, self._target, self._size = file, partial, target, size
        self._hash = hashlib.sha256()
        file.seek(0)
        while piece := file.read(PIECE_BYTES):
            self._hash.update(piece)
        self.offset = file.tell()

    def write(self, data: bytes) -> None:
        if self.offset + len(data) > self._size:
            self._partial.unlink(missing_ok=True)
            raise WrongContent(f"more than the {self._size} bytes that were announced arrived")
        self._file.write(data)
        self._hash.update(data)
        self.offset += len(data)

    def commit(self) -> None:
        """Raises WrongContent unless the bytes are the ones that the name promises."""
        if self.offset != self._size or self._hash.hexdigest() != self._target.name:
            self._partial.unlink(missing_ok=True)
            raise WrongContent(f"{self.offset} bytes arrived that are not the file {self._target.name[:12]}…")
        self._file.flush()
        os.fsync(self._file.fileno())
        appear(self._partial, self._target)


class Files:
    """A folder of files by content, private to its owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._partials = folder / "partial"
        self._partials.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        self._evicting = threading.Lock()
        self._holds: Counter[str] = Counter()
        self.bytes = 0  # of all that are whole, about: what was there before is added by `count`

    def path(self, sha256: str) -> Path:
        """Where the file is, or would be."""
        if not _SHA256.fullmatch(sha256):
            raise MeshError(f"{sha256[:80]!r} is not the hash of a file", kind="usage")
        return self._folder / sha256[:2] / sha256

    def has(self, sha256: str) -> bool:
        return self.path(sha256).is_file()

    def count(self) -> None:
        """Take note of what was there before; it may be a hundred thousand files."""
        self.bytes = sum(stat.st_size for _, stat in self._all())

    def use(self, sha256: str) -> bool:
        """Whether it is here; it stays for a moment then, also where room is made at this instant."""
        with self._evicting:
            try:
                os.utime(self.path(sha256))
            except FileNotFoundError:
                return False
            return True

    @contextmanager
    def held(self, names: Iterable[str]) -> Iterator[Callable[[str], None]]:
        """None of these files goes meanwhile, however long it takes, nor those that are added."""
        held: list[str] = []

        def hold(sha256: str) -> None:
            with self._evicting:
                held.append(sha256)
                self._holds[sha256] += 1

        try:
            for name in names:
                hold(name)
            yield hold
        finally:
            with self._evicting:
                self._holds -= Counter(held)

    def evict(
        self, bytes_max: int, charged: Callable[[str], bool], needed: Callable[[str], bool], now: float
    ) -> int:
        """Make room until the files that are `charged` fit; the bytes that they take then.

        `needed` ones stay, and what was used a moment before the UTC second `now`.
        """
        every = list(self._all())
        self.bytes = sum(stat.st_size for _, stat in every)
        found = [(path, stat) for path, stat in every if charged(path.name)]
        left = sum(stat.st_size for _, stat in found)
        self._drop_partials(now - PARTIAL_REST_S)
        if left <= bytes_max:
            return left
        for path, stat in sorted(found, key=lambda each: each[1].st_mtime):
            if left <= bytes_max * ROOM_SHARE:
                break
            if not needed(path.name) and self._drop(path, now - FILES_REST_S):
                left -= stat.st_size
        return left

    def _all(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            with suppress(FileNotFoundError):
                yield path, path.stat()

    def _drop(self, path: Path, unused_since: float) -> bool:
        with self._evicting:
            try:
                if self._holds[path.name] > 0 or path.stat().st_mtime > unused_since:
                    return False
                self.bytes -= path.stat().st_size
                path.unlink()
            except FileNotFoundError:
                return False
            return True

    def _drop_partials(self, untouched_since: float) -> None:
        """What nobody has taken up again, and what a command left here for a node that did not take it."""
        for path in (*self._partials.iterdir(), *self._folder.glob("incoming-*")):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= untouched_since:
                    path.unlink()

    def open_read(self, sha256: str) -> BinaryIO:
        return self.path(sha256).open("rb")

    def put(self, source: Path) -> tuple[str, int]:
        """Take a copy in. A source that changes meanwhile is taken as it was read: name and bytes agree."""
        with source.open("rb") as file:
            if not source.is_file():
                raise OSError(errno.EINVAL, "is not a regular file", str(source))
            return self._take_in(iter(lambda: file.read(PIECE_BYTES), b""))

    def put_bytes(self, data: bytes) -> tuple[str, int]:
        return self._take_in(iter((data,)))

    @contextmanager
    def writer(self, sha256: str, size: int) -> Iterator[Writer]:
        """Take in a file that is known by hash and size. Two writers of one file do not meet: each has its own."""
        if size > FILE_BYTES_MAX:
            raise MeshError(f"a file of {size} bytes; at most {FILE_BYTES_MAX} are taken", kind="too_large")
        target = self.path(sha256)
        partial, file = self._claim(sha256)
        with file:
            if os.fstat(file.fileno()).st_size > size:
                file.truncate(0)
            fresh = not target.exists()
            yield Writer(file, partial, target, size)
            if fresh and target.exists():
                self.bytes += size

    def link_into(self, sha256: str, target: Path) -> None:
        """Put a copy at `target` for a command to work on; what the command does to it stays its own."""
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(self.path(sha256), target)

    def _claim(self, sha256: str) -> tuple[Path, BinaryIO]:
        """What a former writer left behind, or, while another one is at it, a new file of our own."""
        partial = self._partials / sha256
        number = os.open(partial, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if partial.exists() and os.path.samestat(os.fstat(number), partial.stat()):
                return partial, os.fdopen(number, "r+b")
        except BlockingIOError:
            pass
        os.close(number)
        number, name = tempfile.mkstemp(dir=self._partials)
        return Path(name), os.fdopen(number, "r+b")

    def _take_in(self, pieces: Iterator[bytes]) -> tuple[str, int]:
        number, name = tempfile.mkstemp(dir=self._partials)
        whole, size = hashlib.sha256(), 0
        try:
            with os.fdopen(number, "wb") as file:
                for piece in pieces:
                    size += len(piece)
                    if size > FILE_BYTES_MAX:
                        raise OSError(errno.EFBIG, f"is larger than {FILE_BYTES_MAX} bytes")
                    whole.update(piece)
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            target = self.path(whole.hexdigest())
            self.bytes += 0 if target.exists() else size
            appear(Path(name), target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        return whole.hexdigest(), size
