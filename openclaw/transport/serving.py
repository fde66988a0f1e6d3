"""The serving half of bulk transfers: reads no further ahead than the puller's credit.

Promises: a bounded number of pulls is served at once, each holds at most one read of a few chunks,
and each ends with its source closed: when its bytes end, when it is stopped, or when its puller falls silent.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from openclaw.config import BULK_CHUNK_BYTES, BULK_CREDIT_CHUNKS, BULK_SERVES_MAX
from openclaw.ids import NodeId
from openclaw.transport.frames import AnyFrame, Chunk, End, Fail, Pull, Ref

T = TypeVar("T")
ALIVE_S = 5.0
SILENCE_S = 15.0
FULL_PIPE_S = 0.01
CHUNKS_PER_READ = BULK_CREDIT_CHUNKS // 2


class Source(Protocol):
    """Bytes to serve. `read` waits until there is at least one byte; None is the end."""

    async def read(self, offset: int, size: int, /) -> bytes | None: ...
    def close(self) -> None: ...


Serve = Callable[[NodeId, Ref], Source | None]
Sender = Callable[[NodeId, AnyFrame], bool]


class FileSource:
    """A file as it is; read in a thread, so that a slow disk does not stop the node."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)

    async def read(self, offset: int, size: int, /) -> bytes | None:
        return await asyncio.to_thread(os.pread, self._file.fileno(), size, offset) or None

    def close(self) -> None:
        self._file.close()


async def heed(work: Awaitable[T], alive: Callable[[], None]) -> T:
    """The result of `work`; meanwhile `alive` is called now and then, and ends it by raising."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=ALIVE_S))[0]:
            alive()
        return task.result()
    finally:
        task.cancel()


class _Serving:
    """One pull that is served, and how many chunks it may still send."""

    def __init__(self, credit: int) -> None:
        self.credit = min(credit, BULK_CREDIT_CHUNKS)
        self.news = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def grant(self, chunks: int) -> None:
        self.credit = min(self.credit + chunks, BULK_CREDIT_CHUNKS)
        self.news.set()

    async def take(self) -> int:
        """Wait for credit and take what is worth one read; TimeoutError when the puller has fallen silent."""
        while self.credit <= 0:
            self.news.clear()
            async with asyncio.timeout(SILENCE_S):
                await self.news.wait()
        chunks = min(self.credit, CHUNKS_PER_READ)
        self.credit -= chunks
        return chunks


class Servings:
    """All pulls that this node serves now, by puller and its number."""

    def __init__(self, serve: Serve, send: Sender) -> None:
        self._find = serve
        self._send = send
        self._under_way: dict[tuple[NodeId, int], _Serving] = {}

    def begin(self, peer: NodeId, pull: Pull) -> None:
        key = peer, pull.id
        if key in self._under_way:
            return
        if len(self._under_way) >= BULK_SERVES_MAX:
            self._send(peer, Fail(pull.id, True, "too many transfers at once: try again later"))
            return
        try:
            source = self._find(peer, pull.ref)
        except OSError as error:
            self._send(peer, Fail(pull.id, True, f"cannot be read: {error.strerror}"))
            return
        if source is None:
            self._send(peer, Fail(pull.id, True, f"no {pull.ref.kind} named {pull.ref.name} here"))
            return
        serving = self._under_way[key] = _Serving(pull.credit)
        serving.task = asyncio.get_running_loop().create_task(self._serve(peer, pull, source, serving))
        serving.task.add_done_callback(lambda _task: self._over(key, source))

    def grant(self, peer: NodeId, pull_id: int, chunks: int) -> None:
        if serving := self._under_way.get((peer, pull_id)):
            serving.grant(chunks)

    def stop(self, peer: NodeId, pull_id: int) -> None:
        serving = self._under_way.get((peer, pull_id))
        if serving is not None and serving.task is not None:
            serving.task.cancel()

    def gone(self, peer: NodeId) -> None:
        for who, pull_id in list(self._under_way):
            if who == peer:
                self.stop(peer, pull_id)

    async def close(self) -> None:
        tasks = [serving.task for serving in self._under_way.values() if serving.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __len__(self) -> int:
        return len(self._under_way)

    def _over(self, key: tuple[NodeId, int], source: Source) -> None:
        del self._under_way[key]
        source.close()

    async def _serve(self, peer: NodeId, pull: Pull, source: Source, serving: _Serving) -> None:
        offset = pull.ref.offset

        def alive() -> None:
            if not self._send(peer, Chunk(pull.id, offset, b"")):
                raise ConnectionError(f"{peer} is gone")

        try:
            while True:
                chunks = await serving.take()
                data = await heed(source.read(offset, chunks * BULK_CHUNK_BYTES), alive)
                if data is None:
                    await self._push(peer, End(pull.id, offset))
                    return
                for start in range(0, len(data), BULK_CHUNK_BYTES):
                    part = data[start : start + BULK_CHUNK_BYTES]
                    await self._push(peer, Chunk(pull.id, offset + start, part))
                    chunks -= 1
                serving.credit += chunks
                offset += len(data)
        except (TimeoutError, ConnectionError):
            return
        except OSError as error:
            self._send(peer, Fail(pull.id, False, f"reading failed: {error.strerror}"))

    async def _push(self, peer: NodeId, frame: AnyFrame) -> None:
        """Send, waiting while the pipe is full."""
        async with asyncio.timeout(SILENCE_S):
            while not self._send(peer, frame):
                await asyncio.sleep(FULL_PIPE_S)
