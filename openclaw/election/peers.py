"""The other nodes as the election sees them: who lives, in which start, of which tier, following whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.election.rank import order
from openclaw.ids import Epoch, NodeId
from openclaw.records import Tier

_UNTOLD = Tier.MAINS


@dataclass(slots=True)
class Peers:
    """`boots` has every peer that is alive or suspect, `heard` whom a peer said it follows."""

    me: NodeId
    boots: dict[NodeId, str] = field(default_factory=dict)
    heard: dict[NodeId, Epoch] = field(default_factory=dict)
    tiers: dict[NodeId, Tier] = field(default_factory=dict)

    @property
    def alone(self) -> bool:
        return not self.boots

    def live(self) -> list[NodeId]:
        return sorted(self.boots)

    def tier(self, node: NodeId) -> Tier:
        """What `node` has said of itself; one that has not said yet is taken for a machine on mains."""
        return self.tiers.get(node, _UNTOLD)

    def order(self, term: int) -> list[NodeId]:
        """Who may stand in `term` as far as we know, best first."""
        return order(term, [self.me, *self.boots], self.tier)

    def outranks(self, term: int, other: NodeId) -> bool:
        """Whether we come before `other` in `term`."""
        return order(term, [self.me, other], self.tier)[0] == self.me

    def claim_for(self, node: NodeId) -> Epoch | None:
        """The highest epoch under which anyone said to follow `node`."""
        return max((claim for claim in self.heard.values() if claim.node == node), default=None)

    def forget(self, node: NodeId, left: bool) -> None:
        self.boots.pop(node, None)
        self.heard.pop(node, None)
        if left:
            self.tiers.pop(node, None)
