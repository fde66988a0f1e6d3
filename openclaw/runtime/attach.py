"""Follows one task: where it was placed, its output as it is written, how it ended.

Output that is still being written is pulled from the worker; what is missing once the task has ended comes from its
record (small outputs ride inline) or from the owner, who keeps the rest. Offsets are the command's own, so a
follower that lost its connection, or its worker, goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from openclaw.errors import MeshError, Unavailable
from openclaw.executor.paths import run_name
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Status
from openclaw.records import Exit, State
from openclaw.runtime.context import Context
from openclaw.runtime.docs import exit_code
from openclaw.runtime.locate import Snapshot
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.sources import KEPT, LOG, STREAMS
from openclaw.runtime.tasks import Tasks
from openclaw.transport.bulk import PullError

Emit = Callable[[dict[str, object]], Awaitable[None]]


class Attachment:
    """One follower of one task. `offsets` are (stdout, stderr) bytes that it already has; None skips a stream."""

    def __init__(
        self,
        context: Context,
        tasks: Tasks,
        pulls: Pulls,
        emit: Emit,
        offsets: tuple[int | None, int | None] = (0, 0),
    ) -> None:
        self._context, self._tasks, self._bytes, self._emit = context, tasks, pulls, emit
        self._sent = list(offsets)
        self._followed: list[asyncio.Task[None]] = []
        self._following: Token | None = None
        self._placed: tuple[NodeId, int] | None = None

    async def follow(self, task: TaskId) -> Snapshot:
        """Until the task is final and all its output has been emitted."""
        snapshot = await self._tasks.read(task)
        try:
            while not snapshot.done:
                await self._show(snapshot)
                self._check_reachable(snapshot)
                snapshot = await self._next(snapshot)
            await self._show_placed(snapshot)
            await self._drain(snapshot)
        finally:
            await self._end_pulls()
        return snapshot

    def _check_reachable(self, snapshot: Snapshot) -> None:
        """A task that has ended may have its output on a machine that sleeps for days: nobody waits for that."""
        progress = snapshot.progress
        worker = self._context.node.membership.members().get(progress.worker)
        if progress.state.final and (worker is None or worker.status >= Status.DOWN):
            name, task = self._context.name_of(progress.worker), snapshot.submission.task
            raise Unavailable(
                f"the task has {progress.state} (exit code {exit_code(progress)}), but its output is still on {name}, "
                f"which is away; it is fetched when that is back: openclaw task logs {task}",
                kind="output_away",
            )

    async def so_far(self, task: TaskId) -> Snapshot:
        """What there is now, without waiting for more."""
        snapshot = await self._tasks.read(task)
        if snapshot.done:
            await self._drain(snapshot)
        elif snapshot.progress.token is not None and snapshot.progress.worker:
            for stream in range(2):
                await self._pull_once(
                    stream, snapshot.progress.worker, task, snapshot.progress.token, follow=False
                )
        return snapshot

    async def _next(self, snapshot: Snapshot) -> Snapshot:
        try:
            return await self._tasks.changed(snapshot)
        except MeshError:
            await asyncio.sleep(1.0)  # the owner is away: the task goes on, and so do we
            return snapshot

    async def _show(self, snapshot: Snapshot) -> None:
        await self._show_placed(snapshot)
        progress = snapshot.progress
        if (
            progress.state is State.RUNNING
            and progress.token is not None
            and progress.token != self._following
        ):
            await self._end_pulls()
            self._following = progress.token
            self._followed = [
                asyncio.create_task(
                    self._pull_log(stream, progress.worker, snapshot.submission.task, progress.token)
                )
                for stream in range(2)
                if self._sent[stream] is not None
            ]

    async def _show_placed(self, snapshot: Snapshot) -> None:
        progress = snapshot.progress
        place = (progress.worker, progress.attempt)
        if progress.worker and place != self._placed:
            self._placed = place
            name = self._context.name_of(progress.worker)
            await self._emit({"event": "placed", "node": name, "attempt": progress.attempt})

    async def _pull_log(self, stream: int, worker: NodeId, task: TaskId, token: Token) -> None:
        try:
            await self._pull_once(stream, worker, task, token, follow=True)
        except PullError:
            return  # what is missing comes from the record, or from the next attempt

    async def _pull_once(self, stream: int, worker: NodeId, task: TaskId, token: Token, follow: bool) -> None:
        offset = self._sent[stream]
        if offset is None:
            return
        name = f"{run_name(task, token)}/{STREAMS[stream]}"
        await self._bytes.whole(
            worker, LOG, name, offset, lambda data: self._out(stream, data), follow=follow
        )

    async def _out(self, stream: int, data: bytes) -> None:
        sent = self._sent[stream]
        assert sent is not None
        await self._emit({"event": "out", "stream": stream + 1, "offset": sent, "data": data})
        self._sent[stream] = sent + len(data)  # only now: a cancelled emit has written nothing

    async def _drain(self, snapshot: Snapshot) -> None:
        """The rest of the output of a task that has ended, from its record or from its owner."""
        exit = snapshot.progress.exit
        await self._end_pulls()
        if exit is None:
            return
        for stream in range(2):
            if self._sent[stream] is not None:
                await self._rest(stream, snapshot, exit)

    async def _rest(self, stream: int, snapshot: Snapshot, exit: Exit) -> None:
        inline, size, cut, head = (
            (exit.stdout, exit.stdout_size, exit.stdout_cut, exit.stdout_head),
            (exit.stderr, exit.stderr_size, exit.stderr_cut, exit.stderr_head),
        )[stream]
        sent = self._sent[stream] or 0
        if sent >= size:
            return
        if len(inline) == size:
            await self._out(stream, inline[sent:])
            return
        name = f"{snapshot.submission.task}/{STREAMS[stream]}"
        kept_at = sent if sent <= head or not cut else max(head, sent - cut)
        at = kept_at

        async def out(data: bytes) -> None:
            """Kept are head and tail, one after the other: what follows the head was further on when it was written."""
            nonlocal at
            whole = max(0, head - at) if cut else len(data)
            for part in (data[:whole], data[whole:]):
                if part:
                    self._sent[stream] = at + cut if cut and at >= head else at
                    await self._out(stream, part)
                    at += len(part)

        await self._bytes.whole(snapshot.holder, KEPT, name, kept_at, out)

    async def _end_pulls(self) -> None:
        for pull in self._followed:
            pull.cancel()
        await asyncio.gather(*self._followed, return_exceptions=True)
        self._followed = []
