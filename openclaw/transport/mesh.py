"""Packets to and from the members of the mesh, over CURVE; nobody else can send or receive any.

One ROUTER is bound for whoever dials us, one `Link` is held to each peer that we talk to. A peer that dials
us and cannot be dialled is answered over its own connection. Who sent a packet is the key that its connection
was made with, and the roster is asked about that key's node on every packet, in both directions.

Delivery is best effort: `send` says whether the packet left or was dropped, and nothing is queued for a peer
that is not there. Packets may change paths, so two to one peer may arrive in either order.
"""

from __future__ import annotations

import asyncio
import errno
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Sequence
from typing import NamedTuple

import zmq

from openclaw.config import DIALS_AT_ONCE_MAX, LINK_IDLE_S, PEERS_MAX
from openclaw.ids import NodeId
from openclaw.transport.address import kind_of, usable
from openclaw.transport.link import Link
from openclaw.transport.listener import Listener
from openclaw.transport.poller import Poller, SyncSocket
from openclaw.transport.sockets import Bounds, CurveKeys, Domain, dealer, router
from openclaw.transport.zap import Roster
from openclaw.wire import Counters, Reason

ROUTE_BYTES = 5
SWEEP_S = 30.0

OnMessage = Callable[[NodeId, bytes], None]
OnLink = Callable[[NodeId, bool, bool], None]


class Route(NamedTuple):
    """The connection by which a peer dialled us."""

    id: bytes
    ip: str


class MeshTransport:
    """`on_link(peer, up, refused)` tells of changes only; `refused`: its machine says that nobody listens."""

    def __init__(
        self,
        context: zmq.Context[SyncSocket],
        keys: CurveKeys,
        node_id: NodeId,
        roster: Roster,
        binds: Sequence[str],
        port: int,
        on_message: OnMessage,
        on_link: OnLink,
        *,
        counters: Counters,
        log: Callable[[str], None],
        domain: Domain = Domain.MESH,
        bounds: Bounds | None = None,
    ) -> None:
        self._context = context
        self._keys = keys
        self._me = node_id
        self._roster = roster
        self._binds = tuple(binds)
        self.port = port
        self._on_message = on_message
        self._on_link = on_link
        self._counters = counters
        self._log = log
        self._domain = domain
        self._bounds = bounds or Bounds()
        self._router: Poller | None = None
        self._listener: Listener | None = None
        self._links: OrderedDict[NodeId, Link] = OrderedDict()
        self._used_at: dict[NodeId, float] = {}
        self._addresses: dict[NodeId, tuple[str, ...]] = {}
        self._routes: dict[NodeId, Route] = {}
        self._told: dict[NodeId, tuple[bool, bool]] = {}
        self._chores: set[asyncio.Task[None]] = set()
        self.dials = asyncio.Semaphore(DIALS_AT_ONCE_MAX)

    async def start(self) -> None:
        """Listen; `port` is the real one afterwards. `Unavailable` says which port and what to do."""
        socket = router(self._context, self._domain, self._keys.curve_secret, self._bounds)
        what = self._domain.name.lower()
        try:
            self._listener = Listener(socket, self._binds, self.port, what, self._log)
        except BaseException:
            socket.close(linger=0)
            raise
        self.port = self._listener.port
        self._router = Poller(socket, self._take)
        self._chore(self._sweep())

    async def close(self) -> None:
        for chore in self._chores:
            chore.cancel()
        await asyncio.gather(
            *self._chores, *(link.close() for link in self._links.values()), return_exceptions=True
        )
        self._links.clear()
        self._routes.clear()
        if self._listener is not None:
            await self._listener.close()
        if self._router is not None:
            self._router.close()

    def send(self, peer: NodeId, data: bytes) -> bool:
        """Whether the packet left (or waits for a dial under way); a dropped one is not sent again."""
        if not self._roster.allows(peer):
            self.drop(peer)
            return False
        link = self._wanted(peer)
        if link is not None and link.up:
            return link.send(data)
        if peer in self._routes:
            return self._answer(peer, data)
        return link is not None and link.send(data)

    def dial(self, peer: NodeId) -> None:
        """Begin to connect to `peer` before there is anything to send."""
        if self._roster.allows(peer):
            self._wanted(peer)

    def connected(self, peer: NodeId) -> bool:
        link = self._links.get(peer)
        return peer in self._routes or (link is not None and link.up)

    def set_addresses(self, peer: NodeId, addresses: Sequence[str]) -> None:
        """Where `peer` says that it can be reached, replacing what it said before."""
        self._addresses[peer] = tuple(addresses)
        if peer in self._links:
            self._links[peer].set_addresses(usable(addresses))

    def redial(self, peer: NodeId) -> None:
        """What we have to `peer` may be dead: the kernel waits ever longer before it tries again, we do not."""
        self.drop(peer)
        self.dial(peer)

    def redial_all(self) -> None:
        """An address of ours is gone: connections made from it are dead, though nothing will say so."""
        for peer in list(self._links):
            self.redial(peer)

    def path(self, peer: NodeId) -> tuple[str, str] | None:
        """By which network and address `peer` is reached now: "lan", "tailscale" or "self"."""
        if peer == self._me:
            return "self", ""
        link = self._links.get(peer)
        if link is not None and link.address is not None:
            return link.address.kind, str(link.address)
        route = self._routes.get(peer)
        return None if route is None or not route.ip else (kind_of(route.ip), route.ip)

    def drop(self, peer: NodeId) -> None:
        """Have nothing more to do with `peer`, until it is sent to or heard from again."""
        link = self._links.pop(peer, None)
        if link is not None:
            self._chore(link.close())
        for table in (self._used_at, self._routes, self._told):
            table.pop(peer, None)

    # --- links ------------------------------------------------------------------------------------

    def _wanted(self, peer: NodeId) -> Link | None:
        """The link to `peer`, opened when there is none and its addresses are known."""
        if peer == self._me:
            raise ValueError("a node has no connection to itself")
        link = self._links.get(peer)
        if link is None:
            addresses = usable(self._addresses.get(peer, ()))
            if not addresses:
                return None
            if len(self._links) >= PEERS_MAX:
                self._release(next(iter(self._links)))
            link = self._links[peer] = Link(peer, addresses, self)
        self._links.move_to_end(peer)
        self._used_at[peer] = asyncio.get_running_loop().time()
        return link

    def _release(self, peer: NodeId) -> None:
        """Close a link that nobody uses; that says nothing about its peer."""
        self._used_at.pop(peer, None)
        self._chore(self._links.pop(peer).close())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            idle_since = asyncio.get_running_loop().time() - LINK_IDLE_S
            for peer in [peer for peer in self._links if self._used_at[peer] < idle_since]:
                self._release(peer)

    def _chore(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # --- what links ask and tell ------------------------------------------------------------------

    def open_dealer(self, peer: NodeId) -> SyncSocket | None:
        key = self._roster.curve_key(peer)
        if key is None or not self._roster.allows(peer):
            return None
        return dealer(self._context, self._keys, key, self._bounds)

    def link_up(self, peer: NodeId) -> None:
        self._tell(peer, True, False)

    def link_lost(self, peer: NodeId, refused: bool) -> None:
        self._routes.pop(peer, None)
        self._tell(peer, False, refused)

    def dial_refused(self, peer: NodeId) -> None:
        """No news of a peer that dials us and refuses to be dialled: a firewall does that."""
        if peer not in self._routes:
            self._tell(peer, False, True)

    def _tell(self, peer: NodeId, up: bool, refused: bool) -> None:
        if self._told.get(peer) != (up, refused):
            self._told[peer] = up, refused
            self._on_link(peer, up, refused)

    # --- packets ----------------------------------------------------------------------------------

    def took(self, peer: NodeId, socket: SyncSocket) -> None:
        """A packet on our own connection to `peer`."""
        data = socket.recv(zmq.NOBLOCK)
        if _more(socket):
            self._counters.count(Reason.FRAMING)
        elif self._allowed(peer):
            self._on_message(peer, data)

    def _take(self, socket: SyncSocket) -> None:
        """A packet from whoever dialled us: libzmq vouches for the User-Id, the rest is only said."""
        route = socket.recv(zmq.NOBLOCK)
        frame = socket.recv(zmq.NOBLOCK, copy=False)
        if _more(socket) or len(route) != ROUTE_BYTES or route[0]:
            self._counters.count(Reason.FRAMING)
            return
        peer = NodeId(str(frame.get("User-Id")))
        if not self._allowed(peer):
            return
        known = self._routes.get(peer)
        if known is None or known.id != route:
            self._routes[peer] = Route(route, str(frame.get("Peer-Address")).removeprefix("::ffff:"))
            link = self._links.get(peer)
            if link is not None and known is not None:
                link.renew()
            if link is not None:
                link.hurry()
        self._tell(peer, True, False)
        self._on_message(peer, frame.bytes)

    def _allowed(self, peer: NodeId) -> bool:
        if self._roster.allows(peer):
            return True
        self._counters.count(Reason.NOT_A_MEMBER)
        self.drop(peer)
        return False

    def _answer(self, peer: NodeId, data: bytes) -> bool:
        """Send over the connection by which `peer` dialled us."""
        if self._router is None:
            return False
        try:
            return self._router.send(self._routes[peer].id, data)
        except zmq.ZMQError as error:
            if error.errno != errno.EHOSTUNREACH:
                raise
        del self._routes[peer]
        link = self._links.get(peer)
        if link is None or not link.up:
            self._tell(peer, False, False)
        return False


def _more(socket: SyncSocket) -> bool:
    """Whether the packet has more frames than we speak; they are read away."""
    found = False
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv(zmq.NOBLOCK)
        found = True
    return found
