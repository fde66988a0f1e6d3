"""What is held of one member, and the order in which claims about it win.

`join` is a maximum over a total order, so it is commutative, associative and idempotent: in whatever order
rumours arrive, and however often, views that have heard the same claims are equal. Only the member itself
raises its incarnation; within one, the worse status wins.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import inf

from openclaw.gossip.suspicion import Suspicion
from openclaw.ids import NO_EPOCH, Epoch, Incarnation
from openclaw.messages import Beat, Rumour, Status
from openclaw.records import Meta

NEVER = -inf
VIEW_BYTES = 8

Claim = tuple[int, Status, str]


def claim(rumour: Rumour) -> Claim:
    """What a rumour asserts; two with equal claims tell the same news."""
    return (rumour.incarnation.counter, rumour.status, rumour.incarnation.boot)


def join(a: Rumour, b: Rumour) -> Rumour:
    """The stronger of two rumours about one node, with the newest metadata version of both.

    A goodbye that promised a return holds until the node starts anew, whatever is said of that life.
    """
    winner = max(a, b, key=lambda r: (claim(r), r.accuser))
    counter = winner.incarnation.counter
    return Rumour(
        winner.node,
        winner.incarnation,
        winner.status,
        max(a.meta_version, b.meta_version),
        winner.accuser,
        any(r.back_soon for r in (a, b) if r.incarnation.counter == counter),
    )


def with_version(rumour: Rumour, version: int) -> Rumour:
    return Rumour(rumour.node, rumour.incarnation, rumour.status, version, rumour.accuser, rumour.back_soon)


@dataclass(slots=True)
class Row:
    """All that this node knows of one other member. The claim is shared; the rest is our own experience."""

    claim: Rumour
    since: float
    mark: int = 0  # what the claim adds to the hash of our view
    told: Incarnation | None = None  # what it last said of itself
    told_version: int = 0
    meta: Meta | None = None
    meta_version: int = 0  # of `meta`
    beat: Beat | None = None
    beat_told: int = 0  # the last of our own beats that it was sent
    rtt_s: float | None = None
    last_heard: float = NEVER
    suspicion: Suspicion | None = None
    epoch: Epoch = NO_EPOCH
    epoch_noted: float = NEVER
    roster_noted: float = NEVER
    digest_sent: float = NEVER
    differs_since: float | None = None

    @property
    def live(self) -> bool:
        """Alive until somebody has a verdict: suspects still count, and still hear everything."""
        return self.claim.status <= Status.SUSPECT

    @property
    def mistaken(self) -> bool:
        """Whether this member should hear what we hold on it: it speaks of itself as something else."""
        return (
            self.claim.status is not Status.ALIVE
            or self.told != self.claim.incarnation
            or self.told_version < self.claim.meta_version
        )


@dataclass(frozen=True, slots=True)
class MemberView:
    """One member, as others in this node and people see it. `last_heard` is on this node's clock."""

    status: Status
    incarnation: Incarnation
    meta_version: int
    meta: Meta | None
    beat: Beat | None
    rtt_s: float | None
    last_heard: float | None
    back_soon: bool = False


def mark(held: Rumour) -> int:
    """What one claim adds to the hash of a view: a sum, so one changed claim costs one hash.

    Suspicion passes by itself, and what left is forgotten at different times: neither is a difference.
    """
    if held.status is Status.LEFT:
        return 0
    counter, boot = held.incarnation
    told = f"{held.node} {counter} {boot} {held.status is Status.DOWN} {held.meta_version}"
    return int.from_bytes(blake2b(told.encode(), digest_size=VIEW_BYTES).digest(), "big")


def view_bytes(marks: int) -> bytes:
    """The sum of all marks as it goes over the wire: equal for equal views."""
    return (marks % (1 << 8 * VIEW_BYTES)).to_bytes(VIEW_BYTES, "big")


def member_view(row: Row) -> MemberView:
    held = row.claim
    return MemberView(
        held.status,
        held.incarnation,
        held.meta_version,
        row.meta,
        row.beat,
        row.rtt_s,
        None if row.last_heard == NEVER else row.last_heard,
        held.back_soon,
    )
