"""The election machine: Bully with stored terms, nobody preempting, and turns.

It promises that an epoch is stored before anyone hears of it, that no term is raised but by a stored epoch,
and that an election has a reason: the leader is down, left, restarted or gave up, or none is known. A peer
that hears a live leader refuses the candidate and names that leader. When two leaders meet, the higher epoch
stays. A leader's word counts once membership says that it lives, for only then will membership also say
when it dies.
"""

from __future__ import annotations

from openclaw.config import Settings
from openclaw.effects import (
    Effect,
    Event,
    MetaChanged,
    Received,
    Resumed,
    Rng,
    Send,
    Started,
    StopAsked,
    Store,
    Tick,
)
from openclaw.election.peers import Peers
from openclaw.election.standing import Candidacy, Standing
from openclaw.election.turns import Turn
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.messages import Coordinator, Elect, ElectAnswer, Higher, Offer, OfferRefused, Status
from openclaw.notes import LeaderChanged, LeaderSeen, MemberChanged, MetaLearned, Note, Settled, TurnTaken
from openclaw.records import EpochRow, Table, Tier


class Bully:
    """Views: `epoch`, the highest stored; `leader`, whom we follow; `leading`; `since`, on our own clock."""

    def __init__(self, me: NodeId, settings: Settings, rng: Rng, epoch_stored: Epoch) -> None:
        self.me = me
        self.epoch = epoch_stored
        self.leader: Epoch | None = None
        self.since = 0.0
        self._settings = settings
        self._rng = rng
        self._floor = epoch_stored.term  # the highest term that a peer says it has stored
        self._peers = Peers(me)
        self._standing = Standing(self._peers, settings)
        self._doubt_at: float | None = None
        self._inquired = NO_EPOCH  # the higher epoch whose leader we have asked to show itself
        self._turn: Turn | None = None

    @property
    def leading(self) -> bool:
        return self.leader is not None and self.leader.node == self.me

    def next_deadline(self) -> float | None:
        deadlines = [self._standing.next_deadline(), self._doubt_at]
        if self._turn is not None:
            deadlines.append(self._turn.next_deadline())
        return min((at for at in deadlines if at is not None), default=None)

    def handle(self, event: Event | Note, now: float) -> list[Effect]:
        match event:
            case Tick():
                return self._on_tick(now)
            case Received(message, sender):
                return self._on_message(message, sender, now)
            case MemberChanged(node, status, incarnation) if node != self.me:
                if status in (Status.ALIVE, Status.SUSPECT):
                    return self._on_live(node, incarnation.boot, now)
                return self._on_gone(node, status is Status.LEFT, now)
            case LeaderSeen(peer, epoch):
                return self._on_leader_seen(peer, epoch, now)
            case MetaLearned(node, _, meta) if node != self.me:
                self._on_tier(node, meta.tier, now)
            case MetaChanged(meta):
                self._on_tier(self.me, meta.tier, now)
            case Started(meta):
                self._peers.tiers[self.me] = meta.tier
                self.since = now
            case Settled():
                self._standing.settled = True
                if self.leader is None:
                    waited_s = now - self.since
                    self._seek(now, max(0.0, self._settings.patience_s - waited_s))
            case Resumed():
                return self._on_resumed(now)
            case StopAsked():
                return self._on_stop(now)
        return []

    def _on_message(self, message: object, sender: NodeId, now: float) -> list[Effect]:
        match message:
            case Elect(term):
                return self._on_elect(term, sender, now)
            case ElectAnswer():
                return self._on_answer(message, sender, now)
            case Coordinator(epoch) if epoch.node == sender:
                return self._on_coordinator(epoch, sender, now)
            case Higher(epoch):
                return self._on_higher(epoch, sender, now)
            case Offer():
                return self._on_offer(message, sender, now)
            case OfferRefused(term):
                if self._turn is not None:
                    self._turn.failed(term, now)
        return []

    # --- timers ----------------------------------------------------------------------------------

    def _on_tick(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        if self._doubt_at is not None and now >= self._doubt_at:
            effects += self._lose("it no longer leads", now)
        standing = self._standing
        if standing.at is not None and now >= standing.at:
            effects += self._stand(now)
        if standing.candidacy is not None and now >= standing.candidacy.at:
            effects += self._go_on(standing.candidacy, now)
        if self._turn is not None:
            effects += self._turn.serve(now, self._fresh_term() - 1)
        return effects

    # --- standing --------------------------------------------------------------------------------

    def _fresh_term(self) -> int:
        return max(self.epoch.term, self._floor) + 1

    def _seek(self, now: float, delay_s: float = 0.0) -> None:
        self._standing.seek(self._fresh_term(), now, delay_s)

    def _stand(self, now: float) -> list[Effect]:
        candidacy = self._standing.begin(self._fresh_term(), now)
        return [] if candidacy is None else self._go_on(candidacy, now)

    def _go_on(self, candidacy: Candidacy, now: float) -> list[Effect]:
        asked = candidacy.next_round(now + self._settings.answer_s)
        if not asked:
            return self._lead(candidacy.term, "elected", now)
        return [Send(peer, Elect(candidacy.term)) for peer in asked]

    def _on_elect(self, term: int, sender: NodeId, now: float) -> list[Effect]:
        stands = False
        if self.leader is None and self._standing.able(now) and term > self.epoch.term:
            stands = self._peers.outranks(term, sender)
            if not stands:
                self._standing.yield_to_better(now)
        effects: list[Effect] = [Send(sender, self._answer(term, stands))]
        candidacy = self._standing.candidacy
        if stands and (candidacy is None or candidacy.term < term):
            self._floor = max(self._floor, term - 1)
            effects += self._stand(now)
        return effects

    def _answer(self, term: int, standing: bool) -> ElectAnswer:
        tier = self._peers.tier(self.me)
        return ElectAnswer(term, standing, tier, self.epoch, self.leader or NO_EPOCH)

    def _on_answer(self, answer: ElectAnswer, sender: NodeId, now: float) -> list[Effect]:
        self._peers.tiers[sender] = answer.tier
        candidacy = self._standing.awaiting(sender, answer.term)
        if answer.leader not in (NO_EPOCH, self.leader) and answer.leader.node != self.me:
            effects = self._heed(answer.leader, now)
            if effects or candidacy is None:
                return effects
            # It is down here, or its term is older than what we have stored.
            self._standing.refused(now)
            return self._correct(answer.leader)
        if candidacy is None:
            return []
        if answer.stored.term >= candidacy.term:
            self._floor = max(self._floor, answer.stored.term)
            return self._stand(now)
        if answer.standing:
            candidacy.defer(sender, now + self._settings.announce_s)
            return []
        return self._go_on(candidacy, now) if candidacy.answered(sender) else []

    def _correct(self, claim: Epoch) -> list[Effect]:
        """Tell a live leader of an older term what we have stored, so that it takes the next one."""
        if claim < self.epoch and claim.node in self._peers.boots:
            return [Send(claim.node, Higher(self.epoch))]
        return []

    # --- leading and following -------------------------------------------------------------------

    def _lead(self, term: int, reason: str, now: float) -> list[Effect]:
        effects = self._follow(Epoch(term, self.me), reason, now)
        self._turn = Turn(self.epoch, self._peers, self._settings, self._rng, now)
        return effects + [Send(peer, Coordinator(self.epoch)) for peer in self._peers.live()]

    def _follow(self, epoch: Epoch, reason: str, now: float) -> list[Effect]:
        stored: list[Effect] = []
        if epoch > self.epoch:
            self.epoch = epoch
            stored = [Store(Table.META, "epoch", EpochRow(epoch))]
        self._turn = self._doubt_at = None
        self._standing.found()
        self.leader = epoch
        self.since = now
        return [*stored, LeaderChanged(epoch, reason)]

    def _heed(self, claim: Epoch, now: float) -> list[Effect]:
        """Follow the leader of `claim` if it lives and nothing higher is stored here."""
        if claim == self.leader or claim < self.epoch or claim.node not in self._peers.boots:
            return []
        return self._follow(claim, "announced", now)

    def _lose(self, reason: str, now: float) -> list[Effect]:
        self._turn = self._doubt_at = None
        self.leader = None
        self.since = now
        self._seek(now)
        return [LeaderChanged(None, reason)]

    def _on_coordinator(self, epoch: Epoch, sender: NodeId, now: float) -> list[Effect]:
        if epoch < self.epoch:
            return self._contradict(sender)
        if epoch == self.leader:
            self._doubt_at = None
        self._peers.heard[sender] = epoch
        return self._heed(epoch, now)

    def _contradict(self, peer: NodeId) -> list[Effect]:
        """`peer` leads under an older epoch: it steps down if our leader lives, else it takes the next."""
        if self.leading:
            return [Send(peer, Coordinator(self.epoch))]
        if self.leader is not None:
            return [Send(peer, self._answer(self.epoch.term, standing=False))]
        self._standing.wait_for_announcement()
        return [Send(peer, Higher(self.epoch))]

    def _on_higher(self, epoch: Epoch, sender: NodeId, now: float) -> list[Effect]:
        self._floor = max(self._floor, epoch.term)
        if self.leader is None or epoch <= self.leader:
            return []
        if self.leading:
            if epoch.node in self._peers.boots and epoch.node != sender and epoch != self._inquired:
                self._inquired = epoch
                return [Send(epoch.node, Coordinator(self.epoch))]  # it answers with its own if it leads
            return self._lead(self._fresh_term(), "a higher term had no leader", now)
        if sender == self.leader.node:
            followed = [] if epoch.node == sender else self._heed(epoch, now)
            return followed or self._lose("it no longer leads", now)
        return []

    def _on_leader_seen(self, peer: NodeId, epoch: Epoch, now: float) -> list[Effect]:
        self._peers.heard[peer] = epoch
        if self.leading and epoch < self.epoch:
            return [Send(peer, Coordinator(self.epoch))]
        if epoch.node == self.me:
            return self._disown(peer, epoch)
        followed = self._heed(epoch, now)
        if followed:
            return followed
        if self.leader is None:
            return self._correct(epoch)
        if peer == self.leader.node:
            if epoch == self.leader:
                self._doubt_at = None
            elif self._doubt_at is None:
                # A message that it made before it won may arrive late, so this alone is no proof.
                self._doubt_at = now + self._settings.patience_s
        elif epoch.node == peer and epoch < self.epoch:
            return self._contradict(peer)
        return []

    def _disown(self, peer: NodeId, epoch: Epoch) -> list[Effect]:
        """`peer` follows us under an epoch of a former start, or of a disk that was since restored."""
        if epoch == self.leader:
            return []
        effects: list[Effect] = []
        if epoch > self.epoch:
            self.epoch = epoch
            effects.append(Store(Table.META, "epoch", EpochRow(epoch)))
        return [*effects, Send(peer, Higher(self.epoch))]

    # --- what membership says --------------------------------------------------------------------

    def _on_live(self, node: NodeId, boot: str, now: float) -> list[Effect]:
        if self._turn is not None:
            self._turn.joined(now)
        before = self._peers.boots.get(node)
        self._peers.boots[node] = boot
        if self.leading:
            return [] if before == boot else [Send(node, Coordinator(self.epoch))]
        if self.leader is not None and self.leader.node == node and before not in (None, boot):
            return self._lose("it restarted", now)
        claim = self._peers.claim_for(node)
        return self._heed(claim, now) if before is None and claim is not None else []

    def _on_gone(self, node: NodeId, left: bool, now: float) -> list[Effect]:
        self._peers.forget(node, left)
        if self._turn is not None:
            self._turn.gone(node, now)
        if self.leader is not None and self.leader.node == node:
            return self._lose("left" if left else "down", now)
        self._seek_if_idle(now)
        return []

    def _on_tier(self, node: NodeId, tier: Tier, now: float) -> None:
        self._peers.tiers[node] = tier
        if self._turn is not None and self._peers.tier(self.me) is Tier.NO_LEAD:
            self._turn.end(now)  # it had to lead, and passes it on as soon as another can
        self._seek_if_idle(now)

    def _seek_if_idle(self, now: float) -> None:
        """Who may stand has changed, and with nobody else left it may be us."""
        if self.leader is None and (self._peers.alone or self._standing.idle):
            self._seek(now)

    def _on_resumed(self, now: float) -> list[Effect]:
        """What we led may have gone on without us: give it up first, and listen before we stand again."""
        self._standing.slept(now)
        if self.leading:
            return self._lose("this node slept", now)
        if self.leader is None:
            self._seek(now)
        return []

    # --- turns -----------------------------------------------------------------------------------

    def _on_offer(self, offer: Offer, sender: NodeId, now: float) -> list[Effect]:
        reason = ""
        if not self._standing.able(now):
            reason = "not ready to lead"
        elif self._peers.tier(self.me) is Tier.NO_LEAD:
            reason = "never leads"
        elif self.leader is not None and self.leader.node != sender:
            reason = "follows another leader"
        elif offer.term <= self.epoch.term:
            reason = "the term is taken"
        if reason:
            return [Send(sender, OfferRefused(offer.term, reason))]
        effects = self._lead(offer.term, "turn", now)
        return [*effects, TurnTaken(self.epoch, offer.demands, offer.outstanding)]

    def _on_stop(self, now: float) -> list[Effect]:
        self._standing.stopping = True
        self._standing.rest()
        if self._turn is None:
            return []
        self._turn.end(now)
        return self._turn.serve(now, self._fresh_term() - 1)
