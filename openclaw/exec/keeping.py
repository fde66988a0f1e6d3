"""How long a task is kept once it is over: by age and by size, decided here for everybody who keeps one."""

from __future__ import annotations

from collections.abc import Sequence

from openclaw.config import DATED_S_MIN, DISK_LOOK_EVERY_S, FORGET_EVERY_S
from openclaw.records import Ended


def outlived(ended: Sequence[Ended], wall_s: float, keep_s: float, excess_bytes: int) -> list[Ended]:
    """Which of these tasks are to be forgotten at the UTC second `wall_s`; oldest first, as they are given.

    All that ended `keep_s` ago; and when what is kept takes `excess_bytes` too many, the first until that is gone.
    What ended under a clock that was not set has no age: a machine without a battery for it begins in 1970.
    """
    gone = []
    for each in ended:
        aged = each.finished >= DATED_S_MIN and wall_s - each.finished >= keep_s
        if aged or excess_bytes > 0:
            gone.append(each)
            excess_bytes -= each.bytes
    return gone


def look_every_s(keep_s: float) -> float:
    """How often to look for what has outlived `keep_s`, so that nothing stays for much longer than it was to."""
    return min(FORGET_EVERY_S, max(DISK_LOOK_EVERY_S, keep_s / 4))
