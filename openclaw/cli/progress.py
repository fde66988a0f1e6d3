"""How far a `map` is: one line on a terminal's stderr, rewritten in place, with the rate and the time that is left."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from openclaw.cli.output import span, write_all

EVERY_S = 0.2
WINDOW_S = 15.0
BAR_CHARS = 24
STDERR = 2


class Progress:
    """`total_bytes` is the size of the input, 0 while nobody knows: then there is a count and a rate, and no bar.

    How many lines there are is reckoned from those that were read, until all have been.
    """

    def __init__(self, silent: bool, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._silent = silent
        self._total_bytes = total_bytes
        self._clock = clock
        self._lines = 0
        self._bytes = 0
        self._whole = False
        self._shown = False
        self._due = 0.0
        self._samples: deque[tuple[float, int]] = deque([(clock(), 0)])

    def read(self, line: str) -> None:
        self._lines += 1
        self._bytes += len(line.encode()) + 1

    def read_all(self) -> None:
        self._whole = True

    def show(self, done: int, failed: int) -> None:
        now = self._clock()
        if self._silent or now < self._due:
            return
        self._shown, self._due = True, now + EVERY_S
        write_all(STDERR, f"\r\x1b[K{self.line(done, failed, now)}".encode())

    def clear(self) -> None:
        if self._shown:
            write_all(STDERR, b"\r\x1b[K")
            self._shown, self._due = False, 0.0

    def line(self, done: int, failed: int, now: float) -> str:
        """What stands there: `[####----] 37% of 100000, 812/s, 1m left, 2 failed`."""
        rate = self._rate(done, now)
        total = self._total()
        parts = [f"{rate:.0f}/s" if rate >= 10 else f"{rate:.1f}/s"]
        if total is None:
            parts.insert(0, f"{done} done")
        else:
            share = min(1.0, done / max(1, total))
            filled = round(share * BAR_CHARS)
            bar = "#" * filled + "-" * (BAR_CHARS - filled)
            about = "" if self._whole else "about "
            parts.insert(0, f"[{bar}] {share:.0%} of {about}{total}")
            if rate > 0:
                parts.append(f"{span((max(0, total - done)) / rate)} left")
        return ", ".join([*parts, *([f"{failed} failed"] if failed else [])])

    def _total(self) -> int | None:
        if self._whole:
            return self._lines
        if not self._total_bytes or not self._bytes:
            return None
        return max(self._lines, round(self._lines * self._total_bytes / self._bytes))

    def _rate(self, done: int, now: float) -> float:
        """Of the last moments: what was slow at the start says nothing about what is left."""
        self._samples.append((now, done))
        while len(self._samples) > 2 and self._samples[1][0] <= now - WINDOW_S:
            self._samples.popleft()
        since, before = self._samples[0]
        return (done - before) / max(now - since, 0.001)
