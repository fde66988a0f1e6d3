"""A bound port that survives running out of descriptors.

At that limit libzmq would retry `accept` in a tight loop and every `open` in the process would fail, and idle
strangers are enough to get there. So the listener keeps one descriptor in reserve, and when a connection
cannot be accepted it stops listening for a moment. In libzmq that closes whatever came in through it: idle
strangers are gone, members dial again, and until then our own connections to them carry both directions.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence

import zmq

from openclaw.errors import Unavailable
from openclaw.transport.poller import Poller, SyncSocket, unwatch

REST_S = 0.5
REBIND_S = 0.2


class Listener:
    """Binds `socket` to one port on every address of `binds`; `port` 0 becomes a free one."""

    def __init__(
        self, socket: SyncSocket, binds: Sequence[str], port: int, what: str, log: Callable[[str], None]
    ) -> None:
        self._socket = socket
        self._what = what
        self._log = log
        self._endpoints: list[str] = []
        self.port = port
        for bind in binds:
            self._bind_first(bind)
        self._reserve = os.open(os.devnull, os.O_RDONLY)
        monitor = socket.get_monitor_socket(zmq.EVENT_ACCEPT_FAILED)
        self._monitor = Poller(monitor, self._take)
        self._resting: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._resting is not None:
            self._resting.cancel()
            await asyncio.gather(self._resting, return_exceptions=True)
        unwatch(self._socket, self._monitor)
        self._give_reserve()

    def _bind_first(self, bind: str) -> None:
        host = f"[{bind}]" if ":" in bind and not bind.startswith("[") else bind
        try:
            self._socket.bind(f"tcp://{host}:{self.port or '*'}")
        except zmq.ZMQError as error:
            raise Unavailable(_why_not(error, bind, self.port, self._what), kind="port") from None
        endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.port = int(endpoint.rpartition(":")[2])
        self._endpoints.append(endpoint)

    def _take(self, monitor: SyncSocket) -> None:
        monitor.recv_multipart(zmq.NOBLOCK)
        if self._resting is None:
            self._give_reserve()
            for endpoint in self._endpoints:
                self._socket.unbind(endpoint)
            self._resting = asyncio.get_running_loop().create_task(self._rest())
            self._log(
                f"{self._what} port {self.port}: out of file descriptors, not accepting for {REST_S:g} s"
            )

    async def _rest(self) -> None:
        await asyncio.sleep(REST_S)
        while not self._take_reserve():
            await asyncio.sleep(REST_S)
        for endpoint in self._endpoints:
            while not self._bind_again(endpoint):
                await asyncio.sleep(REBIND_S)
        self._resting = None
        self._log(f"{self._what} port {self.port}: accepting again")

    def _bind_again(self, endpoint: str) -> bool:
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError:
            return False
        return True

    def _take_reserve(self) -> bool:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY)
        except OSError:
            return False
        return True

    def _give_reserve(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1


def _why_not(error: zmq.ZMQError, bind: str, port: int, what: str) -> str:
    where = f"the {what} port {port} on {bind}"
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"{where} is in use: another program, or another node, listens there. "
                "Choose another with `--port N`, or take any free one with `--port 0`."
            )
        case errno.EACCES:
            return f"{where} needs privileges. Choose one above 1023 with `--port N`."
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            return f"{where}: this machine has no such address. Give one that it has with `--bind ADDR`."
        case _:
            return f"{where} cannot be listened on: {error}. Choose another with `--port N` or `--bind ADDR`."
