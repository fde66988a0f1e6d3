"""Questions between nodes about tasks that one of them owns: ask, answer, and nothing decided.

Runs beside the core over the same mesh messages. A question that gets no answer in time raises `Unavailable`, so a
person hears which node did not answer; a late or unasked answer is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from openclaw.config import MESSAGE_BYTES_MAX, WATCHERS_MAX
from openclaw.errors import MeshError, Unavailable
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage, Query, Reply

Args = dict[str, object]
Answerer = Callable[[NodeId, Args], Awaitable[Args]]
ANSWER_S = 5.0
LONG_POLL_S = 20.0
ANSWER_BYTES_MAX = MESSAGE_BYTES_MAX - 256

_decode = msgspec.msgpack.Decoder(dict[str, object]).decode
_encode = msgspec.msgpack.encode


class Queries:
    """`send(peer, message) -> bool` is the transport's; `answerers` maps an op to who answers it here."""

    def __init__(self, send: Callable[[NodeId, AnyMessage], bool]) -> None:
        self._send = send
        self._next = 0
        self._waiting: dict[int, tuple[NodeId, asyncio.Future[Args]]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self.answerers: dict[str, Answerer] = {}

    async def ask(self, peer: NodeId, op: str, args: Args, timeout_s: float = ANSWER_S) -> Args:
        """The answer's fields. Raises `Unavailable` when `peer` does not answer, or what it answered."""
        if len(self._waiting) >= WATCHERS_MAX:
            raise Unavailable("too many questions to other nodes are open; try again in a moment")
        self._next += 1
        seq = self._next
        future: asyncio.Future[Args] = asyncio.get_running_loop().create_future()
        self._waiting[seq] = (peer, future)
        try:
            self._send(peer, Query(seq, op, _encode(args)))
            async with asyncio.timeout(timeout_s):
                answer = await future
        except TimeoutError:
            raise Unavailable(
                f"node {peer} did not answer within {timeout_s:g} s; is it up? see: openclaw nodes"
            ) from None
        finally:
            del self._waiting[seq]
        if not answer.get("ok"):
            raise MeshError(
                str(answer.get("message", "refused")), kind=str(answer.get("type", "error")), exit_code=125
            )
        return answer

    def received(self, message: Query | Reply, sender: NodeId) -> None:
        match message:
            case Reply():
                peer, future = self._waiting.get(message.seq, (None, None))
                if future is not None and peer == sender and not future.done():
                    future.set_result(self._body(message.body))
            case Query() if len(self._answering) < WATCHERS_MAX:
                task = asyncio.get_running_loop().create_task(self._answer(message, sender))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            case _:
                self._send(sender, Reply(message.seq, _encode(_refusal("busy", "this node is too busy"))))

    async def _answer(self, query: Query, sender: NodeId) -> None:
        answerer = self.answerers.get(query.op)
        try:
            if answerer is None:
                raise MeshError(
                    f"this node does not know the question {query.op!r}; upgrade it", kind="version"
                )
            answer: Args = {"ok": True, **await answerer(sender, self._body(query.body))}
        except MeshError as error:
            answer = _refusal(error.kind, str(error))
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            answer = _refusal("bad_question", f"{query.op}: {error!r}")
        body = _encode(answer)
        if len(body) > ANSWER_BYTES_MAX:
            body = _encode(
                _refusal("too_large", f"{query.op}: the answer is {len(body)} bytes; ask for less")
            )
        self._send(sender, Reply(query.seq, body))

    @staticmethod
    def _body(data: bytes) -> Args:
        try:
            return _decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _refusal("junk", "the other node sent what cannot be read")

    async def close(self) -> None:
        for task in tuple(self._answering):
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)


def _refusal(kind: str, message: str) -> Args:
    return {"ok": False, "type": kind, "message": message}
