"""One attempt of a node to lead one term: whom it still has to ask, and since when it waits.

It asks the best-ranked peers above it, one, then two, then four, instead of flooding all of them. Whoever is
silent for too long, or says that it stands and never announces, is passed over by going on to the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.ids import NodeId


@dataclass(slots=True)
class Candidacy:
    """`at` is when to go on without the answers that are still open."""

    term: int
    queue: list[NodeId]
    at: float
    open: set[NodeId] = field(default_factory=set)
    round_size: int = 1

    @classmethod
    def of(cls, term: int, me: NodeId, ordered: list[NodeId], now: float) -> Candidacy:
        """Everyone above `me` is asked; the best of all asks the next in line, as a witness.

        Without a witness one node's broken link to the leader would depose it for everyone.
        """
        place = ordered.index(me)
        return cls(term=term, queue=ordered[:place] or ordered[1:2], at=now)

    def next_round(self, until: float) -> list[NodeId]:
        """Whom to ask now. Empty when all who rank above have had their chance."""
        asked, self.queue = self.queue[: self.round_size], self.queue[self.round_size :]
        self.round_size *= 2
        self.open = set(asked)
        self.at = until
        return asked

    def defer(self, until: float) -> None:
        """Someone above takes it from here, and has until then to announce."""
        self.open.clear()
        self.at = until

    def awaits(self, peer: NodeId, term: int) -> bool:
        return peer in self.open and term == self.term

    def answered(self, peer: NodeId) -> bool:
        """`peer` does not object. True when nobody of this round is left to wait for."""
        self.open.discard(peer)
        return not self.open
