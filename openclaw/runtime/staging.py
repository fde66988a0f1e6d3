"""Carries out `Run` and `Fetch`: brings a task's inputs to the worker and its outputs to the owner.

Everything travels by content hash or by offset, so a broken connection costs what was in flight and no more.
A task without files goes straight to the executor, in one frame with its neighbours.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from openclaw.effects import Fetch, Fetched, Kill, ProcessExited, Run
from openclaw.executor.link import RunSpec
from openclaw.executor.paths import SCRATCH, run_name
from openclaw.ids import NodeId, TaskId, Token
from openclaw.records import Exit, InputFile, Payload
from openclaw.runtime.context import Context
from openclaw.runtime.docs import decode_payload
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.sources import FILE, LOG, OUTPUT, STREAMS, Sources
from openclaw.transport.bulk import PullError


class Staging:
    """One asyncio task per attempt that has files, none for the others."""

    def __init__(self, context: Context, sources: Sources, pulls: Pulls) -> None:
        self._context, self._sources, self._pulls = context, sources, pulls
        self._staging: dict[tuple[TaskId, Token], asyncio.Task[None]] = {}
        self._fetching: dict[tuple[TaskId, Token], asyncio.Task[None]] = {}

    def run(self, effects: Sequence[Run]) -> None:
        ready = []
        for effect in effects:
            payload = decode_payload(effect.payload)
            if payload.inputs or payload.stdin is not None:
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
        scratch = self._context.link.run_dir(effect.task, effect.token) / SCRATCH
        stdin = None
        try:
            for file in payload.inputs:
                await self._bring(file, effect.owner)
                await asyncio.to_thread(self._context.files.link_into, file.sha256, scratch / file.name)
            if payload.stdin is not None:
                await self._bring(payload.stdin, effect.owner)
                stdin = self._context.files.path(payload.stdin.sha256)
        except (OSError, PullError) as error:
            self._staging.pop((effect.task, effect.token), None)
            text = f"its input could not be brought to this node: {error}"
            self._post_exit(effect.task, effect.token, Exit(125, ended_by="stage", error=text[:1024]))
            return
        self._staging.pop((effect.task, effect.token), None)
        self._context.link.run_many([self._spec(effect, payload, stdin)])

    async def _bring(self, file: InputFile, owner: NodeId) -> None:
        """The file is in this node's store of contents when it returns, checked by its hash."""
        files = self._context.files
        if files.has(file.sha256):
            return
        with files.writer(file.sha256, file.size) as writer:
            await self._pulls.whole(owner, FILE, file.sha256, writer.offset, writer.write)
            writer.commit()

    def _spec(self, effect: Run, payload: Payload, stdin: Path | None = None) -> RunSpec:
        stdin_path = "" if stdin is None else str(stdin)
        return RunSpec(effect.task, effect.token, payload, effect.owner, effect.epoch, stdin_path)

    def _post_exit(self, task: TaskId, token: Token, exit: Exit) -> None:
        now = self._context.wall()
        self._context.post(
            ProcessExited(task, token, Exit(exit.code, exit.ended_by, exit.error, started=now, ended=now))
        )

    # --- the owner's side ------------------------------------------------------------------------

    async def _fetch(self, effect: Fetch) -> None:
        ok = True
        try:
            await self._fetch_all(effect)
        except (OSError, PullError):
            ok = False
        finally:
            self._fetching.pop((effect.task, effect.token), None)
        self._context.post(Fetched(effect.task, effect.token, ok))

    async def _fetch_all(self, effect: Fetch) -> None:
        exit, attempt = effect.exit, run_name(effect.task, effect.token)
        for stream, inline, size, cut, head in zip(
            STREAMS,
            (exit.stdout, exit.stderr),
            (exit.stdout_size, exit.stderr_size),
            (exit.stdout_cut, exit.stderr_cut),
            (exit.stdout_head, exit.stderr_head),
            strict=True,
        ):
            if len(inline) < size:
                await self._fetch_log(effect, f"{attempt}/{stream}", stream, head, cut)
        for output in exit.outputs:
            if not self._context.files.has(output.sha256):
                with self._context.files.writer(output.sha256, output.size) as writer:
                    name = f"{attempt}/{output.name}"
                    await self._pulls.whole(effect.worker, OUTPUT, name, writer.offset, writer.write)
                    writer.commit()

    async def _fetch_log(self, effect: Fetch, name: str, stream: str, head: int, cut: int) -> None:
        """The kept log is the head and the tail; how much is missing between them is in the exit record."""
        kept = self._sources.kept(effect.task, stream)
        partial = kept.with_suffix(kept.suffix + ".part")
        with open(partial, "wb", opener=_private) as file:
            if cut:
                await self._pulls.first(effect.worker, LOG, name, head, file.write)
            await self._pulls.whole(effect.worker, LOG, name, head + cut if cut else 0, _writing(file))
        partial.replace(kept)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _writing(file: IO[bytes]) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        file.write(data)

    return write
