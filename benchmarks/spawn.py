"""Commands per second: the executor beside a bare spawner that does the same, in turn, in one run.

    python benchmarks/spawn.py [COMMANDS] [ROUNDS] [SLOTS]

All start `true` in a session and a directory of its own with two output files, at most SLOTS at once, and
learn how each ended. The bare ones do that in this process, by `subprocess` and by posix_spawn, and keep nothing
else; the executor also writes down what it started and how it ended, and is asked and answers over its socket.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

from openclaw.effects import Event, ExecutorUp, ProcessExited
from openclaw.executor.link import ExecutorLink, RunSpec
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.platform import exit_fd
from openclaw.records import Payload

OWNER = NodeId("owner")
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND


Starter = Callable[[Path, dict[str, str]], int]


def by_subprocess(place: Path, environment: dict[str, str]) -> int:
    files = [os.open(place / name, FLAGS, 0o600) for name in ("stdout", "stderr")]
    process = subprocess.Popen(
        ["true"],
        stdin=subprocess.DEVNULL,
        stdout=files[0],
        stderr=files[1],
        cwd=place,
        env=environment,
        start_new_session=True,
    )
    for fd in files:
        os.close(fd)
    process.returncode = 0  # it is waited for below
    return process.pid


def by_posix_spawn(place: Path, environment: dict[str, str]) -> int:
    os.chdir(place)
    files = [(os.POSIX_SPAWN_OPEN, fd, name, FLAGS, 0o600) for fd, name in ((1, "stdout"), (2, "stderr"))]
    actions = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *files]
    pid = os.posix_spawnp("true", ["true"], environment, file_actions=actions, setsid=True)
    os.chdir("/")
    return pid


def bare(start: Starter, folder: Path, commands: int, slots: int) -> float:
    """Seconds for all, with the least that a spawner can do."""
    selector = selectors.DefaultSelector()
    environment = {"PATH": os.environ["PATH"]}
    started = running = ended = 0
    begin = time.perf_counter()
    while ended < commands:
        while running < slots and started < commands:
            place = folder / str(started)
            place.mkdir()
            pid = start(place, environment)
            selector.register(exit_fd(pid), selectors.EVENT_READ, pid)
            started, running = started + 1, running + 1
        for key, _ in selector.select():
            selector.unregister(key.fileobj)
            os.close(key.fd)
            assert os.waitpid(key.data, 0)[1] == 0
            running, ended = running - 1, ended + 1
    seconds = time.perf_counter() - begin
    selector.close()
    return seconds


def executor(folder: Path, commands: int, slots: int) -> float:
    """Seconds for all, from a node's event loop."""
    return asyncio.run(_executor(folder, commands, slots))


async def _executor(folder: Path, commands: int, slots: int) -> float:
    events: asyncio.Queue[Event] = asyncio.Queue()
    link = ExecutorLink(folder, events.put_nowait, "bench")
    await link.start()
    assert isinstance(await events.get(), ExecutorUp)
    payload = Payload(("true",))
    specs = (
        RunSpec(TaskId(f"t{n}"), Token(0, OWNER, 1, 1), payload, OWNER, Epoch(1, OWNER))
        for n in range(commands)
    )
    begin = time.perf_counter()
    link.run_many(islice(specs, slots))
    ended = 0
    while ended < commands:
        batch = [await events.get()]
        while not events.empty():
            batch.append(events.get_nowait())
        exits = [event for event in batch if isinstance(event, ProcessExited)]
        assert all(event.exit.code == 0 for event in exits)
        ended += len(exits)
        link.run_many(islice(specs, len(exits)))
    seconds = time.perf_counter() - begin
    await link.stop(0.0)
    return seconds


def main(commands: int = 500, rounds: int = 5, slots: int = os.cpu_count() or 1) -> None:
    ways: dict[str, Callable[[Path, int, int], float]] = {
        "subprocess": partial(bare, by_subprocess),
        "posix_spawn": partial(bare, by_posix_spawn),
        "executor": executor,
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            folder = Path(tempfile.mkdtemp(prefix="spawn-"))
            try:
                rates[name].append(commands / way(folder, commands, slots))
            finally:
                shutil.rmtree(folder)
    for name, values in rates.items():
        middle = statistics.median(values)
        print(f"{name:12} {middle:7.0f}/s  ({min(values):.0f}-{max(values):.0f})")
    for name in ("subprocess", "posix_spawn"):
        ratios = [mine / its for mine, its in zip(rates["executor"], rates[name], strict=True)]
        middle = statistics.median(ratios)
        print(f"executor / {name:12} {middle:.2f}  ({min(ratios):.2f}-{max(ratios):.2f})")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
