"""What membership promises: who speaks of whom, when somebody is down, and that the living are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, LinkDown, Received, RosterChanged, Send, Started, Store
from openclaw.ids import NOBODY, Incarnation, NodeId
from openclaw.messages import Ack, Beat, Digest, Gossip, Head, Nack, Ping, PingRequest, Rumour, Status
from openclaw.notes import MemberChanged, Settled
from openclaw.records import Number
from sims.properties.base import Property
from sims.properties.views import LIVE, PAUSE_S, Pause, Second, View, Views, clock, enrolled

if TYPE_CHECKING:
    from sims.host import Host

_HAIR = 1e-6
_LONG_S = 10.0


HEADED = (Ping, Ack, PingRequest, Gossip)


def head_of(message: object) -> Head | None:
    return message.head if isinstance(message, HEADED) else None


def rumours_of(message: object) -> Sequence[Rumour]:
    if isinstance(message, Digest):
        return message.entries
    head = head_of(message)
    return () if head is None else head.rumours


class VouchedFirst(Property):
    name = "vouched first"
    sentence = (
        "An incarnation or metadata version that anyone speaks of is on its node's disk first; only the node itself "
        "raises them, each start to a new one; and neither ever falls."
    )
    says = (Ping, Ack, PingRequest, Gossip, Digest)

    def __init__(self) -> None:
        self._stored: dict[tuple[NodeId, str], int] = {}
        self._boots: dict[tuple[NodeId, int], str] = {}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        highest: dict[str, int] = {}
        for store in stores:
            if isinstance(store.value, Number):
                before = highest.get(store.key, host.disk.number(store.key))
                if store.value.value <= before:
                    self.fail(f"{host.name} stores {store.key} {store.value.value} over {before}")
                highest[store.key] = store.value.value
        for key, value in highest.items():
            self._stored[host.id, key] = max(value, self._stored.get((host.id, key), 0))

    def performed(self, host: Host, effect: Effect) -> None:
        if not isinstance(effect, Send):
            return
        head = head_of(effect.message)
        if head is not None:
            self._vouched(host, head)
        for rumour in rumours_of(effect.message):
            self._heard(host, rumour.node, rumour.incarnation, rumour.meta_version)

    def _vouched(self, host: Host, head: Head) -> None:
        counter, boot = head.incarnation
        disk = host.disk
        if counter > disk.number("incarnation") or head.meta_version > disk.number("meta_version"):
            self.fail(f"{host.name} says {head.incarnation}/{head.meta_version}, and has not stored it")
        alone = host.id not in host.world.clones
        if alone and self._boots.setdefault((host.id, counter), boot) != boot:
            self.fail(f"{host.name} uses incarnation {counter} in two of its starts")

    def _heard(self, host: Host, node: NodeId, incarnation: Incarnation, version: int) -> None:
        if incarnation.counter > self._stored.get((node, "incarnation"), 0):
            self.fail(f"{host.name} says {incarnation} of {node}, which never stored it")
        if version > self._stored.get((node, "meta_version"), 0):
            self.fail(f"{host.name} says version {version} of {node}, which never stored it")
        alone = node not in host.world.clones
        if (
            alone
            and self._boots.setdefault((node, incarnation.counter), incarnation.boot) != incarnation.boot
        ):
            self.fail(f"{host.name} says {incarnation} of {node}, which was in another start then")


class AccusationsAreAnswered(Property):
    name = "refuted"
    sentence = (
        "Who hears that it is suspected or down, or of a past that it does not know, raises its incarnation."
    )
    hears = (Rumour,)
    says = ()

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        match event:
            case Received(message=message, sender=sender) if enrolled(self._views.of(host).roster, sender):
                accused = [r for r in rumours_of(message) if r.node == host.id]
            case _:
                return
        if not accused or self._views.of(host).stopping or host.node is None:
            return
        mine = host.node.membership.incarnation
        for rumour in accused:
            theirs = rumour.incarnation
            if theirs.counter > mine.counter or (
                theirs.counter == mine.counter
                and (rumour.status is not Status.ALIVE or theirs.boot != mine.boot)
            ):
                self.fail(f"{host.name} hears {rumour}, and stays {mine}")


class ClaimsOnlyRise(Property):
    name = "claims only rise"
    sentence = (
        "What a node holds of a member never falls: who is down comes back only with a higher incarnation."
    )
    hears = ()
    says = (MemberChanged,)

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started | RosterChanged):
            return
        view = self._views.of(host)
        held = {
            node: (k.incarnation.counter, k.status, k.incarnation.boot) for node, k in view.members.items()
        }
        for effect in effects:
            if isinstance(effect, MemberChanged):
                if not enrolled(view.roster, effect.node):
                    self.fail(f"{host.name} takes {effect.node} for a member, which is not in its roster")
                new = (effect.incarnation.counter, effect.status, effect.incarnation.boot)
                if effect.node in held and new < held[effect.node]:
                    self.fail(f"{host.name} holds {new} of {effect.node} after {held[effect.node]}")
                held[effect.node] = new


@dataclass(slots=True)
class Case:
    """What one node has found out about another since it began to doubt it."""

    suspected_at: float | None = None
    evidence: bool = False  # since it last answered
    refused: bool = False  # a dial of this very node, since it last answered
    refused_at: float = float("-inf")
    answered_at: float = float("-inf")  # in time, a question that is younger than the doubt
    asked: dict[int, float] = field(default_factory=dict)  # pings without an answer, by number


class VerdictsAreEarned(Property):
    name = "earned verdicts"
    sentence = (
        "A member is down only after it was suspected for its time, or for a moment where there was evidence, and a "
        "question or a dial of this very node went unanswered; a node that slept accuses nobody for a while."
    )
    hears = (Started, LinkDown, Ack, Rumour)
    says = (MemberChanged, Ping)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._cases: defaultdict[tuple[Host, NodeId], Case] = defaultdict(Case)

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            for key in [key for key in self._cases if key[0] is host]:
                del self._cases[key]
        view, now = self._views.of(host), clock(host)
        self._told(host, event)
        for effect in effects:
            match effect:
                case MemberChanged(node=node, status=status):
                    case_ = self._cases[host, node]
                    if status is Status.DOWN and node in view.members and view.members[node].status in LIVE:
                        self._judge(host, view, node, case_, now)
                    slept = now < view.woke_at + host.world.settings.resume_quiet_s - _HAIR
                    if status is Status.SUSPECT and slept and not isinstance(event, Received):
                        self.fail(f"{host.name} slept until just now, and accuses {node}")
                    if status is Status.SUSPECT:
                        case_.suspected_at, case_.evidence = (
                            now,
                            case_.evidence and isinstance(event, LinkDown),
                        )
                        case_.evidence = case_.evidence or _says_down(event, node)
                    else:
                        case_.suspected_at, case_.evidence, case_.refused = None, False, False
                case _:
                    pass
        for to, seq in _questions(event, effects):
            asked = self._cases[host, to].asked
            asked.setdefault(seq, now)
            for old in [old for old, at in asked.items() if now - at > 2 * _LONG_S]:
                del asked[old]

    def _told(self, host: Host, event: Event) -> None:
        match event:
            case Received(message=Ack(seq=seq, target=target), sender=sender):
                case_ = self._cases[host, target or sender]
                now, settings = clock(host), host.world.settings
                asked_at = case_.asked.get(seq, float("-inf"))
                if now - asked_at < settings.probe_timeout_s + settings.indirect_timeout_s:
                    for older in [old for old, at in case_.asked.items() if at < asked_at - 1.0]:
                        del case_.asked[older]
                    del case_.asked[seq]
                    doubted_at = max(case_.suspected_at or now, case_.answered_at, case_.refused_at)
                    if case_.suspected_at is not None and asked_at >= doubted_at:
                        case_.answered_at, case_.evidence, case_.refused = now, False, False
            case LinkDown(peer=peer, refused=True):
                case_ = self._cases[host, peer]
                case_.evidence = case_.refused = True
                case_.refused_at = clock(host)
            case _:
                pass
        for rumour in rumours_of(event.message) if isinstance(event, Received) else ():
            if rumour.status is Status.DOWN:
                self._cases[host, rumour.node].evidence = True

    def _judge(self, host: Host, view: View, node: NodeId, case: Case, now: float) -> None:
        settings = host.world.settings
        if case.suspected_at is None:
            self.fail(f"{host.name} finds {node} down, which it did not suspect")
            return
        silent_s = now - min(case.asked.values(), default=now)
        if not case.refused and silent_s < settings.refused_confirm_s - 0.001:
            self.fail(
                f"{host.name} finds {node} down, and no question to it is open for longer than {silent_s:.3f} s"
            )
        waited_s = now - max(case.suspected_at, case.answered_at)
        if not case.evidence and waited_s < settings.suspect_s_min - _HAIR:
            self.fail(f"{host.name} finds {node} down {waited_s:.3f} s after it spoke, without evidence")
        if now < view.woke_at + settings.resume_quiet_s - _HAIR:
            self.fail(f"{host.name} slept until just now, and finds {node} down")


def _questions(event: Event, effects: Sequence[Effect]) -> Iterator[tuple[NodeId, int]]:
    """The pings that this very node asks with: a helper's, the last, is the question of whoever asked for it."""
    target = NOBODY
    if isinstance(event, Received) and isinstance(event.message, PingRequest):
        target = event.message.target
    pings = [(e.to, e.message.seq) for e in effects if isinstance(e, Send) and isinstance(e.message, Ping)]
    helped = max((seq for to, seq in pings if to == target), default=None)
    return ((to, seq) for to, seq in pings if seq != helped)


def _says_down(event: Event, node: NodeId) -> bool:
    match event:
        case LinkDown(peer=peer, refused=True):
            return peer == node
        case Received(message=message):
            return any(r.node == node and r.status is Status.DOWN for r in rumours_of(message))
        case _:
            return False


class QuestionsAreAnswered(Property):
    name = "answered"
    sentence = "A ping is acknowledged at once; who is asked to ping another does, and passes its answer on or says no."
    hears = (Started, Pause, Second, Ping, PingRequest)
    says = (Ack, Nack)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._helping: dict[Host, dict[tuple[NodeId, int], tuple[NodeId, float]]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._helping.pop(host, None)
            return
        helping = self._helping.setdefault(host, {})
        if not helping and not isinstance(event, Received):
            return
        view, now = self._views.of(host), clock(host)
        if helping:
            if now - view.now > PAUSE_S or view.stopping or now - view.woke_at < 1.0:
                helping.clear()
            self._late(host, helping, view.now)
        speaks = now > view.started_at and not view.stopping
        sent = [(e.to, e.message) for e in effects if isinstance(e, Send)]
        match event:
            case Received(message=Ping(seq=seq), sender=sender) if enrolled(view.roster, sender) and speaks:
                if not any(to == sender and isinstance(m, Ack) and m.seq == seq for to, m in sent):
                    self.fail(f"{host.name} does not answer a ping of {sender}")
            case Received(message=PingRequest(seq=seq, target=target), sender=asker) if (
                enrolled(view.roster, asker) and enrolled(view.roster, target) and speaks and target != asker
            ):
                if target != host.id:
                    helping[asker, seq] = (target, now)
                    if not any(to == target and isinstance(m, Ping) for to, m in sent):
                        self.fail(f"{host.name} is asked to ping {target}, and does not")
            case _:
                pass
        for to, message in sent:
            if helping and isinstance(message, Ack | Nack):
                helping.pop((to, message.seq), None)
        self._late(host, helping, now)

    def _late(self, host: Host, helping: dict[tuple[NodeId, int], tuple[NodeId, float]], now: float) -> None:
        for (asker, _), (target, since) in helping.items():
            if now - since > 2 * host.world.settings.indirect_timeout_s + 0.5:
                self.fail(f"{host.name} was asked by {asker} to ping {target}, and says nothing of it")


class WakingIsAnnounced(Property):
    name = "waking"
    sentence = "Who did not run for a while raises its incarnation and no longer leads, before anything else."
    hears = (Pause,)
    says = ()

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if self._views.gap_s(host) < _LONG_S:
            return
        view = self._views.of(host)
        if isinstance(event, Started) or view.stopping:
            return
        raised = any(isinstance(e, Store) and e.key == "incarnation" for e in effects)
        still = host.node is not None and host.node.election.leading
        if not raised or (still and view.live):
            self.fail(f"{host.name} slept {self._views.gap_s(host):.1f} s, raised {raised}, leads {still}")


class BeatsAreBounded(Property):
    name = "beats"
    sentence = "A node mints heartbeats no faster than the mesh can bear, each with a number of its own."
    hears = ()
    says = (Beat,)

    def __init__(self) -> None:
        self._said: dict[Host, list[tuple[Beat, float]]] = {}  # the last two, and when each was first said

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        for effect in effects:
            head = head_of(effect.message) if isinstance(effect, Send) else None
            if head is not None and head.beats:
                self._look(host, head)

    def _look(self, host: Host, head: Head) -> None:
        for beat in head.beats:
            if beat.node != host.id or host.node is None or beat.boot != host.node.boot:
                continue
            said = [one for one in self._said.get(host, []) if one[0].boot == beat.boot]
            if said and said[-1][0] == beat:
                continue
            if said and said[-1][0].number >= beat.number:
                self.fail(f"{host.name} says {beat} after {said[-1][0]}")
            # A beat may be first said only when the next is due, so it takes three to tell how fast they come.
            apart_s = clock(host) - said[0][1] if len(said) == 2 else float("inf")
            if apart_s < host.world.settings.beat_every_s * 0.5:
                self.fail(f"{host.name} mints three beats in {apart_s:.3f} s")
            self._said[host] = [*said[-1:], (beat, clock(host))]


class SettledWhenTold(Property):
    name = "settled"
    sentence = (
        "A node calls itself settled only once enough peers have spoken to it, or nobody does for a while."
    )
    hears = (Started, Ack)
    says = (Settled,)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._heard: dict[Host, set[NodeId]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._heard[host] = set()
        match event:
            case Received(message=Ack(), sender=sender):
                self._heard.setdefault(host, set()).add(sender)
            case _:
                pass
        if any(isinstance(effect, Settled) for effect in effects):
            view, settings = self._views.of(host), host.world.settings
            waited_s = clock(host) - view.started_at
            roster = event.members if isinstance(event, RosterChanged) else view.roster
            peers = sum(enrolled(roster, node) for node in roster) - 1
            enough = min(settings.indirect_probes, peers) if roster else settings.indirect_probes
            if waited_s < settings.settle_s - _HAIR and len(self._heard.get(host, ())) < enough:
                self.fail(f"{host.name} is settled after {waited_s:.3f} s, told by {self._heard.get(host)}")
