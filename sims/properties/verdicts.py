"""When a member may be called down: never before a question of whoever calls it so went unanswered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, LinkDown, Received, Send, Started
from openclaw.ids import NodeId
from openclaw.messages import Ack, Ping, PingRequest, Rumour, Status
from openclaw.notes import MemberChanged
from sims.properties.base import Property
from sims.properties.membership import rumours_of
from sims.properties.views import LIVE, View, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

_HAIR = 1e-6
_LONG_S = 10.0


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
        now = clock(host)
        self._told(host, event)
        for effect in effects:
            if type(effect) is MemberChanged:
                self._changed(host, event, effect, now)
        for to, seq in _questions(event, effects):
            asked = self._cases[host, to].asked
            asked.setdefault(seq, now)
            for old in [old for old, at in asked.items() if now - at > 2 * _LONG_S]:
                del asked[old]

    def _changed(self, host: Host, event: Event, change: MemberChanged, now: float) -> None:
        node, status, view = change.node, change.status, self._views.of(host)
        case = self._cases[host, node]
        if status is Status.DOWN and node in view.members and view.members[node].status in LIVE:
            self._judge(host, view, node, case, now)
        slept = now < view.woke_at + host.world.settings.resume_quiet_s - _HAIR
        if status is Status.SUSPECT and slept and not isinstance(event, Received):
            self.fail(f"{host.name} slept until just now, and accuses {node}")
        if status is Status.SUSPECT:
            kept = case.evidence and isinstance(event, LinkDown)
            case.suspected_at, case.evidence = now, kept or _says_down(event, node)
        else:
            case.suspected_at, case.evidence, case.refused = None, False, False

    def _told(self, host: Host, event: Event) -> None:
        match event:
            case Received(message=message, sender=sender):
                if type(message) is Ack:
                    self._answered(host, message, sender)
                for rumour in rumours_of(message):
                    if rumour.status is Status.DOWN:
                        self._cases[host, rumour.node].evidence = True
            case LinkDown(peer=peer, refused=True):
                case_ = self._cases[host, peer]
                case_.evidence = case_.refused = True
                case_.refused_at = clock(host)
            case _:
                pass

    def _answered(self, host: Host, ack: Ack, sender: NodeId) -> None:
        case, now, settings = self._cases[host, ack.target or sender], clock(host), host.world.settings
        asked_at = case.asked.get(ack.seq, float("-inf"))
        if now - asked_at >= settings.probe_timeout_s + settings.indirect_timeout_s:
            return
        for older in [old for old, at in case.asked.items() if at < asked_at - 1.0]:
            del case.asked[older]
        del case.asked[ack.seq]
        doubted_at = max(case.suspected_at or now, case.answered_at, case.refused_at)
        if case.suspected_at is not None and asked_at >= doubted_at:
            case.answered_at, case.evidence, case.refused = now, False, False

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


def _questions(event: Event, effects: Sequence[Effect]) -> list[tuple[NodeId, int]]:
    """The pings that this very node asks with: a helper's, the last, is the question of whoever asked for it."""
    pings = [(e.to, e.message.seq) for e in effects if type(e) is Send and type(e.message) is Ping]
    if not pings or not (isinstance(event, Received) and isinstance(event.message, PingRequest)):
        return pings
    target = event.message.target
    helped = max((seq for to, seq in pings if to == target), default=None)
    return [(to, seq) for to, seq in pings if seq != helped]


def _says_down(event: Event, node: NodeId) -> bool:
    match event:
        case LinkDown(peer=peer, refused=True):
            return peer == node
        case Received(message=message):
            return any(r.node == node and r.status is Status.DOWN for r in rumours_of(message))
        case _:
            return False
