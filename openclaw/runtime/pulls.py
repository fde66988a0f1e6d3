"""Bytes from wherever they are: from another node over its bulk port, or from our own disk, by the same names.

A broken connection is taken up again at the offset that was reached, a bounded number of times.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from openclaw.config import BULK_CHUNK_BYTES
from openclaw.ids import NodeId
from openclaw.runtime.context import Context
from openclaw.runtime.sources import Sources
from openclaw.transport.bulk import PullError, Why
from openclaw.transport.frames import Ref

Sink = Callable[[bytes], Awaitable[None] | None]

TRIES_MAX = 5
RETRY_S = 0.5


class _Enough(Exception):
    """The sink has all that it wants."""


class Pulls:
    """`whole` brings everything from an offset on; `first` at most so many bytes."""

    def __init__(self, context: Context, sources: Sources) -> None:
        self._context, self._sources = context, sources

    async def whole(
        self, peer: NodeId, kind: str, name: str, offset: int, sink: Sink, *, follow: bool = False
    ) -> None:
        """To the end, and with `follow` to the end of what is still being written.

        Raises PullError: REFUSED at once, anything else after `TRIES_MAX` attempts without a byte in between.
        """
        reached, tries = offset, 0

        async def count(data: bytes) -> None:
            nonlocal reached, tries
            reached, tries = reached + len(data), 0
            done = sink(data)
            if inspect.isawaitable(done):
                await done

        while True:
            try:
                await self._once(peer, Ref(kind, name, reached, follow), count)
                return
            except PullError as error:
                tries += 1
                if error.why is Why.REFUSED or tries >= TRIES_MAX:
                    raise
                await asyncio.sleep(RETRY_S * tries)

    async def first(
        self, peer: NodeId, kind: str, name: str, length: int, sink: Callable[[bytes], object]
    ) -> None:
        """The first `length` bytes."""
        room = length

        def take(data: bytes) -> None:
            nonlocal room
            sink(data[:room])
            room -= min(room, len(data))
            if not room:
                raise _Enough

        try:
            await self.whole(peer, kind, name, 0, take)
        except _Enough:
            pass

    async def _once(self, peer: NodeId, ref: Ref, sink: Sink) -> None:
        if peer != self._context.me:
            await self._context.bulk.pull(peer, ref, sink)
            return
        source = self._sources.serve(peer, ref)
        if source is None:
            raise PullError(Why.REFUSED, f"this node has no {ref.kind} {ref.name}", 0)
        offset = ref.offset
        try:
            while (data := await source.read(offset, BULK_CHUNK_BYTES)) is not None:
                offset += len(data)
                done = sink(data)
                if inspect.isawaitable(done):
                    await done
        finally:
            source.close()
