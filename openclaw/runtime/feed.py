"""What people can watch: the node's events as lines, and the moves of single tasks.

Both are fed from committed effects only, so whoever is told can find it on disk. Slow watchers lose lines rather
than slow the node down; a watcher of a task is only told *that* it moved and reads the record itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from openclaw.config import EVENTS_KEPT_MAX, WATCHERS_MAX
from openclaw.errors import Unavailable
from openclaw.ids import TaskId

Line = dict[str, object]
Told = Callable[[], Line]
"""A line, made when somebody reads it."""


class Feed:
    """The last `EVENTS_KEPT_MAX` lines, and a bounded queue for each follower."""

    def __init__(self) -> None:
        self._lines: deque[Told] = deque(maxlen=EVENTS_KEPT_MAX)
        self._followers: set[asyncio.Queue[Told]] = set()

    def add(self, line: Told) -> None:
        self._lines.append(line)
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(line)

    def lines(self) -> list[Line]:
        return [told() for told in self._lines]

    def follow(self) -> asyncio.Queue[Told]:
        queue: asyncio.Queue[Told] = asyncio.Queue(EVENTS_KEPT_MAX)
        self._followers.add(queue)
        return queue

    def unfollow(self, queue: asyncio.Queue[Told]) -> None:
        self._followers.discard(queue)


class Moves:
    """Wakes those who wait for tasks of this node to move."""

    def __init__(self) -> None:
        self._watchers: dict[TaskId, set[Callable[[TaskId], None]]] = {}
        self._claims: dict[TaskId, Callable[[TaskId], None]] = {}

    def moved(self, task: TaskId, *, ended: bool = True) -> None:
        """`ended`: it has come to its final state, or all of its output is here."""
        if ended and (claim := self._claims.get(task)) is not None:
            claim(task)
        for callback in tuple(self._watchers.get(task, ())):
            callback(task)

    def claim(self, tasks: Iterable[TaskId], callback: Callable[[TaskId], None]) -> None:
        """Whoever submitted a task hears of its end: one callback a task, so that there may be any number."""
        for task in tasks:
            self._claims[task] = callback

    def disclaim(self, tasks: Iterable[TaskId], callback: Callable[[TaskId], None]) -> None:
        for task in tasks:
            if self._claims.get(task) == callback:
                del self._claims[task]

    def watch(self, tasks: Iterable[TaskId], callback: Callable[[TaskId], None]) -> None:
        for task in tasks:
            if len(self._watchers) >= WATCHERS_MAX * 16:
                raise Unavailable(
                    "too many tasks are being waited for on this node; wait for fewer at a time"
                )
            self._watchers.setdefault(task, set()).add(callback)

    def unwatch(self, tasks: Iterable[TaskId], callback: Callable[[TaskId], None]) -> None:
        for task in tasks:
            callbacks = self._watchers.get(task)
            if callbacks is not None:
                callbacks.discard(callback)
                if not callbacks:
                    del self._watchers[task]


class Signal:
    """An edge that can be awaited again and again: set by a callback, cleared by the waiter."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def fire(self, _task: TaskId | None = None) -> None:
        self._event.set()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True when fired since the last wait, False after `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True
