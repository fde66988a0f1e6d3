"""An LMDB environment whose transactions either happen or say, for people, why not.

One thread writes at a time and any number read; when the map is full it is grown and the transaction runs again.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import lmdb

from openclaw.config import MAP_BYTES_MAX
from openclaw.errors import BadState, MeshError
from openclaw.store_check import damaged, refuse_damage

# A short write, which is how LMDB meets a full disk, comes as EIO.
FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
DAMAGE = (
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
DATA = "data.mdb"
TABLES_MAX = 32
T = TypeVar("T")


class DiskFull(MeshError):
    """Nothing of the batch was written; everything before it is safe."""

    kind = "disk_full"
    exit_code = 125


class Environment:
    """Safe to use from several threads."""

    def __init__(self, path: Path, env: lmdb.Environment) -> None:
        self.path = path
        self._env = env
        self._writing = threading.Lock()
        self._gate = threading.Condition()
        self._readers = 0
        self._growing = False

    @classmethod
    def open(cls, path: Path, map_bytes: int, *, power_lost: bool = False) -> Environment:
        """Open or create the environment in the folder `path`. Raises BadState when it must not be used."""
        size = refuse_damage(path / DATA)
        if power_lost and size:
            _read_all_elsewhere(path)
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            env = lmdb.open(
                str(path),
                map_size=max(map_bytes, _power_of_two(size)),
                max_dbs=TABLES_MAX,
                mode=0o700,
                metasync=True,
                sync=True,
                writemap=False,
            )
        except (OSError, lmdb.Error) as error:
            raise _refusal(path, error) from error
        env.reader_check()
        return cls(path, env)

    @classmethod
    def open_to_read(cls, path: Path) -> Environment:
        """An environment that nobody else has open; nothing in its folder changes. Raises BadState."""
        if not refuse_damage(path / DATA):
            raise BadState(f"there is no store in {path}; name the folder that a node or a backup lives in")
        try:
            return cls(path, lmdb.open(str(path), max_dbs=TABLES_MAX, readonly=True, lock=False))
        except (OSError, lmdb.Error) as error:
            raise _refusal(path, error) from error

    def existing(self, names: Sequence[str]) -> dict[str, lmdb._Database]:
        """Those of the tables that are there: an older store lacks some. For transactions that begin later."""
        found = {}
        for name in names:
            try:
                found[name] = self._env.open_db(name.encode(), create=False)
            except lmdb.NotFoundError:
                continue
        return found

    def copy_to(self, folder: Path) -> int:
        """A compact copy of what is committed, synced, in a new file of `folder`; its bytes.

        Others go on reading and writing. Only growing waits for the copy, so there is room before it begins.
        """
        with self._writing:
            info = self._env.info()
            if 2 * self._env.stat()["psize"] * info["last_pgno"] > info["map_size"]:
                self._grow()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self.reading(), open(folder / DATA, "xb", opener=_private) as file:
                self._env.copyfd(file.fileno(), compact=True)
                os.fsync(file.fileno())
                return os.fstat(file.fileno()).st_size
        except OSError as error:
            raise _refusal(folder, error) from error

    def tables(self, names: Sequence[str]) -> dict[str, lmdb._Database]:
        return self.write(lambda txn: {name: self._env.open_db(name.encode(), txn) for name in names})

    def close(self) -> None:
        with self._writing, self._gate:
            self._env.close()

    def write(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Run `work` in a transaction; when the map is full, grow it and run all of it again."""
        with self._writing:
            while True:
                try:
                    with self._env.begin(write=True) as txn:
                        return work(txn)
                except lmdb.MapFullError:
                    self._grow()
                except lmdb.Error as error:
                    raise _refusal(self.path, error) from error

    def _grow(self) -> None:
        """Twice the map. Growing it would pull it from under a reader, so it waits until there is none."""
        size = self._env.info()["map_size"] * 2
        if size > MAP_BYTES_MAX:
            raise DiskFull(
                f"the store in {self.path} has reached its limit of {MAP_BYTES_MAX} bytes; "
                "keep fewer results: openclaw node start --limit keep_bytes=4G"
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
    def reading(self) -> Iterator[lmdb.Transaction]:
        with self._gate:
            self._gate.wait_for(lambda: not self._growing)
            self._readers += 1
        try:
            with self._env.begin() as txn:
                yield txn
        except lmdb.Error as error:
            raise _refusal(self.path, error) from error
        finally:
            with self._gate:
                self._readers -= 1
                if self._growing:
                    self._gate.notify_all()


def _read_all_elsewhere(path: Path) -> None:
    """In a process of its own: what LMDB cannot bear may end it."""
    command = [sys.executable, "-P", "-m", "openclaw.store_verify", str(path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"reading it ended a process ({done.returncode})"]
        raise damaged(path, words[-1])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _refusal(path: Path, error: OSError | lmdb.Error) -> MeshError:
    """The same trouble, for people."""
    if isinstance(error, DAMAGE):
        return damaged(path, str(error))
    number = error.errno if isinstance(error, OSError) else error.code
    if number in FULL_ERRNOS or isinstance(error, lmdb.DiskError):
        return DiskFull(
            f"the disk under {path} is full, or fails: nothing of this was written, what was accepted before is safe. "
            f"Make room there: df -h {path}"
        )
    if isinstance(error, lmdb.LockError) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return BadState(f"cannot write to {path} ({error}). Mend it: chmod -R u+rwX {path}")
    return BadState(f"the store in {path} cannot be used: {error}. Look at its disk: df -h {path}; dmesg")


def _power_of_two(size: int) -> int:
    return 1 << max(0, (2 * size - 1).bit_length()) if size else 0
