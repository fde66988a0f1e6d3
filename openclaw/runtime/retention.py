"""Makes room: forgets tasks that are over and have been kept long enough, and files that nobody needs.

What the core deletes it deletes in small transactions with pauses between them, so that a node that forgets a hundred
thousand tasks goes on serving. A task's logs go after its records: a crash in between leaves logs of nobody, which
the next start finds. A task that is not over is never touched, nor a file that one names.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Iterable
from pathlib import Path

from openclaw.config import (
    DISK_LOOK_EVERY_S,
    FORGET_AT_ONCE_MAX,
    FORGET_FIRST_S,
    FORGET_LOOK_MAX,
    FORGET_PAUSE_S,
    ROOM_SHARE,
)
from openclaw.effects import ForgetAsked
from openclaw.errors import MeshError
from openclaw.exec.keeping import look_every_s, outlived
from openclaw.ids import TaskId
from openclaw.notes import Forgotten
from openclaw.records import Ended
from openclaw.runtime.context import Context
from openclaw.runtime.sources import STREAMS, Sources
from openclaw.store import Need

log = logging.getLogger("openclaw")


class NoRoom(MeshError):
    """Not here and not now; elsewhere, or later, there may be."""

    kind = "disk_full"
    exit_code = 125


class Retention:
    """One per node. `run` goes on for ever; `forgotten` is told what the core has deleted."""

    def __init__(self, context: Context, sources: Sources) -> None:
        self._context, self._sources = context, sources
        self._answer: asyncio.Future[tuple[TaskId, ...]] | None = None

    async def run(self) -> None:
        """Trouble with the disk is told and tried again: it is no reason to end."""
        await self._attempt(asyncio.to_thread(self._context.files.count))
        await asyncio.sleep(FORGET_FIRST_S)
        await self._attempt(asyncio.to_thread(self._drop_strays))
        while True:
            await self._attempt(self.sweep())
            due = self._context.now() + look_every_s(self._context.options.limits.keep_s)
            while self._context.now() < due:
                await asyncio.sleep(DISK_LOOK_EVERY_S)
                if self._context.disk_low():
                    await self._attempt(self.make_room(0))

    async def sweep(self) -> None:
        """Once: tasks by age and size, then files."""
        forgotten = await self._forget_tasks()
        if forgotten:
            log.info("forgot %d tasks that ended long ago", forgotten)
        await self.make_room()

    async def make_room(self, bytes_max: int | None = None) -> int:
        """Drop files that nobody needs until the others fit; the bytes of those that must stay or are in use.

        What kept tasks left as outputs is not among them: it goes with its task.
        """
        limit = self._context.options.limits.files_bytes if bytes_max is None else bytes_max
        return await asyncio.to_thread(self._make_room, limit)

    async def make_room_for(self, size: int) -> None:
        """For so many bytes more on this disk. Raises NoRoom, though files that nobody needs were dropped."""
        context = self._context
        if context.files.bytes + size > context.options.limits.files_bytes:
            await self.make_room()
        if context.disk_low(size):
            await self.make_room(0)
        if free := context.disk_low(size):
            raise NoRoom(f"its disk has only {free >> 20} MiB left, too little for {size >> 20} MiB more")

    def forgotten(self, note: Forgotten) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(note.tasks)

    async def _attempt(self, work: Awaitable[object]) -> None:
        try:
            await work
        except (OSError, MeshError) as error:
            log.warning("could not make room: %s", error)

    # --- tasks -----------------------------------------------------------------------------------

    async def _forget_tasks(self) -> int:
        limits, store = self._context.options.limits, self._context.store
        used = await asyncio.to_thread(self._kept_bytes)
        excess = used - int(limits.keep_bytes * ROOM_SHARE) if used > limits.keep_bytes else 0
        count, place = 0, b""
        while True:
            wall_s = time.time()
            until = math.inf if excess > 0 else wall_s - limits.keep_s
            ended, place = await asyncio.to_thread(store.ended, place, FORGET_LOOK_MAX, until)
            gone = outlived(ended, wall_s, limits.keep_s, excess)
            excess -= sum(each.bytes for each in gone)
            for start in range(0, len(gone), FORGET_AT_ONCE_MAX):
                count += await self._forget(gone[start : start + FORGET_AT_ONCE_MAX])
            if not place:
                return count + await self._forget_copies(until)

    async def _forget_copies(self, until: float) -> int:
        """Copies of what ended at other owners go the same way, and nobody need be asked: no core remembers them."""
        count = 0
        while gone := await asyncio.to_thread(self._context.store.forget_results, until, FORGET_AT_ONCE_MAX):
            count += len(gone)
            await asyncio.to_thread(self._drop_logs, gone)
            await asyncio.sleep(FORGET_PAUSE_S)
        return count

    async def _forget(self, gone: list[Ended]) -> int:
        self._answer = asyncio.get_running_loop().create_future()
        self._context.post(ForgetAsked(tuple(gone)))
        deleted = await self._answer
        await asyncio.to_thread(self._drop_logs, deleted)
        await asyncio.sleep(FORGET_PAUSE_S)
        return len(deleted)

    def _kept_bytes(self) -> int:
        """What tasks take on this disk: their records, logs and outputs."""
        store, files = self._context.store, self._context.files
        outputs = (files.path(sha256) for sha256 in store.output_files())
        return store.task_bytes() + _size(self._sources.logs_dir.iterdir()) + _size(outputs)

    def _drop_logs(self, tasks: Iterable[TaskId]) -> None:
        for task in tasks:
            for stream in STREAMS:
                self._sources.kept(task, stream).unlink(missing_ok=True)

    def _drop_strays(self) -> None:
        """Logs of tasks of ours that are not there any more."""
        for path in self._sources.logs_dir.iterdir():
            task = TaskId(path.name.partition(".")[0])
            if not self._context.store.has(task) and self._context.store.copy(task) is None:
                path.unlink(missing_ok=True)

    # --- files -----------------------------------------------------------------------------------

    def _make_room(self, bytes_max: int) -> int:
        store = self._context.store
        return self._context.files.evict(
            bytes_max,
            lambda sha256: store.file_need(sha256) is not Need.OUTPUT,
            lambda sha256: store.file_need(sha256) is not Need.NONE,
            time.time(),
        )


def _size(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total
