"""Fault points, in the style of failpoints: a test says where, and the process dies there by SIGKILL.

OPENCLAW_MESH_FAULT names a file when the process starts; without it a point costs a look at one name. A line in that
file arms it: `POINT N PID…`. Whoever passes POINT the N-th time since then takes the file away, leaves it as FILE.hit
with its own process id added, and kills those processes, itself if none is named. So it happens once, whatever is
started again with the same environment, and a test can tell a kill that missed its point from one that did not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

from openclaw.config import ENV_PREFIX

VARIABLE = ENV_PREFIX + "FAULT"
HIT = ".hit"
LEAVES_S = 0.02  # for what was written to a socket last to leave this process: another thread sends it


class Armed(NamedTuple):
    """What an armed file says."""

    point: str
    passes: int
    pids: tuple[int, ...]


class FaultFile:
    """One process's view of its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = ""
        self._passed = 0

    def passed(self, point: str) -> None:
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            text = ""
        if text != self._seen:
            self._seen, self._passed = text, 0
        if not text:
            return
        armed = read(text)
        if armed.point != point:
            return
        self._passed += 1
        if self._passed >= armed.passes:
            self._strike(armed)

    def _strike(self, armed: Armed) -> None:
        mine = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            self._path.rename(mine)
        except FileNotFoundError:
            return  # another process was first
        with mine.open("a") as file:
            file.write(f"\n{os.getpid()}\n")
        mine.rename(self._path.with_name(self._path.name + HIT))  # whole, for whoever waits for it
        time.sleep(LEAVES_S)
        for pid in sorted(armed.pids or (os.getpid(),), key=lambda pid: pid == os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def read(text: str) -> Armed:
    """Raises ValueError for what is no such line."""
    point, passes, *pids = text.split()
    return Armed(point, int(passes), tuple(map(int, pids)))


def of_environment() -> FaultFile | None:
    path = os.environ.get(VARIABLE)
    return FaultFile(Path(path)) if path else None


FAULTS = of_environment()


def passed(point: str) -> None:
    """This process is at `point` now."""
    if FAULTS is not None:
        FAULTS.passed(point)
