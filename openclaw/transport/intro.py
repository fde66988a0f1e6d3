"""The intro port: how a machine that is not a member yet talks to one that is.

Its CURVE server key is derived from the mesh's gate secret, so whoever was not given the gate cannot even
shake hands. One small question, one small answer, at a bounded rate; nothing else is served here.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Sequence

import zmq

from openclaw.config import INTRO_BYTES_MAX, INTRO_HIGH_WATER_MARK
from openclaw.transport.address import Answer, dial, parse
from openclaw.transport.listener import Listener
from openclaw.transport.poller import Poller, SyncSocket
from openclaw.transport.sockets import Bounds, CurveKeys, Domain, dealer, router
from openclaw.wire import Counters, Reason

BOUNDS = Bounds(INTRO_BYTES_MAX, INTRO_HIGH_WATER_MARK)

Handler = Callable[[bytes, str], bytes | None]


class Intro:
    """Answers each question with `handler(question, peer ip)`; None leaves it unanswered."""

    def __init__(
        self,
        context: zmq.Context[SyncSocket],
        gate: CurveKeys,
        binds: Sequence[str],
        port: int,
        handler: Handler,
        *,
        counters: Counters,
        log: Callable[[str], None],
    ) -> None:
        self._handler = handler
        self._counters = counters
        socket = router(context, Domain.INTRO, gate.curve_secret, BOUNDS)
        try:
            self._listener = Listener(socket, binds, port, "intro", log)
        except BaseException:
            socket.close(linger=0)
            raise
        self.port = self._listener.port
        self._poller = Poller(socket, self._take)

    async def close(self) -> None:
        await self._listener.close()
        self._poller.close()

    def _take(self, socket: SyncSocket) -> None:
        frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
        if len(frames) != 2:
            self._counters.count(Reason.FRAMING)
            return
        route, question = frames
        answer = self._handler(question.bytes, str(question.get("Peer-Address")).removeprefix("::ffff:"))
        if answer is None:
            return
        try:
            self._poller.send(route.bytes, answer)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise


async def ask(
    context: zmq.Context[SyncSocket],
    address: str,
    gate_public: bytes,
    keys: CurveKeys,
    question: bytes,
    timeout_s: float,
) -> bytes:
    """The answer of the node whose intro port is at `address`.

    ConnectionRefusedError: nobody listens there. TimeoutError: nobody answered, or not with this gate.
    """
    async with asyncio.timeout(timeout_s):
        at = parse(address)
        if await dial(at, timeout_s) is Answer.REFUSED:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens at {at}")
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        socket = dealer(context, keys, gate_public, BOUNDS)
        socket.setsockopt(zmq.IMMEDIATE, 0)
        socket.connect(at.endpoint)
        poller = Poller(socket, lambda socket: _first(socket, answer))
        try:
            poller.send(question)
            return await answer
        finally:
            poller.close()


def _first(socket: SyncSocket, answer: asyncio.Future[bytes]) -> None:
    frames = socket.recv_multipart(zmq.NOBLOCK)
    if not answer.done():
        answer.set_result(frames[-1])
