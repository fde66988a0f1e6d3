"""Where ZeroMQ sockets are made: every setting that keeps a stranger or a dead peer from hurting us.

Nothing listens without CURVE, a ZAP domain and its enforcement: with any of the three missing libzmq lets
everybody in. Sockets never linger, never queue for a peer that is not there, and never resolve names.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import zmq

from openclaw.config import HIGH_WATER_MARK, MESSAGE_BYTES_MAX, OPEN_FILES, SOCKETS_MAX
from openclaw.transport.poller import SyncSocket

HANDSHAKE_MS = 3000
CONNECT_MS = 3000
HEARTBEAT_MS = 10_000
HEARTBEAT_TIMEOUT_MS = 20_000
HEARTBEAT_TTL_MS = 30_000
BACKLOG = 256
CURVE_BYTES = 33  # what encryption adds to a frame: libzmq's limit is on the sum


class Domain(Enum):
    """What a listener is for: ZAP is asked under this name who may come in."""

    MESH = b"openclaw.mesh"
    BULK = b"openclaw.bulk"
    INTRO = b"openclaw.intro"


class CurveKeys(Protocol):
    """A CURVE pair, Z85."""

    @property
    def curve_public(self) -> bytes: ...
    @property
    def curve_secret(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one connection may cost: bytes a message, and messages a pipe."""

    message_bytes_max: int = MESSAGE_BYTES_MAX
    high_water_mark: int = HIGH_WATER_MARK


def raise_limits(context: zmq.Context[SyncSocket]) -> None:
    """Room for PEERS_MAX peers, five descriptors each. Call it before the first socket is made."""
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def router(
    context: zmq.Context[SyncSocket], domain: Domain, curve_secret: bytes, bounds: Bounds
) -> SyncSocket:
    """A listener that lets in whom ZAP allows, and says so when a route is gone instead of dropping."""
    socket = _socket(context, zmq.ROUTER, bounds)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, curve_secret)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.value)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.BACKLOG, BACKLOG)
    return socket


def dealer(
    context: zmq.Context[SyncSocket], keys: CurveKeys, server_key: bytes, bounds: Bounds
) -> SyncSocket:
    """A connection to whoever holds `server_key`, and to nobody else.

    libzmq does not reconnect it: after a refusal it never would, to an old address it always would. Whoever
    opened it watches it and dials again.
    """
    socket = _socket(context, zmq.DEALER, bounds)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.curve_public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.curve_secret)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, -1)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, CONNECT_MS)
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TTL_MS)
    return socket


def _socket(context: zmq.Context[SyncSocket], kind: int, bounds: Bounds) -> SyncSocket:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, bounds.high_water_mark)
    socket.setsockopt(zmq.RCVHWM, bounds.high_water_mark)
    socket.setsockopt(zmq.MAXMSGSIZE, bounds.message_bytes_max + CURVE_BYTES)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    socket.setsockopt(zmq.TCP_KEEPALIVE, 1)
    socket.setsockopt(zmq.IPV6, 1)
    return socket
