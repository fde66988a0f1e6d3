"""A node without a mesh: the link to a real executor, and what it said, in order."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from openclaw.effects import Event, ExecutorUp, ProcessExited
from openclaw.executor.link import LIMITS, ExecutorLink, RunSpec
from openclaw.executor.process import Limits
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.records import Exit, Held, Payload

OWNER = NodeId("owner")
PATIENCE_S = 30.0
T = TypeVar("T")


def token(attempt: int = 1) -> Token:
    return Token(0, OWNER, 1, attempt)


def command(task: str, *argv: str, attempt: int = 1, stdin_path: str = "", **payload: object) -> RunSpec:
    return RunSpec(
        TaskId(task),
        token(attempt),
        Payload(argv, **payload),  # type: ignore[arg-type]
        OWNER,
        Epoch(7, OWNER),
        stdin_path,
    )


def shell(task: str, script: str, **payload: object) -> RunSpec:
    return command(task, "sh", "-c", script, **payload)  # type: ignore[arg-type]


class Node:
    """A link and all that it said, in order."""

    def __init__(self, state_dir: Path, limits: Limits = LIMITS, orphan_s: float = 3600.0) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.state_dir = state_dir
        self.link = ExecutorLink(state_dir, self.events.put_nowait, "here", orphan_s, limits, grace_s=5.0)

    async def up(self) -> dict[str, Held]:
        await self.link.start()
        return await self.held()

    async def held(self) -> dict[str, Held]:
        event = await self.next()
        assert isinstance(event, ExecutorUp), event
        return {row.task: row for row in event.held}

    async def next(self) -> Event:
        return await asyncio.wait_for(self.events.get(), PATIENCE_S)

    async def exit(self, task: str) -> Exit:
        while True:
            event = await self.next()
            if isinstance(event, ProcessExited) and event.task == task:
                return event.exit

    async def run(self, spec: RunSpec) -> Exit:
        self.link.run(spec)
        return await self.exit(spec.task)

    async def ready(self, spec: RunSpec, name: str = "ready") -> str:
        """Start a command that makes a file in its scratch directory; what it wrote there."""
        self.link.run(spec)
        path = self.link.run_dir(spec.task, spec.token) / "scratch" / name
        return await until(lambda: path.exists() and path.read_text().strip())

    def kill(self, task: str, reason: str = "cancel", grace_s: float = 5.0) -> None:
        self.link.kill(TaskId(task), token(), reason, grace_s)

    async def executor_pid(self) -> int:
        marker = str(self.state_dir).encode()
        for name in os.listdir("/proc"):
            if name.isdigit():
                line = Path(f"/proc/{name}/cmdline")
                try:
                    words = line.read_bytes().split(b"\0")
                except OSError:
                    continue
                if b"openclaw.executor.main" in words and marker in words:
                    return int(name)
        raise AssertionError("no executor")


async def until(fact: Callable[[], T]) -> T:
    """Wait for something outside of this process that cannot be awaited."""
    async with asyncio.timeout(PATIENCE_S):
        while not (value := fact()):
            await asyncio.sleep(0.005)
        return value


@asynccontextmanager
async def node(state_dir: Path, limits: Limits = LIMITS, orphan_s: float = 3600.0) -> AsyncIterator[Node]:
    """A node whose executor is up, and gone afterwards with all that it ran."""
    one = Node(state_dir, limits, orphan_s)
    await one.up()
    try:
        yield one
    finally:
        await one.link.stop(0.0)
