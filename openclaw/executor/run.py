"""One command that this executor started, until its end is written down.

Promises: its phases only go forward, and nothing of its process group is left when its end is known. The
leader stays unreaped until the group was told to end: as long as it is, no stranger can have its number.
"""

from __future__ import annotations

import os
import signal
from enum import IntEnum

from openclaw.executor.logs import over, trim
from openclaw.executor.process import Child, Spec
from openclaw.platform import ExitFd, living
from openclaw.platform_limits import Confinement, Group

FOREVER = float("inf")
LOGS = ("/stdout", "/stderr")
CHECK_S_MIN, CHECK_S_MAX = 0.05, 0.5
POLL_S_MIN, POLL_S_MAX = 0.005, 0.2
DRAIN_S = 10.0


class Phase(IntEnum):
    RUNNING = 1
    LINGERING = 2  # told to end; its leader has, others of its group still may until `kill_at`
    DRAINING = 3  # killed and reaped; the last of the group are on their way out


class Run:
    """A running command and what is to be done about it next."""

    __slots__ = (
        "began",
        "check_at",
        "confinement",
        "cuts",
        "deadline",
        "ended_by",
        "error",
        "exit_fd",
        "folder",
        "kill_at",
        "marker",
        "name",
        "noted",
        "phase",
        "poll_s",
        "process",
        "record_fd",
        "sizes",
        "spec",
        "started",
    )

    def __init__(
        self,
        spec: Spec,
        name: str,
        folder: str,
        marker: str,
        process: Child,
        exit_fd: ExitFd,
        record_fd: int,
        now: float,
        wall: float,
        confinement: Confinement,
    ) -> None:
        self.spec = spec
        self.name = name
        self.folder = folder
        self.marker = marker
        self.process = process
        self.exit_fd = exit_fd
        self.record_fd = record_fd
        self.noted = False
        self.began = now
        self.started = wall
        self.phase = Phase.RUNNING
        self.deadline = now + spec.timeout_s if spec.timeout_s else FOREVER
        self.kill_at = FOREVER
        self.check_at = now + CHECK_S_MIN
        self.poll_s = POLL_S_MIN
        self.ended_by = ""
        self.error = ""
        self.cuts = [0, 0]
        self.sizes = [0, 0]
        self.confinement = confinement

    @property
    def group(self) -> Group | None:
        return self.confinement.group

    @property
    def next_at(self) -> float:
        """When `Supervisor.tick` has something to do here."""
        return min(self.deadline, self.kill_at, self.check_at)

    def end(self, reason: str, grace_s: float, now: float, error: str = "") -> None:
        """Ask the group to end; after the grace it is killed. The first reason stands, the grace may shrink."""
        if self.phase is Phase.DRAINING:
            return
        if not self.ended_by:
            self.ended_by = reason
            self.error = error
            self.signal(signal.SIGTERM)
            self._signal_escaped(signal.SIGTERM)
        self.deadline = FOREVER
        self.kill_at = min(self.kill_at, now + grace_s)

    def _signal_escaped(self, number: signal.Signals) -> None:
        """To what slipped out of the group into another session."""
        for pid in self.group.pids() if self.group else living(0, self.marker):
            try:
                if os.getpgid(pid) != self.process.pid:
                    os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                pass

    def signal(self, number: signal.Signals) -> None:
        """To the whole group. Only while the leader is unreaped, so that the group is ours."""
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            pass

    def kill(self) -> None:
        """End the group; if it was told to end before, also what slipped out of it into another session."""
        self.kill_at = FOREVER
        self.signal(signal.SIGKILL)
        if self.group:
            self.group.kill()
        elif self.ended_by:
            self._signal_escaped(signal.SIGKILL)

    def survivors(self) -> list[int]:
        """What is left of it, its leader aside once that has ended."""
        if self.group and (left := self.group.pids()):
            return left
        if self.ended_by:
            return living(self.process.pid, self.marker)
        try:
            os.killpg(self.process.pid, 0)
        except ProcessLookupError:
            return []
        except PermissionError:
            pass
        return living(self.process.pid, "")

    def poll_later(self, now: float) -> None:
        self.check_at = now + self.poll_s
        self.poll_s = min(self.poll_s * 2, POLL_S_MAX)

    def trim_logs(self, kept_max: int, now: float) -> bool:
        """Keep both logs within their limit, looking the sooner again the faster they grow.

        False if one cannot be: the disk does not give back the middle of a file.
        """
        grown, within = 0, True
        for stream, log in enumerate(LOGS):
            try:
                size, self.cuts[stream] = trim(self.folder + log, kept_max, self.cuts[stream])
            except FileNotFoundError:
                continue  # the command's own doing; what it writes on goes nowhere
            grown = max(grown, size - self.sizes[stream])
            self.sizes[stream] = size
            within = within and not over(size, self.cuts[stream], kept_max)
        soon = CHECK_S_MAX * kept_max / (4 * grown) if grown > 0 else CHECK_S_MAX
        self.check_at = now + min(max(soon, CHECK_S_MIN), CHECK_S_MAX)
        return within
