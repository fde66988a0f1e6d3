"""What Linux and macOS do differently, in one place, both paths side by side.

Promises: importing this is cheap (the executor does, and is meant to stay small), every function answers on
both systems, and what cannot be known is said as None, False or an empty list and never guessed. The macOS
paths follow its manual pages and have not been run on a Mac yet.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

NETWORK_FILESYSTEMS = {
    *("nfs", "nfs3", "nfs4", "cifs", "smb3", "smbfs", "smb", "afs", "afpfs", "9p", "ceph", "glusterfs"),
    *("lustre", "gpfs", "beegfs", "webdav", "davfs", "ncpfs", "macfuse", "fuse.sshfs", "fuse.glusterfs"),
    *("fuse.ceph", "fuse.davfs", "fuse.rclone", "fuse.s3fs"),
}
OPEN_FILES_WANTED = 65_536
FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE = 1, 2
F_PUNCHHOLE = 99
SOL_LOCAL, LOCAL_PEERCRED = 0, 1


class ExitFd(Protocol):
    """Readable once the process has ended; whoever made it closes it."""

    def fileno(self) -> int: ...
    def close(self) -> None: ...


# --- clock and identity --------------------------------------------------------------------------

if sys.platform == "darwin":
    BOOT_CLOCK = time.CLOCK_MONOTONIC  # counts sleep on macOS
else:
    BOOT_CLOCK = time.CLOCK_BOOTTIME


def boot_clock_s() -> float:
    """Monotonic seconds that also count the time the machine slept."""
    return time.clock_gettime(BOOT_CLOCK)


@cache
def boot_id() -> str:
    """Differs after every boot of this machine."""
    if sys.platform == "darwin":
        return _output("/usr/sbin/sysctl", "-n", "kern.bootsessionuuid").strip()
    return _text("/proc/sys/kernel/random/boot_id").strip()


@cache
def machine_id() -> str:
    """The same on this machine for ever and different on a copy of its disk elsewhere; "" if unknown.

    It is hashed, so that the system's own secret id never leaves it.
    """
    import hashlib

    if sys.platform == "darwin":
        report = _output("/usr/sbin/ioreg", "-rd1", "-c", "IOPlatformExpertDevice")
        raw = report.partition('"IOPlatformUUID" = "')[2].partition('"')[0]
    else:
        raw = _text("/etc/machine-id").strip() or _text("/var/lib/dbus/machine-id").strip()
    return hashlib.sha256(f"openclaw-mesh machine {raw}".encode()).hexdigest()[:32] if raw else ""


# --- processes -----------------------------------------------------------------------------------


def process_start(pid: int) -> str | None:
    """When `pid` started, as the system counts it; None if there is no such living process.

    With the boot id it names a process for ever, whatever happens to its number later.
    """
    if sys.platform == "darwin":
        state, _, started = _output("/bin/ps", "-o", "state=,lstart=", "-p", str(pid)).strip().partition(" ")
        return started.strip() if started and not state.startswith("Z") else None
    fields = _stat_fields(pid)
    return fields[19] if fields and fields[0] not in "ZX" else None


if sys.platform == "darwin":

    class _ProcessQueue:
        """A kqueue of its own per process: readable, and so selectable, when that process ends."""

        def __init__(self, pid: int) -> None:
            self._queue = select.kqueue()
            watch = select.kevent(
                pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD | select.KQ_EV_ONESHOT, select.KQ_NOTE_EXIT
            )
            self._queue.control([watch], 0)

        def fileno(self) -> int:
            return self._queue.fileno()

        def close(self) -> None:
            self._queue.close()

    def exit_fd(pid: int) -> ExitFd:
        """Readable when `pid` ends, which must be a child that was not waited for yet."""
        return _ProcessQueue(pid)

else:

    class _PidFd:
        __slots__ = ("_fd",)

        def __init__(self, pid: int) -> None:
            self._fd = os.pidfd_open(pid)

        def fileno(self) -> int:
            return self._fd

        def close(self) -> None:
            os.close(self._fd)

    def exit_fd(pid: int) -> ExitFd:
        """Readable when `pid` ends, which must be a child that was not waited for yet."""
        return _PidFd(pid)


def living(group: int, marker: str) -> list[int]:
    """Processes, zombies aside, in process group `group` or started with `marker` in their environment.

    `marker` is a whole "NAME=value" without spaces; "" looks at the group alone, group 0 at the marker alone.
    """
    wanted = marker.encode()
    return sorted(
        pid
        for pid, process_group, environment in _processes(bool(marker))
        if (group and process_group == group) or (wanted and wanted in environment)
    )


def _processes(with_environment: bool) -> Iterator[tuple[int, int, list[bytes]]]:
    if sys.platform == "darwin":
        listing = _output("/bin/ps", "-axwwE", "-o", "pid=,pgid=,state=,command=")
        for line in listing.splitlines():
            pid, group, state, command = [*line.split(None, 3), "", "", "", ""][:4]
            if pid.isdigit() and group.isdigit() and not state.startswith("Z"):
                yield int(pid), int(group), command.encode().split(b" ")
        return
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        fields = _stat_fields(int(name))
        if fields and fields[0] not in "ZX":
            environment = _bytes(f"/proc/{name}/environ").split(b"\0") if with_environment else []
            yield int(name), int(fields[2]), environment


def _stat_fields(pid: int) -> list[str]:
    """`/proc/PID/stat` from the state on: the name before it may hold spaces and brackets."""
    return _text(f"/proc/{pid}/stat").rpartition(")")[2].split()


# --- files, sockets, limits ----------------------------------------------------------------------


def is_network_filesystem(path: Path) -> bool:
    """Whether `path` (or where it would be made) lies on another machine's disk."""
    place = os.path.realpath(path)
    mounts = _mounts()
    best = max((m for m in mounts if _within(place, m)), key=len, default="")
    return mounts.get(best, "") in NETWORK_FILESYSTEMS


def _within(place: str, mount: str) -> bool:
    return place == mount or place.startswith(mount.rstrip("/") + "/")


def _mounts() -> dict[str, str]:
    """Mount point to type of file system; a later mount on the same point hides the earlier."""
    found: dict[str, str] = {}
    if sys.platform == "darwin":
        for line in _output("/sbin/mount").splitlines():
            point, _, kind = line.partition(" on ")[2].rpartition(" (")
            found[point] = kind.partition(",")[0].rstrip(")")
        return found
    for line in _text("/proc/self/mountinfo").splitlines():
        fields, _, kind = line.partition(" - ")
        point = fields.split(" ")[4].encode().decode("unicode_escape")  # a space there is \040
        found[point] = kind.partition(" ")[0]
    return found


def peer_uid(connection: socket.socket) -> int:
    """Whose process is at the other end of a unix socket."""
    if sys.platform == "darwin":
        version, uid = struct.unpack("II", connection.getsockopt(SOL_LOCAL, LOCAL_PEERCRED, 8))
        if version:
            raise OSError("the system describes the peer of a unix socket in an unknown way")
    else:
        _, uid, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(uid)


def any_address() -> str:
    """What to listen on to be reached at every address of this machine: IPv6's takes IPv4 as well."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return "0.0.0.0"
    return "::"


def raise_open_files() -> int:
    """Ask for as many open files as the hard limit gives, within reason; what we have now."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_WANTED)
    if sys.platform == "darwin":
        wanted = min(wanted, 10_240)  # OPEN_MAX: setrlimit refuses more, whatever the hard limit says
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return soft


def punch_hole(fd: int, offset: int, length: int) -> bool:
    """Give `length` bytes of a file back to the disk, its size unchanged; False where that cannot be done."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if sys.platform == "darwin":
        block = os.fstatvfs(fd).f_frsize  # only whole blocks are accepted there
        start = -(-offset // block) * block
        whole = (offset + length - start) // block * block
        request = struct.pack("IIqq", 0, 0, start, whole)
        return whole <= 0 or libc.fcntl(fd, F_PUNCHHOLE, ctypes.c_char_p(request)) == 0
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    return bool(libc.fallocate64(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)) == 0)


def free_disk_bytes(path: str | Path) -> int:
    """What an ordinary user may still write on the disk of `path`."""
    stat = os.statvfs(path)
    return stat.f_bavail * stat.f_frsize


def power_source() -> Literal["mains", "battery"]:
    """What the machine runs on now; one without a battery runs on mains."""
    import psutil

    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    return "battery" if battery is not None and battery.power_plugged is False else "mains"


def memory_bytes() -> int:
    """What this machine has, or what our control group may use of it."""
    import psutil

    limit = _text("/sys/fs/cgroup/memory.max").strip()
    total: int = psutil.virtual_memory().total
    return min(total, int(limit)) if limit.isdigit() else total


def count_gpus(timeout_s: float) -> int:
    """How many GPUs the tools of their makers see; 0 where no tool is, or where it does not answer in time."""
    import json
    import shutil

    if tool := shutil.which("nvidia-smi"):
        indices = _asked(timeout_s, tool, "--query-gpu=index", "--format=csv,noheader")
        return sum(line.strip().isdigit() for line in indices.splitlines())
    if tool := shutil.which("rocm-smi"):
        try:
            cards = json.loads(_asked(timeout_s, tool, "--showid", "--json"))
        except ValueError:
            return 0
        return sum(str(name).startswith("card") for name in cards) if isinstance(cards, dict) else 0
    return 0


def _asked(timeout_s: float, *argv: str) -> str:
    """What a tool prints, "" if it fails or takes too long."""
    import subprocess

    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=timeout_s
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace")


# --- reading -------------------------------------------------------------------------------------


def _bytes(path: str) -> bytes:
    """A small system file, b"" if it is not there or not ours to read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def _text(path: str) -> str:
    return _bytes(path).decode(errors="replace")


def _output(*argv: str) -> str:
    """What a system command prints, "" if it fails: macOS has no files to read these from."""
    import subprocess

    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=10)
    return done.stdout.decode(errors="replace")
