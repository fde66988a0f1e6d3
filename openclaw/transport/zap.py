"""Who may connect at all: the ZAP handler of a node, one per ZeroMQ context.

The mesh and bulk ports are open to the roster: a member is let in under its node id, an unknown key is told
to try again later (300, it may be certified soon), a revoked one to go away (400). The intro port is open to
any key, at a bounded rate per address and in all. Whatever goes wrong in here refuses; a listener whose
handler has died refuses everybody.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

import zmq
from zmq.utils import z85

from openclaw.config import INTRO_ADDRESSES_MAX, INTRO_BURST, INTRO_PER_ADDRESS_S, INTRO_PER_S
from openclaw.ids import NodeId
from openclaw.transport.poller import Poller, SyncSocket
from openclaw.transport.sockets import Domain
from openclaw.wire import Counters, Reason

ENDPOINT = "inproc://zeromq.zap.01"
OK, LATER, NEVER, BROKEN = b"200", b"300", b"400", b"500"


class Roster(Protocol):
    """Who belongs to the mesh, as of now. Keys are Z85; a key is of a "member", "revoked" or "unknown"."""

    def curve_key(self, node: NodeId, /) -> bytes | None: ...
    def by_curve_key(self, key: bytes, /) -> NodeId | None: ...
    def status_of_key(self, key: bytes, /) -> str: ...
    def allows(self, node: NodeId, /) -> bool: ...


class Bucket:
    """A token bucket: `per_s` on average, `burst` at once."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: float, now: float) -> None:
        self._per_s, self._burst, self._tokens, self._at = per_s, burst, burst, now

    def take(self, now: float) -> bool:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Throttle:
    """A bucket per address and one over all; the address that was seen longest ago is forgotten first."""

    def __init__(self, now: float) -> None:
        self._all = Bucket(INTRO_PER_S, INTRO_BURST, now)
        self._by_address: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        bucket = self._by_address.pop(address, None) or Bucket(INTRO_PER_ADDRESS_S, INTRO_BURST, now)
        self._by_address[address] = bucket
        if len(self._by_address) > INTRO_ADDRESSES_MAX:
            self._by_address.popitem(last=False)
        return bucket.take(now) and self._all.take(now)


class Zap:
    """Answers libzmq's question at every handshake. Start it before anything binds in the same context."""

    def __init__(self, context: zmq.Context[SyncSocket], roster: Roster, counters: Counters) -> None:
        self._roster = roster
        self._counters = counters
        self._throttle = Throttle(time.monotonic())
        socket = context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(ENDPOINT)
        self._poller = Poller(socket, self._take)

    def close(self) -> None:
        self._poller.close()

    def _take(self, socket: SyncSocket) -> None:
        request = socket.recv_multipart(zmq.NOBLOCK)
        try:
            status, user = self._judge(request)
        except Exception:
            status, user = BROKEN, ""
        sequence = request[1] if len(request) > 1 else b""
        self._poller.send(b"1.0", sequence, status, b"", user.encode(), b"")

    def _judge(self, request: list[bytes]) -> tuple[bytes, str]:
        _version, _sequence, domain, address, _routing, mechanism, key = request
        if mechanism != b"CURVE":
            return NEVER, ""
        match Domain(domain):
            case Domain.INTRO:
                if self._throttle.allows(address.decode(), time.monotonic()):
                    return OK, "intro"
                self._counters.count(Reason.THROTTLED)
                return LATER, ""
            case Domain.MESH | Domain.BULK:
                return self._member(z85.encode(key))

    def _member(self, key: bytes) -> tuple[bytes, str]:
        node = self._roster.by_curve_key(key)
        if node is not None and self._roster.allows(node):
            return OK, node
        self._counters.count(Reason.NOT_A_MEMBER)
        return (NEVER if self._roster.status_of_key(key) == "revoked" else LATER), ""
