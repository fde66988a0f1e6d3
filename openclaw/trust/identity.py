"""Who this node is: the seed in its state folder, and every reason not to use that folder.

A folder is used by one node at a time, on the machine where it was made, on a disk of that machine, and by
nobody but its owner. Anything else raises BadState with the line that mends it, before a key is read.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from openclaw import platform
from openclaw.errors import BadState
from openclaw.trust.keys import SEED_BYTES, NodeKeys, new_seed

LOCK_BYTES_MAX = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """An open state folder. Closing it lets the next node in."""

    folder: Path
    keys: NodeKeys
    power_lost: bool  # the machine died while a node had the folder open
    _lock: int

    @classmethod
    def open(cls, folder: Path, name: str) -> Identity:
        """Open the folder for the node called `name`, or make it."""
        _prepare(folder)
        lock, boot = _lock(folder, name)
        try:
            _check_machine(folder)
            power_lost = boot not in ("", platform.boot_id())
            return cls(folder, NodeKeys.from_seed(_seed(folder)), power_lost, lock)
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """After a clean end; what ended otherwise leaves its word in the lock."""
        os.ftruncate(self._lock, 0)
        os.close(self._lock)

    def __enter__(self) -> Identity:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            os.close(self._lock)


def _prepare(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise BadState(
            f"the state folder {folder} is not a folder; name another one: --state-dir DIR"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from error
    if platform.is_network_filesystem(folder):
        raise BadState(
            f"the state folder {folder} is on a network file system, where a store can be lost and a second machine "
            "could open it. Name one on a local disk: openclaw --state-dir DIR node start"
        )
    if folder.stat().st_uid != os.geteuid():
        raise BadState(
            f"the state folder {folder} belongs to another user. Name one of your own: --state-dir DIR"
        )
    _refuse_open_modes(folder, "700")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unwritable(folder, PermissionError("no write permission"))


@contextmanager
def held(folder: Path, purpose: str) -> Iterator[None]:
    """No node has the folder open meanwhile. Raises BadState when one runs there, or it is no state folder."""
    if not (folder / "seed").is_file():
        raise BadState(f"{folder} is not the state folder of a node; name one: --state-dir DIR")
    lock, boot = _lock(folder, purpose)
    try:
        yield
    finally:
        if not boot:
            os.ftruncate(lock, 0)
        os.close(lock)


def _lock(folder: Path, name: str) -> tuple[int, str]:
    """Held as long as the node lives, by the kernel: a killed node leaves no lock behind.

    With the boot of the machine in which somebody had it and did not give it back, or "".
    """
    path = folder / "node.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise _unwritable(folder, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid, other, _ = _holder(lock)
        os.close(lock)
        raise BadState(
            f"the node {other!r} already runs in {folder} (pid {pid}). Stop it with: openclaw node stop; "
            "for a second node on this machine: openclaw --state-dir DIR node start --port 0",
            kind="already_runs",
        ) from None
    boot = _holder(lock)[2]
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()} {name}\n{boot or platform.boot_id()}\n".encode()[:LOCK_BYTES_MAX], 0)
    return lock, boot


def _holder(lock: int) -> tuple[str, str, str]:
    """Who has the lock, or had it and did not get to give it back: pid, name and boot."""
    text = os.pread(lock, LOCK_BYTES_MAX, 0).decode(errors="replace")
    who, _, boot = text.partition("\n")
    pid, _, name = who.partition(" ")
    return pid, name, boot.strip()


def _check_machine(folder: Path) -> None:
    """A copied folder is a second node with the keys of the first: its papers must not be used twice."""
    here = platform.machine_id()
    path = folder / "machine"
    try:
        there = path.read_text().strip()
    except FileNotFoundError:
        if (folder / "seed").exists():
            raise BadState(
                f"the state folder {folder} has lost the file that names its machine; if it was never copied: "
                f"echo {here} > {path}"
            ) from None
        _create(path, here.encode() + b"\n")
        return
    if here and there and there != here:  # where the system names no machine, there is nothing to compare
        raise BadState(
            f"the state folder {folder} was made on another machine, so this is a copy of a node that may still "
            f"run. Begin a new node here: mv {folder} {folder}.copied && openclaw node start --join TOKEN. If that "
            f"machine is gone for good and this is its disk: echo {here} > {path}"
        )


def _seed(folder: Path) -> bytes:
    path = folder / "seed"
    if not path.exists():
        _create(path, new_seed())
    _refuse_open_modes(path, "600")
    seed = path.read_bytes()
    if len(seed) != SEED_BYTES:
        raise BadState(
            f"the seed in {path} is damaged ({len(seed)} bytes). Bring it back from a backup, or begin a new node: "
            f"mv {folder} {folder}.damaged && openclaw node start --join TOKEN"
        )
    return seed


def _create(path: Path, content: bytes) -> None:
    """The whole file or none, also after a power cut."""
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, content)
            os.fsync(file)
        finally:
            os.close(file)
        fresh.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise _unwritable(path.parent, error) from error


def _refuse_open_modes(path: Path, mode: str) -> None:
    if path.stat().st_mode & 0o077:
        raise BadState(f"others can look into {path}. Close it: chmod {mode} {path}")


def _unwritable(folder: Path, error: OSError) -> BadState:
    return BadState(
        f"cannot write to the state folder {folder} ({error.strerror or error}). "
        f"Mend it: chmod u+rwx {folder}, or name another: --state-dir DIR"
    )
