"""What comes with a copy that we are to keep: the files that the task needs are here before the core hears of it.

A copy whose files cannot be had for now is not taken; its owner sends it again. Larger files than a guardian keeps
stay where they are: such a task can be taken over and not be started, which its story then says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from openclaw.config import GUARD_INPUT_BYTES_MAX, STAGED_COPIES_MAX
from openclaw.errors import MeshError
from openclaw.ids import NodeId
from openclaw.messages import Guard
from openclaw.records import InputFile
from openclaw.runtime.bringing import Bringing
from openclaw.runtime.context import Context
from openclaw.runtime.payloads import checked
from openclaw.runtime.sources import FILE


class Keeping:
    """`offer` hands a message to the core."""

    def __init__(self, context: Context, bringing: Bringing, offer: Callable[[Guard, NodeId], None]) -> None:
        self._context, self._bringing, self._offer = context, bringing, offer
        self._under_way: set[asyncio.Task[None]] = set()

    def receive(self, message: Guard, sender: NodeId) -> None:
        missing = self._missing(message)
        if not missing:
            self._offer(message, sender)
        elif len(self._under_way) < STAGED_COPIES_MAX:
            task = asyncio.get_running_loop().create_task(self._bring(message, missing, sender))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        for task in tuple(self._under_way):
            task.cancel()
        await asyncio.gather(*self._under_way, return_exceptions=True)

    def _missing(self, message: Guard) -> list[InputFile]:
        """The inputs of its tasks that are not here, of the tasks whose inputs a guardian keeps."""
        missing: list[InputFile] = []
        for item in message.items:
            if item.submission is None or item.progress.state.final:
                continue
            try:
                payload = checked(item.submission.payload)
            except MeshError:
                continue  # nobody can run it
            files = payload.inputs if payload.stdin is None else (*payload.inputs, payload.stdin)
            if sum(file.size for file in files) <= GUARD_INPUT_BYTES_MAX:
                missing += [file for file in files if not self._context.files.has(file.sha256)]
        return missing

    async def _bring(self, message: Guard, missing: list[InputFile], sender: NodeId) -> None:
        with self._context.files.held(file.sha256 for file in missing):
            try:
                for file in missing:
                    await self._bringing.bring(file, sender, FILE, file.sha256)
            except (OSError, ValueError, MeshError):
                return
            self._offer(message, sender)
