"""The one place that knows how to wait for a ZeroMQ socket inside asyncio.

A ZeroMQ socket's descriptor is edge-triggered: it tells once that *something* happened, and any call on the
socket may swallow that. So after every call the socket is asked again, at most one wake-up is pending at a
time, and a wake-up reads a bounded number of messages before the loop gets its turn. Promises: no message
stays unread in a socket that is still polled, and no flood on one socket starves the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import zmq

from openclaw.config import DRAIN_MESSAGES_MAX

SyncSocket = zmq.Socket[bytes]


def unwatch(socket: SyncSocket, monitor: Poller) -> None:
    """`socket` tells its monitor nothing more, and only then does that go.

    The other way round libzmq's own thread, which tells, waits for ever for somebody to hear it and holds a lock over
    that; whoever asks the socket for anything about its monitor then, waits for ever as well: this process.
    """
    socket.disable_monitor()
    monitor.close()


class Poller:
    """Calls `take` for every message that waits in `socket`, which this owns from now on.

    `take` reads exactly one message without blocking, and lets `zmq.Again` pass when there is none.
    """

    def __init__(self, socket: SyncSocket, take: Callable[[SyncSocket], None]) -> None:
        self.socket = socket
        self._take = take
        self._pending = False
        self._loop = asyncio.get_running_loop()
        self._descriptor = int(socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._wake)
        self._wake()

    def send(self, *frames: bytes) -> bool:
        """Whether the socket took the message: it does not when nobody is connected or the pipe is full.

        On a mandatory ROUTER, `zmq.ZMQError` with EHOSTUNREACH passes through: that connection is gone.
        """
        try:
            self.socket.send_multipart(frames, zmq.NOBLOCK)
        except zmq.Again:
            return False
        finally:
            self.nudge()
        return True

    def nudge(self) -> None:
        """To be called after any other call on the socket: it may have swallowed the descriptor's edge."""
        if not self._pending and int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            self._wake()

    def close(self) -> None:
        if self.socket.closed:
            return
        self._loop.remove_reader(self._descriptor)
        self.socket.close(linger=0)

    def _wake(self) -> None:
        if not self._pending:
            self._pending = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._pending = False
        again = True
        try:
            for _ in range(DRAIN_MESSAGES_MAX):
                if self.socket.closed:
                    break
                self._take(self.socket)
        except zmq.Again:
            again = False
        finally:
            if again and not self.socket.closed:
                self._wake()
