"""Reads this machine once a second: cpu, memory, disk, and how late our own event loop ran."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from openclaw.effects import Measured, WallClock
from openclaw.records import Metrics
from openclaw.runtime.context import Context

MEASURE_EVERY_S = 2.0
CLOCK_STEP_S_MIN = 1.0  # less is how clocks drift


def read(state_dir: Path) -> Metrics:
    """One reading, in percent; well under a millisecond. `cpu` is since the last reading."""
    import psutil

    return Metrics(
        psutil.cpu_percent(None),
        psutil.virtual_memory().percent,
        psutil.disk_usage(str(state_dir)).percent,
    )


def follow_clock(context: Context, system_s: float) -> None:
    """Somebody has set this machine's clock, to `system_s` by now: what is dated from here on is dated by that."""
    offset_s = system_s - context.now()
    if abs(offset_s - context.wall_offset_s) > CLOCK_STEP_S_MIN:
        context.wall_offset_s = offset_s
        context.post(WallClock(offset_s))


async def measure(context: Context) -> None:
    """For ever: tells the core what it should know of its machine and of its own health."""
    loop = asyncio.get_running_loop()
    read(context.state_dir)
    while True:
        follow_clock(context, time.time())
        context.post(Measured(read(context.state_dir), disk_low=context.disk_low() > 0))
        due = loop.time() + MEASURE_EVERY_S
        await asyncio.sleep(MEASURE_EVERY_S)
        lag_s = loop.time() - due
        if lag_s > 0.05:
            context.post(Measured(read(context.state_dir), lag_s, context.disk_low() > 0))
