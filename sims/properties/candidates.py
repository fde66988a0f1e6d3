"""How one is elected: everyone that ranks above it was asked, and nobody objected."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Tick
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.messages import (
    Elect,
    ElectAnswer,
)
from openclaw.notes import LeaderChanged
from openclaw.records import Tier
from sims.properties.base import Property
from sims.properties.views import View, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

_HAIR = 1e-6


class CandidatesAskAround(Property):
    name = "elected"
    sentence = (
        "Who is elected has asked everyone that ranks above it, or the next in line as a witness, and nobody "
        "answered in time that it stands itself, follows a leader, or has stored as high a term. Nobody is asked "
        "again at once, unless another stands as well, or a leader came and went."
    )
    hears = (ElectAnswer, Elect)
    says = (Elect, LeaderChanged)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._asked: dict[tuple[Host, int, int], dict[NodeId, float]] = {}
        self._lately: dict[tuple[Host, int], dict[tuple[int, NodeId], float]] = {}
        self._live: dict[tuple[Host, int, int], set[NodeId]] = {}
        self._against: dict[tuple[Host, int, int], dict[NodeId, tuple[ElectAnswer, float]]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        view, now = self._views.of(host), clock(host)
        match event:
            case Received(message=ElectAnswer() as answer, sender=sender):
                key = (host, host.starts, answer.term)
                asked_at = self._asked.get(key, {}).get(sender, float("-inf"))
                in_time = now - asked_at < host.world.settings.answer_s - _HAIR
                if in_time and self._objects(host, answer):
                    self._against.setdefault(key, {}).setdefault(sender, (answer, now))
            case Received(message=Elect(term), sender=sender):
                self._against.get((host, host.starts, term), {}).pop(
                    sender, None
                )  # who stands follows nobody
                self._answered(host, view, term, sender, effects)
            case _:
                pass
        for effect in effects:
            if isinstance(effect, LeaderChanged):
                self._lately.pop((host, host.starts), None)
            match effect:
                case Send(to=to, message=Elect(term)):
                    key = (host, host.starts, term)
                    self._anew(host, event, key, now)
                    self._live.setdefault(key, set(view.live))
                    self._asked.setdefault(key, {})[to] = now
                    self._again(host, event, term, to, now)
                    self._against.get(key, {}).pop(to, None)
                case LeaderChanged(epoch=Epoch() as epoch, reason="elected") if epoch.node == host.id:
                    self._elected(host, view, epoch.term, now)
                case _:
                    pass

    def _anew(self, host: Host, event: Event, key: tuple[Host, int, int], now: float) -> None:
        """It begins again with whoever ranks above it by now, after a wait or because another stands: objections
        were to the try before.
        """
        match event:
            case Tick():
                wait_s = host.world.settings.rank_step_s - _HAIR
            case Received(message=Elect()):
                wait_s = 0.0
            case _:
                return
        against = self._against.get(key, {})
        self._against[key] = {peer: told for peer, told in against.items() if now - told[1] < wait_s}

    def _again(self, host: Host, event: Event, term: int, to: NodeId, now: float) -> None:
        """Rounds go down the line: a try asks nobody twice, and the next one waits."""
        lately = self._lately.setdefault((host, host.starts), {})
        after_s = now - lately.get((term, to), float("-inf"))
        lately[term, to] = now
        stands = isinstance(event, Received) and isinstance(event.message, Elect)
        if not stands and after_s < host.world.settings.rank_step_s - _HAIR:
            self.fail(f"{host.name} asks {to} again {after_s:.3f} s after it did")

    def _objects(self, host: Host, answer: ElectAnswer) -> bool:
        named = answer.leader != NO_EPOCH and answer.leader.node != host.id
        return answer.standing or answer.stored.term >= answer.term or named

    def _answered(self, host: Host, view: View, term: int, sender: NodeId, effects: Sequence[Effect]) -> None:
        """The witness's side: who hears a leader says so, and does not stand."""
        answers = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, ElectAnswer)]
        if not answers:
            self.fail(f"{host.name} does not answer that {sender} would stand for {term}")
        slept = any(isinstance(e, LeaderChanged) and e.reason == "this node slept" for e in effects)
        leader = None if slept else view.leader
        for answer in answers:
            if answer.leader != (leader or NO_EPOCH) or answer.stored != max(host.disk.epoch, answer.stored):
                self.fail(f"{host.name} answers {answer}, and follows {leader}")
            if answer.standing and (leader is not None or answer.stored.term >= term):
                self.fail(f"{host.name} would stand for {term}, and follows {leader}")

    def _elected(self, host: Host, view: View, term: int, now: float) -> None:
        key, settings = (host, host.starts, term), host.world.settings
        asked = self._asked.get(key, {})
        if view.live and not asked:
            self.fail(f"{host.name} leads term {term} and has asked nobody of {len(view.live)}")
        for sender, (answer, at) in self._against.get(key, {}).items():
            wait_s = settings.announce_s if answer.standing else settings.answer_s
            if now - at < wait_s - _HAIR and sender in view.live:
                self.fail(f"{host.name} leads term {term} though {sender} answered {answer}")
        if {other.meta.tier for other in host.world.hosts.values()} == {Tier.MAINS}:
            steady = self._live.get(key, set()) & set(view.live)
            above = sorted(node for node in steady if rank(term, node) < rank(term, host.id))
            missed = [node for node in above if node not in asked]
            if missed:
                self.fail(f"{host.name} leads term {term} and has not asked {missed}, who rank above it")


def rank(term: int, node: NodeId) -> bytes:
    return sha256(f"{term}:{node}".encode()).digest()
