"""How a system keeps one command within the memory and processors that it asked for.

Linux with control groups (version 2) that this user may divide: a group a command, limits for all of it together,
and an end that nothing in it escapes. Linux otherwise: memory for each of its processes, and processors that it is
bound to. macOS has neither, and says so. A group costs a command milliseconds, so only one with limits gets one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CPU_PERIOD_US = 100_000
EACH_BYTES_MIN = 64 << 20  # whoever starts it is under the limit of each process for a moment, and must live


class Group:
    """The control group of one command. `controls` of "memory" and "cpu" are what the kernel limits here."""

    def __init__(self, folder: Path, controls: frozenset[str] = frozenset()) -> None:
        self._folder, self.controls = folder, controls

    def join(self) -> bool:
        """Move this process in, and so all that it starts."""
        return _write(self._folder / "cgroup.procs", "0")

    def limit(self, memory_bytes: int, cpus: int) -> None:
        """For all in it together; 0 is no limit."""
        if memory_bytes:
            _write(self._folder / "memory.swap.max", "0")
            _write(self._folder / "memory.oom.group", "1")
            _write(self._folder / "memory.max", str(memory_bytes))
        if cpus:
            _write(self._folder / "cpu.max", f"{cpus * CPU_PERIOD_US} {CPU_PERIOD_US}")

    def pids(self) -> list[int]:
        """All that live in it, zombies aside, whatever sessions they went to."""
        return [int(pid) for pid in _read(self._folder / "cgroup.procs").split()]

    def kill(self) -> None:
        """End all of it at once; on a kernel that cannot (before 5.14), one by one."""
        if not _write(self._folder / "cgroup.kill", "1"):
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def out_of_memory(self) -> bool:
        """Whether something in it was killed because all of it together had too much."""
        events = dict(line.split() for line in _read(self._folder / "memory.events").splitlines())
        return events.get("oom_kill", "0") != "0"

    def remove(self) -> bool:
        """Once nothing lives in it; False while something does."""
        try:
            self._folder.rmdir()
        except FileNotFoundError:
            pass
        except OSError:
            return False
        return True


class Groups:
    """The control groups of one executor, in a folder of their own."""

    def __init__(self, folder: Path, own: Path) -> None:
        self._folder, self._own = folder, own

    @classmethod
    def open(cls, name: str) -> Groups | None:
        """Where this user may make groups, with what a former executor left there ended; None if nowhere."""
        own = _own_group() if sys.platform == "linux" else None
        for base in (own.parent, own) if own else ():
            if not (os.access(base, os.W_OK) and os.access(base / "cgroup.procs", os.W_OK)):
                continue
            assert own is not None
            groups = cls(base / name, own)
            try:
                groups._folder.mkdir(exist_ok=True)
            except OSError:
                continue
            for folder in (base, groups._folder):
                for controller in ("memory", "cpu"):
                    _write(folder / "cgroup.subtree_control", f"+{controller}")
            for left in groups._left():
                left.kill()
                left.remove()
            return groups
        return None

    @contextmanager
    def inside(self, name: str) -> Iterator[Group | None]:
        """What is started within starts in a new group; None if none can be had."""
        group = Group(self._folder / name, frozenset(_read(self._folder / "cgroup.subtree_control").split()))
        try:
            (self._folder / name).mkdir()
        except OSError:
            yield None
            return
        joined = group.join()
        try:
            yield group if joined else None
        finally:
            Group(self._own).join()
            group.remove()  # which it is not, unless it stayed empty

    def close(self) -> None:
        """Gone when the last group is; what is left is ended by whoever opens it next."""
        for left in self._left():
            left.remove()
        Group(self._folder).remove()

    def _left(self) -> list[Group]:
        return [Group(entry) for entry in self._folder.iterdir() if entry.is_dir()]


@dataclass(frozen=True, slots=True)
class Confinement:
    """Who keeps a command within its memory ("cgroup", "process": each of it, "none") and its processors
    ("cgroup", "affinity", "none"); "" where it asked for none. `bound` are the processors that it is bound to."""

    group: Group | None
    memory: str
    cpus: str
    bound: frozenset[int]


@contextmanager
def confined(
    groups: Groups | None, name: str, memory_bytes: int, cpus: int, taken: Iterable[int]
) -> Iterator[Confinement]:
    """What is started within is kept within these limits (0: none); `taken` are processors that others are bound to."""
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(groups.inside(name)) if groups else None
        controls = group.controls if group else frozenset()
        memory = processors = ""
        bound: frozenset[int] = frozenset()
        if memory_bytes:
            memory = "cgroup" if "memory" in controls else stack.enter_context(_each_limited(memory_bytes))
        if cpus and "cpu" in controls:
            processors = "cgroup"
        elif cpus:
            bound = stack.enter_context(_bound(cpus, taken))
            processors = "affinity" if bound else "none"
        yield Confinement(group, memory, processors, bound)
    if group:
        group.limit(memory_bytes, cpus)


@contextmanager
def _each_limited(memory_bytes: int) -> Iterator[str]:
    """Let no process that is started within hold more: private memory that it can write to."""
    if sys.platform != "linux":
        yield "none"
        return
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    _, hard = before
    wanted = max(memory_bytes, EACH_BYTES_MIN)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard < 0 else min(wanted, hard), hard))
    try:
        yield "process"
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


@contextmanager
def _bound(cpus: int, taken: Iterable[int]) -> Iterator[frozenset[int]]:
    """Bind what is started within to so many processors, those that are least in `taken`; none: it cannot be."""
    if sys.platform != "linux":
        yield frozenset()
        return
    used, before = list(taken), os.sched_getaffinity(0)
    chosen = sorted(before, key=lambda cpu: (used.count(cpu), cpu))[:cpus]
    os.sched_setaffinity(0, chosen)
    try:
        yield frozenset(chosen)
    finally:
        os.sched_setaffinity(0, before)


def _own_group() -> Path | None:
    """The folder of this process's group in the hierarchy of version 2, where that is mounted."""
    groups = _read(Path("/proc/self/cgroup")).splitlines()
    path = next((line[3:] for line in groups if line.startswith("0::")), None)
    for line in _read(Path("/proc/self/mountinfo")).splitlines():
        fields, _, kind = line.partition(" - ")
        root, point = fields.split(" ")[3:5]
        if path is not None and kind.startswith("cgroup2 ") and Path(path).is_relative_to(root):
            return Path(point) / Path(path).relative_to(root)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _write(path: Path, text: str) -> bool:
    """One write, as these files want it; False if the system refuses. Never makes a file."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
