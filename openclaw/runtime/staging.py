"""Carries out `Run` and `Fetch`: brings a task's inputs to the worker and its outputs to the owner.

Everything travels by content hash or by offset, so a broken connection costs what was in flight and no more.
A task without files goes straight to the executor, in one frame with its neighbours.
"""

from __future__ import annotations

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from openclaw.config import FETCHES_PER_WORKER_MAX
from openclaw.effects import Fetch, Fetched, Kill, ProcessExited, Run
from openclaw.errors import MeshError
from openclaw.executor.link import RunSpec
from openclaw.executor.paths import SCRATCH, run_name
from openclaw.files import WrongContent, appear
from openclaw.ids import NodeId, TaskId, Token
from openclaw.records import REFUSED, Exit, Payload
from openclaw.runtime.bringing import Bringing
from openclaw.runtime.context import Context
from openclaw.runtime.payloads import checked
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.retention import NoRoom, Retention
from openclaw.runtime.sources import FILE, KEPT, LOG, OUTPUT, STREAMS, Sources
from openclaw.skills.resolve import SkillRefused
from openclaw.store_env import FULL_ERRNOS
from openclaw.transport.bulk import PullError, Why


class Staging:
    """One asyncio task per attempt that has files, none for the others."""

    def __init__(
        self, context: Context, sources: Sources, pulls: Pulls, bringing: Bringing, retention: Retention
    ) -> None:
        self._context, self._sources, self._pulls = context, sources, pulls
        self._bringing, self._retention = bringing, retention
        self._staging: dict[tuple[TaskId, Token], asyncio.Task[None]] = {}
        self._fetching: dict[tuple[TaskId, Token], asyncio.Task[None]] = {}
        self._lanes: defaultdict[NodeId, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(FETCHES_PER_WORKER_MAX)
        )

    def run(self, effects: Sequence[Run]) -> None:
        """Start these, but what was meant for an executor that is no more: it is asked for again, or handed back."""
        ready = []
        for effect in effects:
            if effect.life != self._context.link.life:
                continue
            try:
                payload = checked(effect.payload)
            except MeshError as error:
                self._post_exit(
                    effect.task, effect.token, Exit(125, ended_by="stage", error=str(error)[:1024])
                )
                continue
            if payload.inputs or payload.stdin is not None or payload.skill is not None:
                self._stage_later(effect, payload)
            else:
                ready.append(self._spec(effect, payload))
        if ready:
            self._context.link.run_many(ready)

    def kill(self, effect: Kill) -> None:
        """Ends the attempt wherever it is: still staging, or running."""
        task = self._staging.pop((effect.task, effect.token), None)
        if task is None:
            self._context.link.kill(effect.task, effect.token, effect.reason, effect.grace_s)
            return
        task.cancel()
        self._post_exit(effect.task, effect.token, Exit(130, ended_by=effect.reason))

    def abandon(self) -> None:
        """The executor was lost: what waited for its files to be started is to be started elsewhere."""
        for (task, token), staging in self._staging.items():
            staging.cancel()
            error = "the executor was lost before it could be started"
            self._post_exit(task, token, Exit(137, ended_by="orphaned", error=error))
        self._staging.clear()

    def fetch(self, effect: Fetch) -> None:
        key = (effect.task, effect.token)
        if key not in self._fetching:
            self._fetching[key] = asyncio.get_running_loop().create_task(self._fetch(effect))

    async def close(self) -> None:
        tasks = [*self._staging.values(), *self._fetching.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _stage_later(self, effect: Run, payload: Payload) -> None:
        key = (effect.task, effect.token)
        self._staging[key] = asyncio.get_running_loop().create_task(self._stage(effect, payload))

    async def _stage(self, effect: Run, payload: Payload) -> None:
        files = payload.inputs if payload.stdin is None else (*payload.inputs, payload.stdin)
        try:
            if payload.skill is not None:
                payload = await self._context.skills.resolve(payload, payload.skill)
            with self._context.files.held(file.sha256 for file in files):
                stdin = await self._bring_all(effect, payload)
        except (OSError, ValueError, MeshError) as error:
            self._staging.pop((effect.task, effect.token), None)
            text = f"its input could not be brought to this node: {error}"
            text = str(error) if isinstance(error, SkillRefused) else text
            ended_by = REFUSED if _no_room(error) else "stage"
            self._post_exit(effect.task, effect.token, Exit(125, ended_by=ended_by, error=text[:1024]))
            return
        self._staging.pop((effect.task, effect.token), None)
        self._context.link.run_many([self._spec(effect, payload, stdin)])

    async def _bring_all(self, effect: Run, payload: Payload) -> Path | None:
        """The inputs into the scratch directory; where its standard input lies, if it has one."""
        scratch = self._context.link.run_dir(effect.task, effect.token) / SCRATCH
        await self._retention.make_room_for(
            2 * sum(file.size for file in payload.inputs)
        )  # here, and in the scratch
        for file in payload.inputs:
            await self._bringing.bring(file, effect.owner, FILE, file.sha256)
            await asyncio.to_thread(self._context.files.link_into, file.sha256, scratch / file.name)
        if payload.stdin is None:
            return None
        await self._bringing.bring(payload.stdin, effect.owner, FILE, payload.stdin.sha256)
        return self._context.files.path(payload.stdin.sha256)

    def _spec(self, effect: Run, payload: Payload, stdin: Path | None = None) -> RunSpec:
        stdin_path = "" if stdin is None else str(stdin)
        return RunSpec(
            effect.task,
            effect.token,
            payload,
            effect.owner,
            effect.epoch,
            stdin_path,
            effect.gpus,
            effect.slots,
            effect.until_s,
        )

    def _post_exit(self, task: TaskId, token: Token, exit: Exit) -> None:
        now = self._context.wall()
        self._context.post(
            ProcessExited(task, token, Exit(exit.code, exit.ended_by, exit.error, started=now, ended=now))
        )

    # --- the owner's side ------------------------------------------------------------------------

    async def _fetch(self, effect: Fetch) -> None:
        ok = gone = False
        try:
            async with self._lanes[effect.worker]:
                await self._fetch_all(effect)
            ok = True
        except (OSError, ValueError, MeshError) as error:
            gone = isinstance(error, WrongContent) or (
                isinstance(error, PullError) and error.why is Why.REFUSED
            )
        finally:
            self._fetching.pop((effect.task, effect.token), None)
        self._context.post(Fetched(effect.task, effect.token, ok, gone))

    async def _fetch_all(self, effect: Fetch) -> None:
        exit, attempt = effect.exit, run_name(effect.task, effect.token)
        await self._retention.make_room_for(exit.kept_bytes)
        for stream, inline, size, cut, head in zip(
            STREAMS,
            (exit.stdout, exit.stderr),
            (exit.stdout_size, exit.stderr_size),
            (exit.stdout_cut, exit.stderr_cut),
            (exit.stdout_head, exit.stderr_head),
            strict=True,
        ):
            if len(inline) < size and effect.kept:
                await self._fetch_log(effect, KEPT, f"{effect.task}/{stream}", stream, 0, 0)
            elif len(inline) < size:
                await self._fetch_log(effect, LOG, f"{attempt}/{stream}", stream, head, cut)
        for output in exit.outputs:
            kind, name = (FILE, output.sha256) if effect.kept else (OUTPUT, f"{attempt}/{output.name}")
            await self._bringing.bring(output, effect.worker, kind, name)

    async def _fetch_log(self, effect: Fetch, kind: str, name: str, stream: str, head: int, cut: int) -> None:
        """The kept log is the head and the tail; how much is missing between them is in the exit record."""
        kept = self._sources.kept(effect.task, stream)
        partial = kept.with_suffix(kept.suffix + ".part")
        with open(partial, "wb", opener=_private) as file:
            if cut:
                await self._pulls.first(effect.worker, kind, name, head, file.write)

            async def write(data: bytes) -> None:
                await asyncio.to_thread(file.write, data)

            await self._pulls.whole(effect.worker, kind, name, head + cut if cut else 0, write)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())  # its worker forgets it after this
        await asyncio.to_thread(appear, partial, kept)


def _no_room(error: Exception) -> bool:
    return isinstance(error, NoRoom) or (isinstance(error, OSError) and error.errno in FULL_ERRNOS)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
