"""Who is there: probes, rumours, heartbeats, anti-entropy."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta as Bound

from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId
from openclaw.messages.base import Hash, Message, Status
from openclaw.records import Count, Counts, Meta, Metrics, Name, Record


class Rumour(Record, frozen=True):
    """What is said of one member. `accuser` is who first suspected it, so independent ones can be counted."""

    node: NodeId
    incarnation: Incarnation
    status: Status
    meta_version: Count = 0
    accuser: NodeId = NodeId("")
    back_soon: bool = False  # it stopped on purpose and kept its executor


class Beat(Record, frozen=True):
    """A node's heartbeat: load and metrics, numbered within one incarnation's boot, never on a disk."""

    node: NodeId
    boot: Name
    number: Count
    running: Count = 0
    queued: Count = 0
    metrics: Metrics = Metrics()
    counts: Counts = Counts()
    granted: Count = 0  # by this node as leader, since it started


class Head(Record, frozen=True):
    """Rides on every gossip message: who I am now, whom I follow, what my view hashes to, what is news."""

    incarnation: Incarnation
    epoch: Epoch = NO_EPOCH
    meta_version: Count = 0
    view: Hash = b""
    roster: Hash = b""
    beats: Annotated[tuple[Beat, ...], Bound(max_length=16)] = ()
    rumours: Annotated[tuple[Rumour, ...], Bound(max_length=64)] = ()


class Ping(Message, frozen=True):
    seq: Count
    head: Head


class Ack(Message, frozen=True):
    """Answers a ping; `target` names the probed node when a helper passes its ack on."""

    seq: Count
    head: Head
    target: NodeId = NodeId("")


class PingRequest(Message, frozen=True):
    """Please ping `target` for me."""

    seq: Count
    target: NodeId
    head: Head


class Nack(Message, frozen=True):
    """I asked `target` and heard nothing: proof that at least I am alive (Lifeguard)."""

    seq: Count
    target: NodeId


class Gossip(Message, frozen=True):
    """News that does not wait for the next ping."""

    head: Head


class Digest(Message, frozen=True):
    """My whole view, one rumour a member; the receiver answers with what it knows better."""

    entries: Annotated[tuple[Rumour, ...], Bound(max_length=4096)]
    reply: bool = False


class MetaWant(Message, frozen=True):
    """Send me what these nodes publish."""

    nodes: Annotated[tuple[NodeId, ...], Bound(max_length=64)]


class MetaHave(Message, frozen=True):
    node: NodeId
    version: Count
    meta: Meta
