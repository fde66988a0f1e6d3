"""Quick calls go to the executor before there is a slot for them, or each would wait for a commit.

Promises: what goes ahead is taken up within about the pause that a batch costs; nothing goes ahead with `--once`,
which must not be doubted for nothing, or whose kind is not known to be quick. The executor runs no more than `slots`.
"""

from __future__ import annotations

from openclaw.config import HANDLERS_MAX, Settings
from openclaw.exec.jobs import Job
from openclaw.records import Size

_EWMA_WEIGHT = 0.2


class Quick:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._took_s: dict[str, float] = {}

    def ran(self, job: Job, runtime_s: float) -> None:
        handler = job.needs.handler
        if handler:
            if handler not in self._took_s and len(self._took_s) >= HANDLERS_MAX:
                self._took_s.clear()
            before_s = self._took_s.get(handler, runtime_s)
            self._took_s[handler] = before_s + _EWMA_WEIGHT * (runtime_s - before_s)

    def room(self, job: Job, whole: Size) -> Size:
        """What a node with `whole` has for `job`: of slots, for a quick call, some more than there are."""
        took_s = self._took_s.get(job.needs.handler)
        if took_s is None or job.once:
            return whole
        pause_s = self._settings.turnaround_s_min
        ahead = min(self._settings.ahead_per_slot_max, int(pause_s / max(took_s, 1e-6)))
        return Size(whole.slots * (1 + ahead), whole.memory_bytes, whole.gpus)
