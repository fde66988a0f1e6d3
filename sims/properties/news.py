"""How far news gets: what changed at a node is passed on, and what is shown of others is the newest that came."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Started, StopAsked, Stopped
from openclaw.ids import NodeId
from openclaw.messages import Ack, Beat, Gossip, Head, Ping, PingRequest, Status
from openclaw.notes import MemberChanged
from sims.properties.base import Property
from sims.properties.membership import head_of
from sims.properties.views import Views, clock, enrolled

if TYPE_CHECKING:
    from sims.host import Host


_INTRODUCED_S = 5.0  # sims.warm


class NewsIsPassedOn(Property):
    name = "news is passed on"
    sentence = (
        "What a node finds or hears to have become of a member rides on all its next messages, for a few times at "
        "least, as far as they have room."
    )
    hears = (Started, StopAsked)
    says = (MemberChanged, Ping, Ack, PingRequest, Gossip)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._news: dict[Host, dict[NodeId, int]] = {}  # how often it was told

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._news[host] = {}
        news = self._news.setdefault(host, {})
        view = self._views.of(host)
        if isinstance(event, StopAsked) or view.stopping:
            news.clear()  # its last word is of itself
            return
        if host.world.network.warm and clock(host) < view.started_at + _INTRODUCED_S:
            return  # the world says who is there, and takes back that it is news
        for effect in effects:
            if type(effect) is MemberChanged:
                if effect.status is Status.LEFT:
                    news.pop(effect.node, None)
                else:
                    news[effect.node] = 0
            elif news and type(effect) is Send and (head := head_of(effect.message)) is not None:
                self._told(host, news, head)

    def _told(self, host: Host, news: dict[NodeId, int], head: Head) -> None:
        settings = host.world.settings
        said = {rumour.node for rumour in head.rumours}
        for node in list(news):
            if node in said:
                news[node] += 1
                if news[node] >= settings.rumour_sends_factor:
                    del news[node]
            elif len(said) < settings.rumours_per_message_max:
                self.fail(f"{host.name} has news of {node}, told it {news[node]} times, and says only {said}")


class GoodbyesAreSaid(Property):
    name = "goodbye"
    sentence = "Who stops cleanly says so to everybody that lives, as its last word."
    hears = ()
    says = (Stopped,)

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        view = self._views.of(host)
        if not any(isinstance(effect, Stopped) for effect in effects) or clock(host) <= view.started_at:
            return
        told = {
            effect.to
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message, Gossip)
            for rumour in effect.message.head.rumours
            if rumour.node == host.id and (rumour.status is Status.LEFT or rumour.back_soon)
        }
        if missed := set(view.live) - told:
            self.fail(f"{host.name} stops, and does not say so to {sorted(missed)}")


class TheNewestLoadIsShown(Property):
    name = "the newest load"
    sentence = "What a node shows of another's load is the last beat that it had of that one's present start."
    hears = (Started, Beat)
    says = ()

    def __init__(self, views: Views) -> None:
        self._views = views
        self._beats: defaultdict[Host, dict[NodeId, Beat]] = defaultdict(dict)

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        if isinstance(event, Started):
            self._beats[host] = {}
        if not isinstance(event, Received):
            return
        head = head_of(event.message)
        if head is None or not head.beats:
            return
        view, mine = self._views.of(host), self._beats[host]
        if not enrolled(view.roster, event.sender):
            return
        told_of = {rumour.node for rumour in head.rumours}
        for beat in head.beats:
            held, known = mine.get(beat.node), view.members.get(beat.node)
            as_known = known is not None and known.incarnation.boot == beat.boot and beat.node not in told_of
            if as_known and (held is None or held.boot == beat.boot):
                if held is None or held.number < beat.number:
                    mine[beat.node] = beat
            elif beat.node != host.id:
                self._look(host, beat, held)

    def _look(self, host: Host, beat: Beat, held: Beat | None) -> None:
        """It is not simply the next one: what became of it?"""
        shown = None if host.node is None else host.node.membership.members().get(beat.node)
        if shown is None:
            return
        newer = held is None or held.boot != beat.boot or held.number < beat.number
        right = beat if newer and beat.boot == shown.incarnation.boot else held
        if right is not None and shown.beat is not None:
            if (shown.beat.boot, shown.beat.number) != (right.boot, right.number):
                self.fail(f"{host.name} hears {beat} and shows {shown.beat}, in place of {right}")
            self._beats[host][beat.node] = right
