"""Handlers that the tests offer: each does one thing that a handler may do, or must not."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

from openclaw.executor.process import GPU_VARIABLES
from openclaw.handlers.declared import handler
from openclaw.handlers.task import Cancelled, task

GPUS_AT_IMPORT = [os.environ.get(name) for name in GPU_VARIABLES]


@handler
def double(value: object) -> object:
    return value * 2  # type: ignore[operator]


@handler("named/otherwise")
async def slow_double(value: int) -> int:
    await asyncio.sleep(0.001)
    return value * 2


@handler
def pid() -> int:
    return os.getpid()


@handler
def gpus() -> list[object]:
    """What it is told of its GPUs, what its libraries have seen when they were loaded, and its process."""
    assert [os.environ.get(name) for name in GPU_VARIABLES] == GPUS_AT_IMPORT
    return [list(task.gpus), GPUS_AT_IMPORT, os.getpid()]


@handler
def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


@handler
def takes_memory(size: int) -> int:
    return len(bytearray(b"x") * size)


@handler
def fails(text: str) -> None:
    print("before it fails")
    raise ValueError(text, 7)


@handler
def says(text: str, times: int = 1) -> None:
    print(text * times)
    print("aside", file=sys.stderr)


@handler
def returns_a_set() -> set[int]:
    return {1}


@handler
def big(size: int) -> bytes:
    return b"x" * size


@handler
def segfault() -> None:
    ctypes.string_at(0)


@handler
def leaves() -> None:
    os._exit(3)


@handler
def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)  # as the system does when memory runs out


@handler
def eats_memory() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
    bytearray(4 << 30)


@handler
def exits() -> None:
    sys.exit(4)


@handler
def loops(ready: str) -> None:
    Path(ready).write_text(f"{os.getpid()}\n")
    while True:
        pass


@handler
def stubborn(ready: str) -> None:
    Path(ready).touch()
    while True:
        try:
            time.sleep(60)
        except Cancelled:
            Path(ready).with_suffix(".asked").touch()


@handler
def tidy(ready: str) -> None:
    try:
        Path(ready).touch()
        time.sleep(60)
    finally:
        Path(ready).with_suffix(".cleaned").touch()


@handler
async def sleeps(ready: str) -> None:
    try:
        Path(ready).touch()
        await asyncio.sleep(60)
    finally:
        Path(ready).with_suffix(".cleaned").touch()


@handler
def mostly_quick(gate: str) -> None:
    while gate and not Path(gate).exists():
        time.sleep(0.002)


@handler
def reports(ready: str, gate: str) -> None:
    task.progress(3, 10, "three")
    Path(ready).touch()
    while not Path(gate).exists():
        time.sleep(0.002)


@handler
def copies(source: str, target: str) -> str:
    text = (task.scratch / source).read_text()
    (task.scratch / target).write_text(text.upper())
    return task.id
