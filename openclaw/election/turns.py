"""A leader's turn: how long it serves, and to whom it offers the next term.

An offer is for a fresh term and expires: one that fails burns its term and goes to the best of the next one.
The leader serves until the successor's announcement, so no moment is without a leader.
"""

from __future__ import annotations

from openclaw.config import Settings
from openclaw.effects import Effect, Rng, Send
from openclaw.election.peers import Peers
from openclaw.ids import Epoch, NodeId
from openclaw.messages import Coordinator
from openclaw.notes import OfferTurn

_TERMS_LOOKED_AT_MAX = 32  # of two nodes one comes first eight times in a row often enough to be seen


def successor(term: int, peers: Peers) -> tuple[NodeId, int] | None:
    """The first term after `term` whose best node is not this one, and that node.

    None when nobody else comes first in any of the next few terms: then this node is the only one of its
    tier, and serves on under its present term, which costs nobody anything.
    """
    for fresh in range(term + 1, term + 1 + _TERMS_LOOKED_AT_MAX):
        best = peers.order(fresh)[0]
        if best != peers.me:
            return best, fresh
    return None


class Turn:
    """The turn of a node that leads under `epoch`, from `now` on."""

    def __init__(self, epoch: Epoch, peers: Peers, settings: Settings, rng: Rng, now: float) -> None:
        self._epoch = epoch
        self._peers = peers
        self._settings = settings
        self._rng = rng
        self._ends = now + settings.rotation_s
        self._repeat_at = now + settings.coordinator_every_s
        self._burned = epoch.term  # the highest term that was offered
        self._offered: OfferTurn | None = None
        self._offer_ends = 0.0

    def next_deadline(self) -> float | None:
        if self._peers.alone:
            return None
        return min(self._repeat_at, self._ends if self._offered is None else self._offer_ends)

    def serve(self, now: float, floor: int) -> list[Effect]:
        """What is due. An offered term is above `floor`, the highest that anyone has stored."""
        effects: list[Effect] = []
        if self._peers.alone:
            return effects
        if now >= self._repeat_at:
            self._repeat_at = now + self._settings.coordinator_every_s
            effects.append(Send(self._rng.choice(self._peers.live()), Coordinator(self._epoch)))
        if self._offered is not None and now >= self._offer_ends:
            self.failed(self._offered.term, now)
        if self._offered is None and now >= self._ends:
            effects += self._offer(now, floor)
        return effects

    def end(self, now: float) -> None:
        """Offer the next term as soon as there is someone to offer it to."""
        self._ends = min(self._ends, now)

    def joined(self, now: float) -> None:
        """A node that led only itself begins its turn with the first peer that comes."""
        if self._peers.alone:
            self._ends = now + self._settings.rotation_s

    def failed(self, term: int, now: float) -> None:
        """The offer of `term` was refused, or ran out."""
        if self._offered is not None and self._offered.term == term:
            self._offered = None
            self.end(now)

    def gone(self, node: NodeId, now: float) -> None:
        if self._offered is not None and self._offered.to == node:
            self.failed(self._offered.term, now)

    def _offer(self, now: float, floor: int) -> list[Effect]:
        chosen = successor(max(self._burned, floor), self._peers)
        if chosen is None:
            self._ends = now + self._settings.rotation_s
            return []
        to, self._burned = chosen
        self._offered = OfferTurn(to, self._burned, self._settings.offer_s)
        self._offer_ends = now + self._settings.offer_s
        return [self._offered]
