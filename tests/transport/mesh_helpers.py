"""What the transport tests share: keys, a roster that tests can change, and nodes on loopback."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import zmq

from openclaw.ids import NodeId
from openclaw.transport.mesh import MeshTransport
from openclaw.transport.zap import Zap
from openclaw.wire import Counters

LOOPBACK = ["127.0.0.1"]


@dataclass(frozen=True)
class Keys:
    curve_public: bytes
    curve_secret: bytes

    @staticmethod
    def new() -> Keys:
        return Keys(*zmq.curve_keypair())


@dataclass
class Book:
    """A roster in memory: whoever is written in is a member, until struck."""

    by_node: dict[NodeId, bytes] = field(default_factory=dict)
    revoked: set[NodeId] = field(default_factory=set)

    def curve_key(self, node: NodeId, /) -> bytes | None:
        return self.by_node.get(node)

    def by_curve_key(self, key: bytes, /) -> NodeId | None:
        return next((node for node, known in self.by_node.items() if known == key), None)

    def status_of_key(self, key: bytes, /) -> str:
        node = self.by_curve_key(key)
        return "unknown" if node is None else "revoked" if node in self.revoked else "member"

    def allows(self, node: NodeId, /) -> bool:
        return node in self.by_node and node not in self.revoked


@contextmanager
def silent_port() -> Iterator[int]:
    """A port on loopback that answers nothing at all: its queue of connections is full."""
    with socket.socket() as full, ExitStack() as waiting:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        yield full.getsockname()[1]


async def until(fact: Callable[[], bool], limit_s: float = 20.0) -> None:
    """Wait for a fact; the limit only ends a test that has failed."""
    async with asyncio.timeout(limit_s):
        while not fact():
            await asyncio.sleep(0.005)


class Node:
    """One mesh transport with a context of its own, and all that it ever heard."""

    def __init__(self, name: str, book: Book, port: int = 0, keys: Keys | None = None) -> None:
        self.id = NodeId(name)
        self.keys = keys or Keys.new()
        self.book = book
        book.by_node[self.id] = self.keys.curve_public
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.counters = Counters()
        self.zap = Zap(self.context, book, self.counters)
        self.heard: list[tuple[NodeId, bytes]] = []
        self.links: list[tuple[NodeId, bool, bool]] = []
        self.logged: list[str] = []
        self.transport = MeshTransport(
            self.context, self.keys, self.id, book, LOOPBACK, port,
            lambda peer, data: self.heard.append((peer, data)),
            lambda peer, up, refused: self.links.append((peer, up, refused)),
            counters=self.counters, log=self.logged.append,
        )  # fmt: skip

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.transport.port}"

    def knows(self, *others: Node) -> None:
        for other in others:
            self.transport.set_addresses(other.id, [other.address])

    async def close(self) -> None:
        await self.transport.close()
        self.zap.close()
        self.context.term()


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    try:
        for node in nodes:
            await node.transport.start()
        yield
    finally:
        for node in nodes:
            await node.close()
