"""Bulk bytes between members: files and long output, on a port of their own so that no heartbeat waits.

Whoever wants bytes pulls them, at an offset, over whichever connection the two have: a side that cannot be
dialled is asked over its own. The puller grants credit a few chunks at a time, so a slow reader slows its
source and memory stays bounded at both ends, whatever the file weighs. A pull that broke is resumed at the
offset that it reached. Cancelling one tells the other side.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum

import zmq

from openclaw.config import BULK_CHUNK_BYTES, BULK_CREDIT_CHUNKS, BULK_HIGH_WATER_MARK
from openclaw.errors import Unavailable
from openclaw.ids import NodeId
from openclaw.transport.frames import (
    HEADER_BYTES_MAX,
    AnyFrame,
    Chunk,
    Credit,
    End,
    Fail,
    Hello,
    Pull,
    Ref,
    Stop,
    decode,
    encode,
)
from openclaw.transport.mesh import MeshTransport
from openclaw.transport.serving import SILENCE_S, Serve, Servings, heed
from openclaw.transport.sockets import Bounds, CurveKeys, Domain
from openclaw.transport.zap import Roster
from openclaw.wire import Counters, Reason, Rejected

BOUNDS = Bounds(BULK_CHUNK_BYTES + HEADER_BYTES_MAX, BULK_HIGH_WATER_MARK)
DIAL_S = 2.0
DIAL_BACK_S = 5.0
CREDIT_AT_ONCE = BULK_CREDIT_CHUNKS // 2

Sink = Callable[[bytes], Awaitable[None] | None]


class Why(StrEnum):
    """What became of a pull that did not end."""

    UNREACHABLE = "unreachable"  # neither side could dial the other
    REFUSED = "refused"  # the peer has no such thing, or too much to do
    BROKEN = "broken"  # the connection or the source failed on the way: resume at `received`


class PullError(Unavailable):
    """A pull failed; `received` is how many bytes of it the sink has had."""

    def __init__(self, why: Why, message: str, received: int) -> None:
        super().__init__(message, kind=f"bulk_{why.value}")
        self.why = why
        self.received = received


class _Arriving:
    """One pull under way: the frames that came and were not consumed yet."""

    def __init__(self, peer: NodeId) -> None:
        self.peer = peer
        self.frames: asyncio.Queue[Chunk | End | Fail] = asyncio.Queue(BULK_CREDIT_CHUNKS + 2)

    def put(self, frame: Chunk | End | Fail) -> bool:
        """Whether there was room; a peer that sends more than its credit finds none."""
        if isinstance(frame, Chunk) and not frame.data and not self.frames.empty():
            return True
        try:
            self.frames.put_nowait(frame)
        except asyncio.QueueFull:
            return False
        return True


class Bulk:
    """Serves what `serve` finds and pulls what others have."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: CurveKeys,
        node_id: NodeId,
        roster: Roster,
        binds: Sequence[str],
        port: int,
        serve: Serve,
        addresses_of: Callable[[NodeId], Sequence[str]],
        request_dial: Callable[[NodeId], None],
        *,
        counters: Counters,
        log: Callable[[str], None],
    ) -> None:
        self._transport = MeshTransport(
            context, keys, node_id, roster, binds, port, self._received, self._link,
            counters=counters, log=log, domain=Domain.BULK, bounds=BOUNDS,
        )  # fmt: skip
        self._addresses_of = addresses_of
        self._request_dial = request_dial
        self._counters = counters
        self._servings = Servings(serve, self._send)
        self._pulls: dict[int, _Arriving] = {}
        self._links_changed = asyncio.Event()

    @property
    def port(self) -> int:
        return self._transport.port

    @property
    def serving(self) -> int:
        """How many pulls are served at this moment."""
        return len(self._servings)

    async def start(self) -> None:
        await self._transport.start()

    async def close(self) -> None:
        for arriving in self._pulls.values():
            arriving.put(Fail(0, False, "this node is stopping"))
        await self._servings.close()
        await self._transport.close()

    def redial(self) -> None:
        """See `MeshTransport.redial_all`; a pull under way goes on at its offset."""
        self._transport.redial_all()

    def dial(self, peer: NodeId, addresses: Sequence[str]) -> None:
        """`peer` wants bytes of ours and cannot dial us: connect to it, so that it can ask."""
        self._transport.set_addresses(peer, addresses)
        self._send(peer, Hello())

    async def pull(self, peer: NodeId, ref: Ref, sink: Sink) -> int:
        """Hand the bytes of `ref` from its offset on to `sink`, in order; how many there were.

        Raises `PullError`. Cancelling stops the serving side as well.
        """
        await self._reach(peer)
        pull_id = secrets.randbits(48)
        arriving = self._pulls[pull_id] = _Arriving(peer)
        ended = False
        try:
            if not self._send(peer, Pull(pull_id, ref, BULK_CREDIT_CHUNKS)):
                raise PullError(Why.BROKEN, f"the connection to {peer} broke", 0)
            received = await self._consume(pull_id, arriving, ref, sink)
            ended = True
            return received
        finally:
            del self._pulls[pull_id]
            if not ended:
                self._send(peer, Stop(pull_id))

    async def _consume(self, pull_id: int, arriving: _Arriving, ref: Ref, sink: Sink) -> int:
        peer, at, owed = arriving.peer, ref.offset, 0

        def alive() -> None:
            self._send(peer, Credit(pull_id, 0))

        while True:
            try:
                async with asyncio.timeout(SILENCE_S):
                    frame = await arriving.frames.get()
            except TimeoutError:
                raise PullError(Why.BROKEN, f"{peer} fell silent", at - ref.offset) from None
            match frame:
                case Fail(refused=refused, reason=reason):
                    why = Why.REFUSED if refused else Why.BROKEN
                    raise PullError(why, f"{peer}: {reason}", at - ref.offset)
                case Chunk(offset=offset) | End(offset=offset) if offset != at:
                    raise PullError(Why.BROKEN, f"bytes from {peer} were lost on the way", at - ref.offset)
                case End():
                    return at - ref.offset
                case Chunk(data=data) if data:
                    written = sink(data)
                    if written is not None:
                        await heed(written, alive)
                    at += len(data)
                    owed += 1
                    if owed >= CREDIT_AT_ONCE:
                        self._send(peer, Credit(pull_id, owed))
                        owed = 0

    async def _reach(self, peer: NodeId) -> None:
        """Have a connection to `peer`, whichever side can make it."""
        if self._transport.connected(peer):
            return
        self._transport.set_addresses(peer, self._addresses_of(peer))
        self._transport.dial(peer)
        if await self._connected(peer, DIAL_S):
            return
        self._request_dial(peer)
        if not await self._connected(peer, DIAL_BACK_S):
            raise PullError(
                Why.UNREACHABLE, f"no connection to the bulk port of {peer}, nor from it to ours", 0
            )

    async def _connected(self, peer: NodeId, timeout_s: float) -> bool:
        try:
            async with asyncio.timeout(timeout_s):
                while not self._transport.connected(peer):
                    await self._links_changed.wait()
        except TimeoutError:
            return False
        return True

    def _link(self, peer: NodeId, up: bool, _refused: bool) -> None:
        self._links_changed.set()
        self._links_changed = asyncio.Event()
        if up:
            return
        self._servings.gone(peer)
        for arriving in self._pulls.values():
            if arriving.peer == peer:
                arriving.put(Fail(0, False, "the connection broke"))

    def _send(self, peer: NodeId, frame: AnyFrame) -> bool:
        return self._transport.send(peer, encode(frame))

    def _received(self, peer: NodeId, data: bytes) -> None:
        try:
            frame = decode(data)
        except Rejected as junk:
            self._counters.count(junk.reason)
            return
        match frame:
            case Hello():
                pass
            case Pull():
                self._servings.begin(peer, frame)
            case Credit():
                self._servings.grant(peer, frame.id, frame.chunks)
            case Stop():
                self._servings.stop(peer, frame.id)
            case Chunk() | End() | Fail():
                arriving = self._pulls.get(frame.id)
                if arriving is None or arriving.peer != peer or not arriving.put(frame):
                    self._counters.count(Reason.UNASKED)
