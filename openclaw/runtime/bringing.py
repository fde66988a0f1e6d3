"""Brings files by their content to this node's cache: from the owner of a task, from a worker, from whoever has it.

However many ask for the same content at once, it comes over the network once: the others wait for their turn and
find it there, or go on where a transfer broke off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import ExitStack
from weakref import WeakValueDictionary

from openclaw.ids import NodeId
from openclaw.records import InputFile
from openclaw.runtime.context import Context
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.retention import Retention


class Bringing:
    """`bring` returns once the file is in the cache; raises OSError or MeshError."""

    def __init__(self, context: Context, pulls: Pulls, retention: Retention) -> None:
        self._context, self._pulls, self._retention = context, pulls, retention
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def bring(self, file: InputFile, peer: NodeId, kind: str, name: str) -> None:
        """From `peer`, who calls it `kind` and `name`; checked by its hash before it appears.

        Nothing of it happens in the event loop, neither hashing nor a write that waits for a full disk cache.
        """
        files = self._context.files
        async with self._turns.setdefault(file.sha256, asyncio.Lock()):
            if await asyncio.to_thread(files.use, file.sha256):
                return
            await self._retention.make_room_for(file.size)
            with ExitStack() as stack:
                writer = await asyncio.to_thread(stack.enter_context, files.writer(file.sha256, file.size))

                def write(data: bytes) -> Awaitable[None]:
                    return asyncio.to_thread(writer.write, data)

                await self._pulls.whole(peer, kind, name, writer.offset, write)
                await asyncio.to_thread(writer.commit)
