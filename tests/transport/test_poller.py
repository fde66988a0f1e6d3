"""The edge-triggered descriptor never leaves a message unread, however sends and receives interleave."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import zmq

from openclaw.config import DRAIN_MESSAGES_MAX
from openclaw.transport.poller import Poller, SyncSocket

MESSAGES = 100_000
BURST = 50


class Side:
    """Sends numbered messages whenever there is room, also from within its own receiving."""

    def __init__(self, socket: SyncSocket) -> None:
        self.sent = 0
        self.heard = 0
        self.longest_drain = 0
        self.done = asyncio.Event()
        self.poller = Poller(socket, self._take)

    def _take(self, socket: SyncSocket) -> None:
        assert int.from_bytes(socket.recv(zmq.NOBLOCK)) == self.heard
        self.heard += 1
        if self.heard % 3 == 0:
            self.burst(2)
        if self.heard == MESSAGES:
            self.done.set()

    def burst(self, most: int) -> None:
        for _ in range(most):
            if self.sent == MESSAGES or not self.poller.send(self.sent.to_bytes(4)):
                return
            self.sent += 1


def test_a_hundred_thousand_messages_both_ways_and_none_stuck() -> None:
    async def scene() -> None:
        context: zmq.Context[SyncSocket] = zmq.Context()
        left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        right.bind("tcp://127.0.0.1:*")
        left.connect(right.getsockopt_string(zmq.LAST_ENDPOINT))
        sides = Side(left), Side(right)
        async with asyncio.timeout(60):
            while not all(side.done.is_set() for side in sides):
                for side in sides:
                    side.burst(BURST)
                await asyncio.sleep(0)
                if all(side.sent == MESSAGES for side in sides):
                    await asyncio.gather(*(side.done.wait() for side in sides))
        assert [side.heard for side in sides] == [MESSAGES, MESSAGES]
        for side in sides:
            side.poller.close()
        context.term()

    asyncio.run(scene())


def test_a_message_whose_edge_a_send_swallowed_is_read() -> None:
    """The peer's message comes in while we send: libzmq's send takes its signal, and only asking tells."""

    async def scene() -> None:
        context: zmq.Context[SyncSocket] = zmq.Context()
        left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        right.bind("inproc://ball")
        left.connect("inproc://ball")
        heard = asyncio.Event()

        def hear(socket: SyncSocket) -> None:
            socket.recv(zmq.NOBLOCK)
            heard.set()

        poller = Poller(left, hear)
        for _ in range(20):
            await asyncio.sleep(0)
            right.send(b"in")
            time.sleep(0.005)  # libzmq looks for signals during a send only when it has not for a while
            assert poller.send(b"out")
            await asyncio.wait_for(heard.wait(), 10)
            heard.clear()
            right.recv()
        poller.close()
        right.close()
        context.term()

    asyncio.run(scene())


def test_a_flood_leaves_the_loop_its_turns() -> None:
    async def scene() -> None:
        context: zmq.Context[SyncSocket] = zmq.Context()
        left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        for socket in (left, right):
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
        right.bind("inproc://flood")
        left.connect("inproc://flood")
        for _ in range(10 * DRAIN_MESSAGES_MAX):
            left.send(b"x", zmq.NOBLOCK)
        turns: list[int] = []
        heard = 0

        def count(socket: SyncSocket) -> None:
            nonlocal heard
            socket.recv(zmq.NOBLOCK)
            heard += 1

        poller = Poller(right, count)
        while heard < 10 * DRAIN_MESSAGES_MAX:
            await asyncio.sleep(0)
            turns.append(heard)
        assert (
            max(later - earlier for earlier, later in zip([0, *turns], turns, strict=False))
            <= DRAIN_MESSAGES_MAX
        )
        poller.close()
        left.close()
        context.term()

    asyncio.run(scene())


def test_a_receiver_that_fails_does_not_leave_the_rest_unread() -> None:
    async def scene() -> None:
        context: zmq.Context[SyncSocket] = zmq.Context()
        left, right = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        right.bind("inproc://fail")
        left.connect("inproc://fail")
        heard: list[bytes] = []
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, story: failures.append(story))
        two = asyncio.Event()

        def fail_once(socket: SyncSocket) -> None:
            heard.append(socket.recv(zmq.NOBLOCK))
            if len(heard) == 1:
                raise RuntimeError("a bug")
            two.set()

        left.send(b"1")
        left.send(b"2")
        poller = Poller(right, fail_once)
        await asyncio.wait_for(two.wait(), 10)
        assert heard == [b"1", b"2"]
        assert len(failures) == 1
        poller.close()
        left.close()
        context.term()

    asyncio.run(scene())


UNWATCHING = """
import asyncio, socket, threading, zmq
from openclaw.transport.poller import Poller, unwatch

def shut(server):
    while True:
        server.accept()[0].close()

async def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=100)
    threading.Thread(target=shut, args=(server,), daemon=True).start()
    context = zmq.Context()
    for number in range(3000):
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RECONNECT_IVL, 1)
        poller = Poller(dealer, lambda one: one.recv(zmq.NOBLOCK))
        events = zmq.EVENT_CONNECTED | zmq.EVENT_CONNECT_RETRIED | zmq.EVENT_CLOSED | zmq.EVENT_DISCONNECTED
        monitor = Poller(dealer.get_monitor_socket(events), lambda one: one.recv_multipart(zmq.NOBLOCK))
        dealer.connect("tcp://127.0.0.1:%d" % server.getsockname()[1])
        for _ in range(number % 40):
            await asyncio.sleep(0)
        unwatch(dealer, monitor)
        poller.close()
    print("done")

asyncio.run(main())
"""


def test_a_monitor_that_goes_while_its_connection_breaks_holds_nobody_up() -> None:
    """In another process, since this one would hang: the event that nobody hears any more came at the wrong moment."""
    done = subprocess.run(
        [sys.executable, "-c", UNWATCHING], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.stdout == "done\n", done.stderr
