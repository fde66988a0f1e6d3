"""What membership promises: who speaks of whom and when, and what is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, RosterChanged, Send, Started, Store
from openclaw.ids import Incarnation, NodeId
from openclaw.messages import Ack, Beat, Digest, Gossip, Head, Nack, Ping, PingRequest, Rumour, Status
from openclaw.notes import MemberChanged, Settled
from openclaw.records import Number
from sims.properties.base import Property
from sims.properties.views import PAUSE_S, Pause, Second, View, Views, clock, enrolled

if TYPE_CHECKING:
    from sims.host import Host

_HAIR = 1e-6
_LONG_S = 10.0


COUNTED = ("incarnation", "meta_version")
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
            if isinstance(store.value, Number) and store.key in COUNTED:
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
        alone = not host.world.forked(host.id)
        if alone and self._boots.setdefault((host.id, counter), boot) != boot:
            self.fail(f"{host.name} uses incarnation {counter} in two of its starts")

    def _heard(self, host: Host, node: NodeId, incarnation: Incarnation, version: int) -> None:
        if incarnation.counter > self._stored.get((node, "incarnation"), 0):
            self.fail(f"{host.name} says {incarnation} of {node}, which never stored it")
        if version > self._stored.get((node, "meta_version"), 0):
            self.fail(f"{host.name} says version {version} of {node}, which never stored it")
        alone = not host.world.forked(node)
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


class QuestionsAreAnswered(Property):
    name = "answered"
    sentence = (
        "A ping is acknowledged at once; who is asked to ping another does, and passes its answer on or says no; and a "
        "digest is answered by all that the one who gets it knows better."
    )
    hears = (Started, Pause, Second, Ping, PingRequest, Digest)
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
            case Received(message=Digest(reply=False) as digest, sender=sender) if (
                enrolled(view.roster, sender) and speaks
            ):
                replies = [m for to, m in sent if to == sender and isinstance(m, Digest)]
                self._compared(
                    host, view, digest, {entry.node for reply in replies for entry in reply.entries}
                )
            case _:
                pass
        for to, message in sent:
            if helping and isinstance(message, Ack | Nack):
                helping.pop((to, message.seq), None)
        self._late(host, helping, now)

    def _compared(self, host: Host, view: View, digest: Digest, told: set[NodeId]) -> None:
        theirs = {entry.node: entry for entry in digest.entries}
        for node, known in view.members.items():
            entry = theirs.get(node)
            mine = (known.incarnation.counter, known.status)
            better = entry is None or mine > (entry.incarnation.counter, entry.status)
            if better and node not in told:
                self.fail(f"{host.name} knows {mine} of {node}, better than {entry}, and does not say so")

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
