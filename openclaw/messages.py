"""What nodes say to each other. Frozen structs, arrays on the wire, bounded in every field.

A field is only ever appended, with a default: an older node skips it, a newer one fills it in. An unknown
message is counted and dropped by `wire`. Who sent a message is what CURVE says and is never in it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta as Bound
from msgspec import Struct

from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId, TaskId, Token
from openclaw.records import (
    Batch,
    Count,
    Counts,
    Exit,
    Meta,
    Metrics,
    Name,
    Needs,
    Record,
    Seconds,
    Text,
    Tier,
)

Hash = Annotated[bytes, Bound(max_length=64)]


class Status(IntEnum):
    """A member's state. Within one incarnation the higher one wins a merge."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


class Message(Struct, frozen=True, array_like=True, tag_field="type", tag=str.lower):
    """Base of every message; the tag on the wire is the class's name in lower case."""


# --- gossip --------------------------------------------------------------------------------------


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


# --- election ------------------------------------------------------------------------------------


class Elect(Message, frozen=True):
    """I would stand for `term`; you rank above me. Will you?"""

    term: Count


class ElectAnswer(Message, frozen=True):
    """`standing`: I take it from here. Else `leader` is one that I hear, or `stored` why the term is old."""

    term: Count
    standing: bool
    tier: Tier
    stored: Epoch
    leader: Epoch = NO_EPOCH


class Coordinator(Message, frozen=True):
    """I lead under `epoch`, which is on my disk."""

    epoch: Epoch


class Higher(Message, frozen=True):
    """I have stored a higher epoch than the one that you lead under."""

    epoch: Epoch


class Offer(Message, frozen=True):
    """Your turn: lead under `term` if you announce it within `expires_s`; here is what I know."""

    term: Count
    expires_s: Seconds
    demands: tuple[DemandOf, ...] = ()
    outstanding: tuple[GrantRow, ...] = ()


class OfferRefused(Message, frozen=True):
    term: Count
    reason: Text


# --- tasks: demand, grant, assign ----------------------------------------------------------------


class DemandRow(Record, frozen=True):
    """`count` tasks of one class that wait for a place, as of the grant numbered in `Demand.seen`."""

    row: Count  # the owner's own number of the class
    needs: Needs
    count: Count
    priority: int = 0
    runtime_s: Annotated[float, Bound(ge=-1, lt=1e12)] = -1.0  # what such tasks took lately; -1 unknown
    job: Name = ""


class Unused(Record, frozen=True):
    """Grants that found no task any more."""

    seq: Count
    worker: NodeId
    count: Count


class Demand(Message, frozen=True):
    """All that I want a place for, replacing what I said. `seen` is your last grant that I counted in."""

    epoch: Epoch
    seen: Count
    rows: Annotated[tuple[DemandRow, ...], Bound(max_length=1024)]
    unused: Annotated[tuple[Unused, ...], Bound(max_length=1024)] = ()


class DemandOf(Record, frozen=True):
    """One owner's demand, as a leader hands it over to the next."""

    owner: NodeId
    rows: Annotated[tuple[DemandRow, ...], Bound(max_length=1024)]


class GrantRow(Record, frozen=True):
    """`count` places on `worker` (during its start `boot`) for the owner's class `row`."""

    row: Count
    worker: NodeId
    boot: Name
    count: Count
    owner: NodeId = NodeId("")


class Grant(Message, frozen=True):
    """A lease on places, `ttl_s` long on the receiver's own clock."""

    epoch: Epoch
    seq: Count
    ttl_s: Seconds
    rows: Annotated[tuple[GrantRow, ...], Bound(max_length=1024)]


class Report(Message, frozen=True):
    """A worker's load, to the leader. `taken` counts assigned tasks per grant since the last report."""

    epoch: Epoch
    boot: Name
    slots: Count
    running: Count
    queued: Count
    draining: bool
    taken: Annotated[tuple[tuple[NodeId, Count, Count], ...], Bound(max_length=4096)] = ()  # owner, grant, n


class Item(Record, frozen=True):
    """One task on its way to a worker. `batch` and `leaf` say where its signature is."""

    task: TaskId
    token: Token
    needs: Needs
    payload: bytes
    batch: Count
    leaf: Count
    once: bool = False


class Assign(Message, frozen=True):
    """Start these. Addressed to one start (`boot`) of the worker; a later start refuses it.

    `grant` is the leader's number for the lease used, 0 when the owner chose by probing (leaderless).
    """

    epoch: Epoch
    grant: Count
    boot: Name
    batches: Annotated[tuple[Batch, ...], Bound(max_length=256)]
    items: Annotated[tuple[Item, ...], Bound(max_length=1024)]


class Refused(Record, frozen=True):
    task: TaskId
    token: Token
    reason: Text


class Returned(Message, frozen=True):
    """Not started, and never will be under these tokens."""

    items: Annotated[tuple[Refused, ...], Bound(max_length=1024)]


class Started(Message, frozen=True):
    """These run now; wall-clock start times, UTC seconds."""

    items: Annotated[tuple[tuple[TaskId, Token, float], ...], Bound(max_length=1024)]


class Outcome(Record, frozen=True):
    task: TaskId
    token: Token
    exit: Exit


class Outcomes(Message, frozen=True):
    """These ended; kept and sent again until acknowledged."""

    items: Annotated[tuple[Outcome, ...], Bound(max_length=1024)]


class OutcomesStored(Message, frozen=True):
    """These outcomes are on my disk (or are no longer wanted): let them go."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Ask(Message, frozen=True):
    """What have you of these? Whatever you have not, never start under such a token."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]


class Holding(IntEnum):
    """A worker's answer about one token."""

    NOT_STARTED = 0  # and fenced
    WAITING = 1
    RUNNING = 2
    MAYBE_STARTED = 3  # it was started; how it ended is not known here
    ENDED = 4  # the outcome follows


class Have(Message, frozen=True):
    boot: Name
    items: Annotated[tuple[tuple[TaskId, Token, Holding], ...], Bound(max_length=1024)]


class End(Message, frozen=True):
    """End these attempts if they run, never start them if they do not: cancelled, or superseded."""

    items: Annotated[tuple[tuple[TaskId, Token], ...], Bound(max_length=1024)]
    reason: Name  # "cancel" or "superseded"


class Cancel(Message, frozen=True):
    """To the owner, from wherever the person sits."""

    tasks: Annotated[tuple[TaskId, ...], Bound(max_length=1024)]


class Probe(Message, frozen=True):
    """No leader right now: how full are you?"""

    seq: Count


class Room(Message, frozen=True):
    seq: Count
    boot: Name
    load: Count
    free: Count


# --- served by the runtime, never by the core ----------------------------------------------------


class RosterSync(Message, frozen=True):
    """Certificates and revocations, exact bytes; `want` asks for the receiver's in return."""

    records: Annotated[tuple[bytes, ...], Bound(max_length=256)]
    want: bool = False


class Query(Message, frozen=True):
    """A question about tasks that this node owns or runs; `body` is msgpack."""

    seq: Count
    op: Name
    body: bytes


class Reply(Message, frozen=True):
    seq: Count
    body: bytes
    last: bool = True


class DialBulk(Message, frozen=True):
    """I cannot reach your bulk port; please dial mine."""

    port: Count
    addresses: Annotated[tuple[Name, ...], Bound(max_length=16)]


GossipMessage = Ping | Ack | PingRequest | Nack | Gossip | Digest | MetaWant | MetaHave
ElectionMessage = Elect | ElectAnswer | Coordinator | Higher | Offer | OfferRefused
LeaderMessage = Demand | Report
OwnerMessage = Grant | Returned | Started | Outcomes | Have | Cancel | Room
WorkerMessage = Assign | OutcomesStored | Ask | End | Probe
CoreMessage = GossipMessage | ElectionMessage | LeaderMessage | OwnerMessage | WorkerMessage
RuntimeMessage = RosterSync | Query | Reply | DialBulk
AnyMessage = CoreMessage | RuntimeMessage

EARLY = (Ping, Ack, PingRequest, Nack, MetaWant, MetaHave, Digest, Demand, Grant, Report, Probe, Room, Ask)
"""What may leave before the commit of the batch that it was made in. Nothing else may, ever.

A `Head` carries incarnation and epoch; the machines put only stored ones there (see `gossip.membership`).
`Assign` is not here: its intent is on disk first, which costs one group commit and saves every duplicate.
"""
