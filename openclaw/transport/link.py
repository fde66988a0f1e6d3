"""Our own connection to one peer: dialled, watched, and dialled again for as long as it is wanted.

The link owns all retrying, libzmq does none: after a refusal it never would, and an old address it would try
for ever. Every address is tried by a plain TCP dial, LAN before tailnet, and the DEALER goes to the one that
answers; an address where somebody else answers is passed over in that round. When the connection breaks, a
fresh dial tells at once whether the peer's machine still says "nobody here".
"""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import zmq

from openclaw.config import LINK_QUEUE_MAX
from openclaw.ids import NodeId
from openclaw.transport.address import LAN, Address, Answer, dial
from openclaw.transport.poller import Poller, SyncSocket, unwatch

DIAL_S = 3.0
HANDSHAKE_S = 5.0
REDIAL_S = 0.5
TAILNET_WAITS_S = 0.3
BETTER_PATH_S = 60.0
RENEW_S = 1.0
BACKOFF_S_MIN = 0.1
BACKOFF_S_MAX = 2.0

LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
WATCHED = LOST | zmq.EVENT_HANDSHAKE_SUCCEEDED


class State(Enum):
    RESTING = "resting"
    DIALLING = "dialling"
    UP = "up"
    LOST = "lost"


class Owner(Protocol):
    """Whom a link serves: it makes its sockets and hears what happens on them."""

    dials: asyncio.Semaphore

    def open_dealer(self, peer: NodeId) -> SyncSocket | None: ...
    def took(self, peer: NodeId, socket: SyncSocket) -> None: ...
    def link_up(self, peer: NodeId) -> None: ...
    def link_lost(self, peer: NodeId, refused: bool) -> None: ...
    def dial_refused(self, peer: NodeId) -> None: ...


class Link:
    """One peer's link. `send` queues a little while it dials and says no while it rests."""

    def __init__(self, peer: NodeId, addresses: Sequence[Address], owner: Owner) -> None:
        self.peer = peer
        self.address: Address | None = None
        self.state = State.DIALLING
        self._addresses = tuple(addresses)
        self._owner = owner
        self._poller: Poller | None = None
        self._monitor: Poller | None = None
        self._waiting: list[bytes] = []
        self._news = asyncio.Event()
        self._up_at = 0.0
        self._stale = False
        self._task = asyncio.get_running_loop().create_task(self._run())

    @property
    def up(self) -> bool:
        return self.state is State.UP and not self._stale

    def send(self, data: bytes) -> bool:
        if self.up and self._poller is not None:
            return self._poller.send(data)
        if self._is(State.DIALLING) and len(self._waiting) < LINK_QUEUE_MAX:
            self._waiting.append(data)
            return True
        return False

    def set_addresses(self, addresses: Sequence[Address]) -> None:
        if self._addresses != tuple(addresses):
            self._addresses = tuple(addresses)
            self._news.set()

    def hurry(self) -> None:
        """The peer was heard from: dial now instead of when the pause is over."""
        if self.state is State.RESTING:
            self._news.set()

    def renew(self) -> None:
        """The peer dialled us anew: it may have moved or started again, and our old connection be dead.

        A connection that is itself new stays, or two nodes would renew each other for ever.
        """
        if self.up and asyncio.get_running_loop().time() - self._up_at > RENEW_S:
            self._stale = True
            self._news.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._shut()

    async def _run(self) -> None:
        backoff_s = BACKOFF_S_MIN
        strangers: set[Address] = set()
        while True:
            self.state = State.DIALLING
            candidates = [a for a in self._addresses if a not in strangers] or self._addresses
            address = await self._race(candidates)
            if address is not None and await self._handshake(address):
                backoff_s = BACKOFF_S_MIN
                strangers.clear()
                await self._hold(address)
                continue
            strangers = strangers | {address} if address is not None else set()
            self._shut()
            await self._rest(backoff_s)
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)

    async def _rest(self, backoff_s: float) -> None:
        self.state = State.RESTING
        self._waiting.clear()
        await self._hear(backoff_s * random.uniform(0.5, 1.0))

    async def _hear(self, timeout_s: float) -> bool:
        """Wait for news of this link; whether there was any."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        except TimeoutError:
            return False
        self._news.clear()
        return True

    async def _race(self, addresses: Sequence[Address]) -> Address | None:
        """The best address where somebody answers; a tailnet one only when no LAN one is quick."""
        if not addresses:
            return None
        dials = {asyncio.ensure_future(self._dial(address, addresses[0].kind)) for address in addresses}
        pending, refused = set(dials), 0
        try:
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                answers = sorted((done_.result() for done_ in done), key=lambda a: addresses.index(a[0]))
                for address, answer in answers:
                    if answer is Answer.OPEN:
                        return address
                    refused += answer is Answer.REFUSED
        finally:
            for unfinished in pending:
                unfinished.cancel()
            await asyncio.gather(*dials, return_exceptions=True)
        if refused == len(addresses):
            self._owner.dial_refused(self.peer)
        return None

    async def _dial(self, address: Address, best_kind: str) -> tuple[Address, Answer]:
        if address.kind != best_kind:
            await asyncio.sleep(TAILNET_WAITS_S)
        async with self._owner.dials:
            return address, await dial(address, DIAL_S)

    async def _handshake(self, address: Address) -> bool:
        if not self._open(address):
            return False
        deadline = asyncio.get_running_loop().time() + HANDSHAKE_S
        while self._is(State.DIALLING):
            if not await self._hear(deadline - asyncio.get_running_loop().time()):
                return False
        return self._is(State.UP)

    def _open(self, address: Address) -> bool:
        """Begin to connect; not when this process has no descriptor left."""
        try:
            socket = self._owner.open_dealer(self.peer)
            if socket is None:
                return False
            self._poller = Poller(socket, lambda socket: self._owner.took(self.peer, socket))
            self._monitor = Poller(socket.get_monitor_socket(WATCHED), self._watch)
            socket.connect(address.endpoint)
        except zmq.ZMQError:
            return False
        self._poller.nudge()
        return True

    async def _hold(self, address: Address) -> None:
        """Until the connection breaks or is stale, its address is withdrawn, or a better path answers."""
        self.address = address
        self._up_at, self._stale = asyncio.get_running_loop().time(), False
        waiting, self._waiting = self._waiting, []
        for data in waiting:
            self.send(data)
        self._owner.link_up(self.peer)
        while self._is(State.UP):
            better = [other for other in self._addresses if other.kind == LAN != address.kind]
            if (
                self._stale
                or address not in self._addresses
                or (not await self._hear(BETTER_PATH_S) and await self._race(better) is not None)
            ):
                self._shut()
                return
        self._shut()
        self._owner.link_lost(self.peer, await dial(address, REDIAL_S) is Answer.REFUSED)

    def _watch(self, monitor: SyncSocket) -> None:
        head, _endpoint = monitor.recv_multipart(zmq.NOBLOCK)
        event, _value = struct.unpack("=hi", head)
        if event & zmq.EVENT_HANDSHAKE_SUCCEEDED:
            if self.state is State.DIALLING:
                self.state = State.UP
        elif event & LOST:
            self.state = State.LOST
        self._news.set()

    def _is(self, state: State) -> bool:
        return self.state is state

    def _shut(self) -> None:
        self.address = None
        if self._poller is not None:
            if self._monitor is not None:
                unwatch(self._poller.socket, self._monitor)
            self._poller.close()
        self._poller = self._monitor = None
