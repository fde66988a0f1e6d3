"""What a handler may know and say of the task that it works on: `from openclaw import task`.

Outside of a task, as in the tests of a handler, there is no id and reports go nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

REPORT_EVERY_S = 0.1
NOTE_CHARS_MAX = 200

Report = Callable[[float, float, str], None]


class Cancelled(BaseException):
    """Raised in a handler whose task was cancelled or has run out of time: clean up, and let it pass."""


class Task:
    """The one that this process works on now; all fields but `gpus` are empty between tasks.

    `gpus` are the numbers of those that the task has to itself, which are all that this process ever has.
    """

    def __init__(self) -> None:
        self.id = ""
        self.attempt = 0
        self.gpus: tuple[int, ...] = ()
        self._folder = ""
        self._report: Report | None = None
        self._reported_at = 0.0

    @property
    def scratch(self) -> Path:
        """A folder of this attempt alone: its inputs are in it, its outputs are taken from it."""
        if not self._folder:
            raise RuntimeError("there is no task here, so it has no scratch folder")
        path = Path(self._folder, "scratch")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def progress(self, done: float, total: float = 0, note: str = "") -> None:
        """Say how far it has come, as often as you like: `done` of `total` (0: unknown)."""
        now = time.monotonic()
        finished = total > 0 and done >= total
        if self._report is not None and (finished or now - self._reported_at >= REPORT_EVERY_S):
            self._reported_at = now
            self._report(float(done), float(total), str(note)[:NOTE_CHARS_MAX])

    def begin(self, id: str, attempt: int, folder: str, report: Report) -> None:
        self.id, self.attempt, self._folder, self._report = id, attempt, folder, report
        self._reported_at = 0.0

    def end(self) -> None:
        self.id, self.attempt, self._folder, self._report = "", 0, "", None


task = Task()
