"""What the election promises: epochs are real and stored before they are said, and there is a reason for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Started, StopAsked, Store
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.messages import (
    Ack,
    Coordinator,
    Elect,
    ElectAnswer,
    Gossip,
    Higher,
    Offer,
    Ping,
    PingRequest,
    Status,
)
from openclaw.notes import LeaderChanged, MemberChanged, Settled
from openclaw.records import EpochRow, Tier
from sims.properties.base import Property
from sims.properties.candidates import rank
from sims.properties.membership import head_of
from sims.properties.views import LIVE, PAUSE_S, Pause, Second, View, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

TERMS_SKIPPED_MAX = 32  # an offer may pass over terms in which nobody else comes first
_HAIR = 1e-6


def named(effect: Effect) -> Iterator[Epoch]:
    """Every epoch that a message names."""
    message = effect.message if isinstance(effect, Send) else None
    match message:
        case Ping(head=head) | Ack(head=head) | PingRequest(head=head) | Gossip(head=head):
            yield head.epoch
        case Coordinator(epoch) | Higher(epoch):
            yield epoch
        case ElectAnswer(stored=stored, leader=leader):
            yield stored
            yield leader
        case _:
            return


class EpochsAreStored(Property):
    name = "stored epochs"
    sentence = (
        "An epoch that anyone names was on its leader's disk first, is on its sender's, and none ever falls."
    )
    says = (Coordinator, Higher, ElectAnswer, Ping, Ack, PingRequest, Gossip)

    def __init__(self) -> None:
        self._born: set[Epoch] = {NO_EPOCH}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        highest = host.disk.epoch
        for store in stores:
            if isinstance(store.value, EpochRow):
                epoch = store.value.epoch
                if epoch <= highest:
                    self.fail(f"{host.name} stores {epoch} over {highest}")
                if epoch.node == host.id:
                    self._born.add(epoch)
                elif epoch not in self._born:
                    self.fail(f"{host.name} stores {epoch}, which its leader has not stored")
                highest = epoch

    def performed(self, host: Host, effect: Effect) -> None:
        on_disk = host.disk.epoch
        for epoch in named(effect):
            if epoch == on_disk:
                continue  # it was told there, or stored, and judged then
            if epoch > on_disk:
                self.fail(f"{host.name} names {epoch}, and has only {host.disk.epoch} on disk")
            if epoch not in self._born:
                self.fail(f"{host.name} names {epoch}, which its leader has not stored")


class NeverAnOlderLeader(Property):
    name = "never an older leader"
    sentence = "The epochs that a node follows never fall, across its restarts."
    says = (LeaderChanged,)

    def __init__(self) -> None:
        self._highest: dict[str, Epoch] = {}

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, LeaderChanged) and effect.epoch is not None:
            highest = self._highest.get(host.name, NO_EPOCH)
            if effect.epoch < highest:
                self.fail(f"{host.name} follows {effect.epoch} after {highest}")
            self._highest[host.name] = effect.epoch


class TermsRiseByOne(Property):
    name = "terms"
    sentence = (
        "A term is the next after the highest that was stored or offered: a candidacy raises nobody's term."
    )
    says = (Elect, Offer)

    def __init__(self) -> None:
        self._highest = 0

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if isinstance(store.value, EpochRow) and store.value.epoch.node == host.id:
                self._raised(host, store.value.epoch.term, 1)

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(message=Elect(term)) if term > self._highest + 1:
                self.fail(f"{host.name} stands for {term}; the highest so far is {self._highest}")
            case Send(message=Offer(term=term)):
                self._raised(host, term, TERMS_SKIPPED_MAX)
            case _:
                pass

    def _raised(self, host: Host, term: int, by_max: int) -> None:
        if term > self._highest + by_max:
            self.fail(f"{host.name} goes to term {term}; the highest so far is {self._highest}")
        self._highest = max(self._highest, term)


class ElectionsHaveReasons(Property):
    name = "reasons"
    sentence = (
        "A node lets its leader go when it is down, left, restarted or gave up, or the node slept, and only then; it "
        "takes the lead only when it follows nobody, is offered the turn by its leader, or leads and hears of a higher "
        "term."
    )
    hears = (Started, Pause, Higher, Ping, Ack, PingRequest, Gossip)
    says = (LeaderChanged, MemberChanged)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._doubts: dict[Host, float] = {}  # when the leader itself last said that it does not lead

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        view = self._views.of(host)
        if isinstance(event, Started):
            self._doubts.pop(host, None)
            return
        if host in self._doubts and self._views.gap_s(host) > PAUSE_S:
            self._doubts[host] += self._views.gap_s(host)  # it could not act on it meanwhile
        leader = view.leader
        if leader is not None and _disowned(event, leader):
            self._doubts[host] = clock(host)
        gone: set[NodeId] = set()
        settled = view.settled
        for effect in effects:
            match effect:
                case Settled():
                    settled = True
                case MemberChanged(node=node, status=status, incarnation=incarnation):
                    known = view.members.get(node)
                    if status not in LIVE or (known and known.incarnation.boot != incarnation.boot):
                        gone.add(node)
                case LeaderChanged(epoch=None):
                    self._lost(host, leader, gone)
                    leader = None
                case LeaderChanged(epoch=Epoch() as epoch):
                    self._won(host, view, event, leader, epoch, gone)
                    if not settled and epoch.node == host.id:
                        self.fail(f"{host.name} leads under {epoch} before it is settled")
                    leader = epoch
                case _:
                    pass
        if leader is not None and _disowned(event, leader):
            self._doubts[host] = clock(host)
        kept = leader is not None and not any(isinstance(effect, LeaderChanged) for effect in effects)
        if kept and leader is not None and leader.node in gone:
            self.fail(f"{host.name} goes on to follow {leader}, which is gone or was started anew")

    def _lost(self, host: Host, leader: Epoch | None, gone: set[NodeId]) -> None:
        if leader is None:
            self.fail(f"{host.name} loses a leader that it does not have")
            return
        settings = host.world.settings
        slept = leader.node == host.id and self._views.gap_s(host) > settings.resume_gap_s_min
        doubted = clock(host) - self._doubts.get(
            host, float("-inf")
        ) <= 2 * settings.patience_s + self._late_s(host)
        if leader.node not in gone and not slept and not doubted:
            self.fail(f"{host.name} lets {leader} go, which lives and leads")

    def _late_s(self, host: Host) -> float:
        return 1.0 + self._views.gap_s(host)

    def _won(
        self, host: Host, view: View, event: Event, leader: Epoch | None, epoch: Epoch, gone: set[NodeId]
    ) -> None:
        if epoch.node != host.id:
            known = view.members.get(epoch.node)
            if epoch.node in gone and known is None:
                self.fail(f"{host.name} follows {epoch}, which is gone")
            return
        match event:
            case Received(message=Offer(term=term), sender=sender):
                if term != epoch.term or (leader is not None and leader.node != sender):
                    self.fail(
                        f"{host.name} takes {epoch} by an offer of {term} by {sender}; it follows {leader}"
                    )
            case Received(message=Higher()) if leader is not None and leader.node == host.id:
                pass
            case _ if leader is not None:
                self.fail(f"{host.name} takes {epoch} while it follows {leader}")
            case _:
                pass
        if view.stopping:
            self.fail(f"{host.name} takes the lead under {epoch} as it stops")
        quiet_s = host.world.settings.resume_quiet_s
        if leader is None and view.live and clock(host) < view.woke_at + quiet_s - _HAIR:
            self.fail(f"{host.name} slept until just now, and leads under {epoch}")


def _disowned(event: Event, leader: Epoch) -> bool:
    if not isinstance(event, Received) or event.sender != leader.node:
        return False
    head = head_of(event.message)
    return isinstance(event.message, Higher) or (head is not None and head.epoch != leader)


class LeadersSpeak(Property):
    name = "leaders speak"
    sentence = (
        "Only who leads announces itself, at once to all that live, and now and then for as long as it leads."
    )
    hears = (Started, Pause, Second)
    says = (LeaderChanged, MemberChanged, Coordinator)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._spoke: dict[Host, float] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        view, now = self._views.of(host), clock(host)
        leader = view.leader
        told: set[NodeId] = set()
        won = False
        for effect in effects:
            match effect:
                case LeaderChanged(epoch=epoch):
                    leader, won = epoch, epoch is not None and epoch.node == host.id
                case Send(to=to, message=Coordinator(epoch)):
                    told.add(to)
                    if epoch != leader or epoch.node != host.id:
                        self.fail(f"{host.name} announces {epoch}, and follows {leader}")
                case _:
                    pass
        if won and (missed := set(view.live) - told):
            self.fail(f"{host.name} leads under {leader}, and does not tell {sorted(missed)}")
        leads = leader is not None and leader.node == host.id and not view.alone
        if won or told or not leads or isinstance(event, Started) or self._views.gap_s(host) > 1.0:
            self._spoke[host] = now
        elif now - self._spoke.get(host, now) > host.world.settings.coordinator_every_s + 1.0:
            self.fail(f"{host.name} leads under {leader}, and has not said so since {self._spoke[host]}")


class TurnsArePlanned(Property):
    name = "turns"
    sentence = (
        "A leader offers a fresh term when its turn is over, not before, to the best-ranked of that term; "
        "before it stops it offers it too; nobody else offers anything."
    )
    hears = (Second, StopAsked)
    says = (Offer,)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._burned: dict[tuple[Host, int, Epoch], int] = {}
        self._stop_asked: dict[tuple[Host, int], bool] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        view, now = self._views.of(host), clock(host)
        if isinstance(event, Started):
            return
        offers = [(e.to, e.message) for e in effects if isinstance(e, Send) and isinstance(e.message, Offer)]
        leader = view.leader
        if leader is None or leader.node != host.id:
            if offers:
                self.fail(f"{host.name} offers {offers}, and follows {leader}")
            return
        stopping = view.stopping or isinstance(event, StopAsked)
        key = (host, host.starts, leader)
        for to, offer in offers:
            self._judge(host, view, to, offer, key, now, stopping)
            self._burned[key] = offer.term
        slept = any(isinstance(effect, LeaderChanged) for effect in effects)  # it learns of both at once
        told = bool(offers) or key in self._burned or not view.live or slept
        if isinstance(event, StopAsked) and not told and _alike(host):
            self.fail(f"{host.name} leads under {leader}, stops, and offers the next term to nobody")
        self._due(host, view, key, now, effects)

    def _began(self, view: View) -> float:
        return max(view.leader_since, view.had_peers_since or view.now)

    def _judge(
        self,
        host: Host,
        view: View,
        to: NodeId,
        offer: Offer,
        key: tuple[Host, int, Epoch],
        now: float,
        stop: bool,
    ) -> None:
        burned = self._burned.get(key)
        early = now < self._began(view) + host.world.settings.rotation_s - 1.0
        if early and burned is None and not stop and host.meta.tier is not Tier.NO_LEAD:
            self.fail(f"{host.name} offers term {offer.term} after {now - self._began(view):.1f} s")
        if offer.term <= max(burned or 0, key[2].term, host.disk.epoch.term):
            self.fail(f"{host.name} offers term {offer.term} again")
        if to not in view.live:
            self.fail(f"{host.name} offers term {offer.term} to {to}, which does not live")
        best = _best(host, view, offer.term)
        if best is not None and to != best:
            self.fail(f"{host.name} offers term {offer.term} to {to}, and {best} is best")

    def _due(
        self, host: Host, view: View, key: tuple[Host, int, Epoch], now: float, effects: Sequence[Effect]
    ) -> None:
        settings = host.world.settings
        over_s = now - self._began(view) - settings.rotation_s
        if over_s <= settings.offer_s + 1.0:
            return
        alone = any(isinstance(e, MemberChanged) for e in effects) or not view.live
        settled = all(view.members[node].status is Status.ALIVE for node in view.live)
        if alone or not settled or self._views.gap_s(host) > 1.0 or key in self._burned:
            return
        if _alike(host):
            self.fail(
                f"{host.name} leads under {key[2]} for {over_s:.1f} s more than its turn, and offers it to nobody"
            )


def _alike(host: Host) -> bool:
    """Whether no machine of this mesh should lead before another."""
    return {other.meta.tier for other in host.world.hosts.values()} == {Tier.MAINS}


def _best(host: Host, view: View, term: int) -> NodeId | None:
    """Who should lead this term, by kind of machine first; None while one has not said yet what it is."""
    nodes = [host.id, *view.live]
    if any(node not in view.metas or node in view.untold for node in nodes):
        return None
    tiers = {node: view.metas[node].tier for node in nodes}
    willing = [node for node in nodes if tiers[node] is not Tier.NO_LEAD] or nodes
    return min(willing, key=lambda node: (list(Tier).index(tiers[node]), rank(term, node)))
