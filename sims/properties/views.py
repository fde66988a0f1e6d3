"""What each node has been told and has said of itself, as its events and effects show: the ground to judge it on.

`Views` watches last of all, so that the other properties see what a node believed before the event that they judge.
Nothing here looks into a node's memory. What a node sends to itself never leaves it, so the one door does not show
it: `Views` listens at the doors of the five machines too, and `Inside` judges what goes through them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openclaw.effects import (
    DrainAsked,
    Effect,
    Event,
    ExecutorDown,
    ExecutorUp,
    MetaChanged,
    Received,
    Resumed,
    RosterChanged,
    Send,
    Started,
    StopAsked,
    Tick,
)
from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId
from openclaw.messages import Status
from openclaw.notes import LeaderChanged, MemberChanged, MetaLearned, Note, Settled
from openclaw.records import Member, Meta
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host

LIVE = (Status.ALIVE, Status.SUSPECT)
PAUSE_S = 0.5
_TELL_NOTHING = (Received, Tick)


def clock(host: Host) -> float:
    """What the host's steady clock shows: the `now` that its core is given."""
    return host.clock.read(host.world.now)


@dataclass(slots=True)
class Known:
    """A member as this node holds it, and since when on this node's clock."""

    status: Status
    incarnation: Incarnation
    since: float
    met: float
    back_soon: bool = False


@dataclass(slots=True)
class View:
    """One start of one node. All times are on its own clock, which is what `now` was in its last batch."""

    started_at: float
    now: float
    followed: Epoch  # the highest that it has followed, or found on its disk
    settled: bool = False
    stopping: bool = False
    draining: bool = False
    executor_up: bool = False
    leader: Epoch | None = None
    leader_since: float = 0.0
    had_peers_since: float | None = None
    woke_at: float = float("-inf")
    second_at: float = 0.0  # when the next `Second` begins
    members: dict[NodeId, Known] = field(default_factory=dict)
    metas: dict[NodeId, Meta] = field(default_factory=dict)
    untold: set[NodeId] = field(default_factory=set)  # who left, and has not said since what it is
    roster: Mapping[NodeId, Member] = field(default_factory=dict)
    _live: tuple[NodeId, ...] | None = None

    @property
    def live(self) -> tuple[NodeId, ...]:
        """Those that are not known to be gone, in order."""
        if self._live is None:
            self._live = tuple(sorted(n for n, known in self.members.items() if known.status in LIVE))
        return self._live

    def changed(self) -> None:
        self._live = None

    @property
    def alone(self) -> bool:
        return not any(known.status in LIVE for known in self.members.values())


class Second:
    """A kind for `hears`: the first event of a node after a second of its own clock."""


class Pause:
    """A kind for `hears`: the node had not been given anything for longer than `PAUSE_S` when this event came."""


Step = tuple[Event | Note, Sequence[Effect]]
_TIMES: dict[tuple[bool, bool], tuple[type, ...]] = {
    (False, False): (),
    (True, False): (Pause,),
    (False, True): (Second,),
    (True, True): (Pause, Second),
}
Door = Callable[[Event | Note, float], list[Effect]]


class Views(Property):
    name = "views"
    sentence = "Every node is given events in the order of its own clock."

    def __init__(self) -> None:
        self._views: dict[Host, View] = {}
        self._steps: dict[Host, list[Step]] = {}

    def of(self, host: Host) -> View:
        """What this start of the node knew before the event that is being judged."""
        view = self._views.get(host)
        if view is None:
            view = self._views[host] = _fresh(host)
        return view

    def steps(self, host: Host, event: Event, effects: Sequence[Effect]) -> Sequence[Step]:
        """What went into each machine and came out of it as the node handled `event`, in order."""
        return self._steps.get(host) or ((event, effects),)

    def times(self, host: Host) -> tuple[type, ...]:
        """The kinds of the present moment."""
        view, now = self.of(host), clock(host)
        second = now >= view.second_at
        if second:
            view.second_at = now + 1.0
        return _TIMES[now - view.now > PAUSE_S, second]

    def gap_s(self, host: Host) -> float:
        """For how long the node has not been given anything, as far as its own clock shows."""
        return clock(host) - self.of(host).now

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._views[host] = _fresh(host)
            self._listen(host)
        view = self.of(host)
        now = clock(host)
        if now < view.now:
            self.fail(f"{host.name} is at {now} after {view.now}")
        steps = self._steps[host]
        for inner, _ in steps:
            if type(inner) is Resumed:
                view.woke_at = now
        steps.clear()
        view.now = now
        if type(event) not in _TELL_NOTHING:
            self._told(host, view, event)
        for effect in effects:
            if type(effect) is not Send:
                self._said(view, effect)

    def _listen(self, host: Host) -> None:
        steps = self._steps[host] = []
        node = host.node
        if node is not None:
            parts = (node.membership, node.election, node.leader, node.owner, node.guardian, node.worker)
            for machine in parts:
                machine.handle = _heard(machine.handle, steps)  # type: ignore[assignment, method-assign]

    def _told(self, host: Host, view: View, event: Event) -> None:
        match event:
            case Started(meta=meta) | MetaChanged(meta=meta):
                view.metas[host.id] = meta
                view.draining = meta.draining
            case RosterChanged(members=members):
                view.roster = members
                for node in [node for node in view.members if not enrolled(members, node)]:
                    del view.members[node]
                view.changed()
            case StopAsked():
                view.stopping = True
            case DrainAsked(draining=draining):
                view.draining = draining
            case ExecutorUp():
                view.executor_up = True
            case ExecutorDown():
                view.executor_up = False
            case _:
                pass

    def _said(self, view: View, effect: Effect) -> None:
        match effect:
            case Settled():
                view.settled = True
            case LeaderChanged(epoch=epoch):
                view.leader = epoch
                view.leader_since = view.now
                view.followed = max(view.followed, epoch or NO_EPOCH)
            case MetaLearned(node=node, meta=meta):
                view.metas[node] = meta
                view.untold.discard(node)
            case MemberChanged(node=node, status=status, incarnation=incarnation, back_soon=back_soon):
                if status is Status.LEFT and not enrolled(view.roster, node):
                    view.members.pop(node, None)
                else:
                    met = view.members[node].met if node in view.members else view.now
                    view.members[node] = Known(status, incarnation, view.now, met, back_soon)
                view.changed()
                if status is Status.LEFT:
                    view.untold.add(node)
                view.had_peers_since = None if view.alone else (view.had_peers_since or view.now)
            case _:
                pass


class Inside(Property):
    """Judges every step of every machine. A note is an effect of one step and then the event of others."""

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        for inner, made in self._views.steps(host, event, effects):
            self.step(host, inner, made)

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        raise NotImplementedError


def _heard(door: Door, steps: list[Step]) -> Door:
    def handle(event: Event | Note, now: float) -> list[Effect]:
        effects = door(event, now)
        steps.append((event, effects))
        return effects

    return handle


def _fresh(host: Host) -> View:
    return View(clock(host), clock(host), host.disk.epoch)


def enrolled(roster: Mapping[NodeId, Member], node: NodeId) -> bool:
    member = roster.get(node)
    return member is not None and not member.revoked
