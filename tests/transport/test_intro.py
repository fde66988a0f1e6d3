"""The intro port: strangers with the gate get one small answer, without it they get nothing."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
import zmq
from mesh_helpers import LOOPBACK, Book, Keys, until

from openclaw.config import INTRO_BURST, INTRO_BYTES_MAX
from openclaw.transport.intro import Handler, Intro, ask
from openclaw.transport.zap import Throttle, Zap
from openclaw.wire import Counters, Reason


class Door:
    def __init__(self, handler: Handler) -> None:
        self.gate = Keys.new()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.other: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.counters = Counters()
        self.zap = Zap(self.context, Book(), self.counters)
        self.intro = Intro(
            self.context, self.gate, LOOPBACK, 0, handler, counters=self.counters, log=lambda _line: None
        )
        self.address = f"127.0.0.1:{self.intro.port}"

    async def ask(self, question: bytes, gate: bytes | None = None, timeout_s: float = 10.0) -> bytes:
        gate = gate or self.gate.curve_public
        return await ask(self.other, self.address, gate, Keys.new(), question, timeout_s)

    async def close(self) -> None:
        await self.intro.close()
        self.zap.close()
        self.other.term()
        self.context.term()


def scene(handler: Handler, play: Callable[[Door], Awaitable[None]]) -> None:
    async def main() -> None:
        door = Door(handler)
        try:
            await play(door)
        finally:
            await door.close()

    asyncio.run(main())


def test_a_question_with_the_gate_is_answered_with_the_address_known() -> None:
    async def play(door: Door) -> None:
        assert await door.ask(b"let me in") == b"let me in from 127.0.0.1"

    scene(lambda question, ip: question + b" from " + ip.encode(), play)


def test_without_the_gate_nothing_reaches_the_handler() -> None:
    asked: list[bytes] = []

    async def play(door: Door) -> None:
        with pytest.raises(TimeoutError):
            await door.ask(b"x", gate=Keys.new().curve_public, timeout_s=0.5)
        assert asked == []

    scene(lambda question, _ip: asked.append(question), play)


def test_nobody_listening_is_told_apart_from_nobody_answering() -> None:
    async def play(door: Door) -> None:
        with pytest.raises(TimeoutError):
            await door.ask(b"x", timeout_s=0.5)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            door.address = f"127.0.0.1:{free.getsockname()[1]}"
            with pytest.raises(ConnectionRefusedError):
                await door.ask(b"x")

    scene(lambda _question, _ip: None, play)


def test_a_question_over_the_limit_is_dropped() -> None:
    asked: list[bytes] = []

    async def play(door: Door) -> None:
        with pytest.raises(TimeoutError):
            await door.ask(bytes(INTRO_BYTES_MAX + 1), timeout_s=0.5)
        assert await door.ask(bytes(INTRO_BYTES_MAX)) == b"ok"
        assert [len(question) for question in asked] == [INTRO_BYTES_MAX]

    scene(lambda question, _ip: asked.append(question) or b"ok", play)


def test_a_flood_of_handshakes_is_throttled() -> None:
    async def play(door: Door) -> None:
        flood = [asyncio.create_task(door.ask(b"x")) for _ in range(int(INTRO_BURST) + 5)]
        await until(lambda: door.counters[Reason.THROTTLED] > 0)
        for one in flood:
            one.cancel()
        await asyncio.gather(*flood, return_exceptions=True)

    scene(lambda _question, _ip: b"ok", play)


def test_one_address_cannot_use_up_what_others_are_allowed() -> None:
    throttle = Throttle(0.0)
    allowed = sum(throttle.allows("10.0.0.1", 0.0) for _ in range(1000))
    assert allowed == INTRO_BURST
    assert throttle.allows("10.0.0.1", 1.0)
    assert throttle.allows("10.0.0.2", 1.0)
