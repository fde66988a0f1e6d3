"""Reads this machine once a second: cpu, memory, disk, and how late our own event loop ran."""

from __future__ import annotations

import asyncio
from pathlib import Path

from openclaw.effects import Measured
from openclaw.records import Metrics
from openclaw.runtime.context import Context

MEASURE_EVERY_S = 2.0


def read(state_dir: Path) -> Metrics:
    """One reading, in percent; well under a millisecond. `cpu` is since the last reading."""
    import psutil

    return Metrics(
        psutil.cpu_percent(None),
        psutil.virtual_memory().percent,
        psutil.disk_usage(str(state_dir)).percent,
    )


async def measure(context: Context) -> None:
    """For ever: tells the core what it should know of its machine and of its own health."""
    loop = asyncio.get_running_loop()
    read(context.state_dir)
    while True:
        context.post(Measured(read(context.state_dir), disk_low=context.disk_low() > 0))
        due = loop.time() + MEASURE_EVERY_S
        await asyncio.sleep(MEASURE_EVERY_S)
        lag_s = loop.time() - due
        if lag_s > 0.05:
            context.post(Measured(read(context.state_dir), lag_s, context.disk_low() > 0))
