"""A log is followed to its end, and never takes what was cut out of its middle for output."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from openclaw.executor.logs import BLOCK_BYTES, head_bytes, trim
from openclaw.runtime.sources import LogSource

KEPT_BYTES = 4 * BLOCK_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="not every file system of a Mac gives back the middle")
async def test_a_follower_ends_at_the_hole_and_the_tail_is_read_behind_it(tmp_path: Path) -> None:
    log = tmp_path / "stdout"
    written = bytes(1 + n % 255 for n in range(20 * BLOCK_BYTES))
    log.write_bytes(written)
    size, cut = trim(str(log), KEPT_BYTES, 0)
    assert (size, cut > 0) == (len(written), True)
    head = head_bytes(KEPT_BYTES)
    source = LogSource(log, lambda: False)  # it still grows: only the hole ends the pull
    read = b""
    async with asyncio.timeout(20):
        while (data := await source.read(len(read), 1 << 20)) is not None:
            read += data
    source.close()
    assert read == written[:head]
    tail = LogSource(log)
    assert await tail.read(head + cut, 1 << 20) == written[head + cut :]
    assert await tail.read(size, 1 << 20) is None
    tail.close()


async def test_a_follower_waits_for_what_is_still_written(tmp_path: Path) -> None:
    log = tmp_path / "stdout"
    log.write_bytes(b"one")
    over = False
    source = LogSource(log, lambda: over)
    assert await source.read(0, 100) == b"one"
    waiting = asyncio.create_task(source.read(3, 100))
    await asyncio.sleep(0)
    with log.open("ab") as file:
        file.write(b"two")
    async with asyncio.timeout(20):
        assert await waiting == b"two"
        over = True
        assert await source.read(6, 100) is None
    source.close()
