"""A work queue on NATS JetStream for `benchmarks.handlers`: submitter, and workers as processes.

    python -m benchmarks.handlers_nats PORT FETCH

A task is a message in a stream of file storage; its result is published to the submitter, then it is acknowledged.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable
from typing import Any, Self

import msgpack
import nats
from nats.errors import TimeoutError as NothingThere
from nats.js.api import RetentionPolicy, StorageType

UNDER_WAY_MAX = 1000  # publications that no acknowledgement has come to yet
PATIENCE_S = 120.0


class Queue:
    """The submitter."""

    def __init__(self, connection: Any) -> None:
        self._connection, self._stream = connection, connection.jetstream()
        self._results: dict[int, int] = {}
        self._wanted = 0
        self._done = asyncio.Event()

    @classmethod
    async def open(cls, port: int) -> Self:
        queue = cls(await nats.connect(f"nats://127.0.0.1:{port}"))
        await queue._stream.add_stream(
            name="tasks", subjects=["tasks"], storage=StorageType.FILE, retention=RetentionPolicy.WORK_QUEUE
        )
        await queue._connection.subscribe("results", cb=queue._take)
        return queue

    async def run(self, values: Iterable[int]) -> list[int]:
        values = list(values)
        self._results.clear()
        self._wanted = len(values)
        self._done.clear()
        lanes = asyncio.Semaphore(UNDER_WAY_MAX)

        async def publish(number: int, value: int) -> None:
            async with lanes:
                await self._stream.publish("tasks", msgpack.packb([number, value]))

        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            for number, value in enumerate(values):
                group.create_task(publish(number, value))
            await self._done.wait()
        return [self._results[number] for number in range(len(values))]

    async def _take(self, message: Any) -> None:
        number, result = msgpack.unpackb(message.data)
        self._results[number] = result
        if len(self._results) == self._wanted:
            self._done.set()

    async def close(self) -> None:
        await self._connection.close()


async def work(port: int, fetch: int) -> None:
    connection = await nats.connect(f"nats://127.0.0.1:{port}")
    pulled = await connection.jetstream().pull_subscribe("tasks", durable="workers")
    while True:
        with contextlib.suppress(NothingThere):
            for message in await pulled.fetch(fetch, timeout=5):
                number, value = msgpack.unpackb(message.data)
                await connection.publish("results", msgpack.packb([number, value + 1]))
                await message.ack()


if __name__ == "__main__":
    asyncio.run(work(int(sys.argv[1]), int(sys.argv[2])))
