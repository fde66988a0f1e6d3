"""Quick tasks go to the executor before there is a slot for them, or each would wait for a commit.

Promises: what goes ahead is taken up within about the pause that a batch costs; nothing goes ahead with `--once` or
`--no-overlap`, which must not be doubted for nothing, or whose kind its owner does not know to be quick. The executor
runs no more than there are slots, and hands back what waits there longer than it should: then nothing more goes ahead
until something has ended.
"""

from __future__ import annotations

from openclaw.config import Settings
from openclaw.exec.jobs import Job
from openclaw.records import Size


class Quick:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.held_up = False  # by something long, as what was handed back says

    def room(self, job: Job, whole: Size) -> Size:
        """What a node with `whole` has for `job`: of slots, for a quick one, some more than there are."""
        if job.runtime_s < 0 or job.once or job.no_overlap or self.held_up:
            return whole
        ahead = int(self._settings.turnaround_s_min / max(job.runtime_s, 1e-6))
        ahead = min(self._settings.ahead_per_slot_max, ahead)
        return Size(whole.slots * (1 + ahead), whole.memory_bytes, whole.gpus)
