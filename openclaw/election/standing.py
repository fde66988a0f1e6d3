"""Whether, when and how this node stands for a term: its place in line, its candidacy, and when it keeps still.

A candidate asks the best-ranked peers above it, one, then two, then four, instead of flooding all of them. Whoever
is silent for too long, or says that it stands and never announces, is passed over by going on to the next round.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.config import Settings
from openclaw.election.peers import Peers
from openclaw.ids import NodeId

_REFUSALS_COUNTED_MAX = 8


@dataclass(slots=True)
class Candidacy:
    """One attempt to lead `term`. `at` is when to go on without the answers that are still open."""

    term: int
    queue: list[NodeId]
    at: float
    open: set[NodeId] = field(default_factory=set)
    round_size: int = 1
    deferred: bool = False

    @classmethod
    def of(cls, term: int, me: NodeId, ordered: list[NodeId], live: list[NodeId], now: float) -> Candidacy:
        """Everyone above `me` is asked; the best of all asks the next in line, or else anyone, as a witness.

        Without a witness one node's broken link to the leader would depose it for everyone.
        """
        place = ordered.index(me)
        return cls(term=term, queue=ordered[:place] or ordered[1:2] or live[:1], at=now)

    def next_round(self, until: float) -> list[NodeId]:
        """Whom to ask now. Empty when all who rank above have had their chance."""
        asked, self.queue = self.queue[: self.round_size], self.queue[self.round_size :]
        self.round_size *= 2
        self.open = set(asked)
        self.at, self.deferred = until, False
        return asked

    def defer(self, peer: NodeId, until: float) -> None:
        """`peer` takes it from here, and has until then to announce; so has whoever says the same after it."""
        self.open.discard(peer)
        self.at, self.deferred = until, True

    def answered(self, peer: NodeId) -> bool:
        """`peer` does not object. True when nobody of this round is left to wait for."""
        self.open.discard(peer)
        return not self.open and not self.deferred


class Standing:
    """Nobody stands before it has settled, for a while after it slept, and once it is stopping."""

    def __init__(self, peers: Peers, settings: Settings) -> None:
        self.candidacy: Candidacy | None = None
        self.at: float | None = None  # when to begin the next candidacy
        self.settled = False
        self.stopping = False
        self._peers = peers
        self._settings = settings
        self._quiet_until = 0.0
        self._refusals = 0

    @property
    def idle(self) -> bool:
        return self.at is None and self.candidacy is None

    def next_deadline(self) -> float | None:
        if self.candidacy is not None:
            return self.candidacy.at if self.at is None else min(self.at, self.candidacy.at)
        return self.at

    def able(self, now: float) -> bool:
        return self.settled and not self.stopping and now >= self._quiet_until

    def rest(self) -> None:
        """Whatever was under way is over."""
        self.candidacy = self.at = None

    def found(self) -> None:
        """There is a leader."""
        self.rest()
        self._refusals = 0

    def slept(self, now: float) -> None:
        self._quiet_until = now + self._settings.resume_quiet_s

    def seek(self, term: int, now: float, delay_s: float = 0.0) -> None:
        """Stand for `term` after `delay_s` and our place in line, unless a leader is heard of before."""
        self.rest()
        ordered = self._peers.order(term)
        if self.stopping or not self.settled or self._peers.me not in ordered:
            return
        if self._peers.alone:
            self.at = now
            return
        place = ordered.index(self._peers.me)
        self.at = max(now + delay_s, self._quiet_until) + place * self._settings.rank_step_s

    def begin(self, term: int, now: float) -> Candidacy | None:
        """Our candidacy for `term`; None where another kind of node should lead, or it is too early."""
        if now < self._quiet_until and not self._peers.alone:
            self.seek(term, now)  # alone it would have led at once, but somebody has come since
            return None
        self.rest()
        ordered = self._peers.order(term)
        if self._peers.me in ordered:
            self.candidacy = Candidacy.of(term, self._peers.me, ordered, self._peers.live(), now)
        return self.candidacy

    def awaiting(self, peer: NodeId, term: int) -> Candidacy | None:
        """Our candidacy for `term`, if it waits for an answer of `peer`."""
        candidacy = self.candidacy
        if candidacy is None or candidacy.term != term or peer not in candidacy.open:
            return None
        return candidacy

    def yield_to_better(self, now: float) -> None:
        """A better one is at it: it has its time to announce before we try again."""
        if not self.idle:
            self.candidacy = None
            self.at = now + self._settings.announce_s

    def wait_for_announcement(self) -> None:
        if self.at is not None:
            self.at += self._settings.announce_s

    def refused(self, now: float) -> None:
        """A peer hears a leader that we cannot follow: try again, ever more seldom."""
        wait_s = min(self._settings.rank_step_s * 2**self._refusals, self._settings.coordinator_every_s)
        self._refusals = min(self._refusals + 1, _REFUSALS_COUNTED_MAX)
        self.candidacy = None
        self.at = now + wait_s
