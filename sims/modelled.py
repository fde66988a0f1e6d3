"""The nouns of the modelled protocols: parameters, messages, and the queue of news that rides along.

The fields are memberlist's, as msgpack maps, so the sizes are those of its packets but for a few bytes of framing.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from math import ceil, log10

import msgspec

from openclaw.ids import NodeId
from openclaw.messages import Status

ADDRESS = bytes(4)
PORT = 7946
VERSIONS = bytes((1, 5, 2, 2, 5, 4))
META = bytes(120)  # what a node publishes, about as much as ours


@dataclass(frozen=True, slots=True)
class Parameters:
    """Without `lifeguard` there are no nacks and no second question; None is for what a protocol does not do.

    The longest suspicion is `suspicion_stretch` times the shortest; that many `confirmations` shorten it fully.
    """

    name: str
    period_s: float
    timeout_s: float
    suspicion_mult: float
    suspicion_stretch: float = 1.0
    confirmations: int = 0
    health_max: int = 0
    retransmit_mult: int = 3
    helpers: int = 3
    lifeguard: bool = False
    gossip_s: float | None = None
    gossip_nodes: int = 3
    gossip_to_dead_s: float = 0.0
    push_pull_s: float | None = None
    packet_bytes: int = 1400

    def shortest_s(self, nodes: int) -> float:
        return self.suspicion_mult * max(1.0, log10(max(1, nodes))) * self.period_s


class _Part(msgspec.Struct, frozen=True, tag_field="t", tag=str.lower):
    """One message; a packet has a few."""


class Ping(_Part, frozen=True):
    SeqNo: int
    Node: NodeId
    SourceNode: NodeId
    SourceAddr: bytes = ADDRESS
    SourcePort: int = PORT


class Ack(_Part, frozen=True):
    SeqNo: int
    Payload: bytes = b""


class Nack(_Part, frozen=True):
    SeqNo: int


class IndirectPing(_Part, frozen=True):
    SeqNo: int
    Node: NodeId
    SourceNode: NodeId
    Nack: bool
    Target: bytes = ADDRESS
    Port: int = PORT
    SourceAddr: bytes = ADDRESS
    SourcePort: int = PORT


class Alive(_Part, frozen=True):
    Incarnation: int
    Node: NodeId
    Meta: bytes = META
    Addr: bytes = ADDRESS
    Port: int = PORT
    Vsn: bytes = VERSIONS


class Suspect(_Part, frozen=True):
    Incarnation: int
    Node: NodeId
    From: NodeId


class Dead(_Part, frozen=True):
    Incarnation: int
    Node: NodeId
    From: NodeId


Claim = Alive | Suspect | Dead


class PushPull(_Part, frozen=True):
    """Everything that its sender holds."""

    States: tuple[Claim, ...]
    Reply: bool


Part = Ping | Ack | Nack | IndirectPing | Alive | Suspect | Dead | PushPull


class Packet(msgspec.Struct, frozen=True):
    parts: tuple[Part, ...]


def state_of(node: NodeId, incarnation: int, status: Status, by: NodeId) -> Claim:
    match status:
        case Status.ALIVE:
            return Alive(incarnation, node)
        case Status.SUSPECT:
            return Suspect(incarnation, node, by)
        case _:
            return Dead(incarnation, node, by)


class Queue:
    """News, each sent a number of times that grows with the logarithm of the mesh, least sent first."""

    def __init__(self, retransmit_mult: int) -> None:
        self._mult = retransmit_mult
        self._held: dict[NodeId, tuple[Claim, int, int]] = {}  # what, its size, how often it was sent

    def __len__(self) -> int:
        return len(self._held)

    def put(self, claim: Claim) -> None:
        """Newer news of a node replaces the older."""
        self._held.pop(claim.Node, None)
        self._held[claim.Node] = (claim, len(msgspec.msgpack.encode(claim)), 0)

    def take(self, room: int, nodes: int) -> list[Claim]:
        if not self._held:
            return []
        limit = self._mult * ceil(log10(nodes + 1))
        chosen = []
        for node, (claim, size, sent) in nsmallest(32, self._held.items(), key=lambda item: item[1][2]):
            if size > room:
                continue
            room -= size
            chosen.append(claim)
            if sent + 1 >= limit:
                del self._held[node]
            else:
                self._held[node] = (claim, size, sent + 1)
        return chosen
