"""One node: the machines composed, and nothing else.

An event goes to the machines that understand it, in a fixed order; their notes go to the others as events of the
same instant; what a node sends to itself never leaves it. So one call of `handle` yields one transaction's worth of
stores and, after them, everything that may leave once those are on disk.

Pure: no clock, no chance of its own. The simulator drives this very class.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, get_args

from openclaw.config import Settings
from openclaw.effects import (
    CancelAsked,
    DrainAsked,
    Effect,
    Event,
    ExecutorDown,
    ExecutorUp,
    Fetched,
    ForgetAsked,
    HandedBack,
    LinkDown,
    LinkUp,
    Machine,
    Measured,
    PeerFound,
    ProcessExited,
    ProcessStarted,
    Recalled,
    Received,
    Resumed,
    Rng,
    Send,
    StopAsked,
    Stopped,
    Submitted,
    Tick,
)
from openclaw.election.bully import Bully
from openclaw.exec.guardian import Guardian
from openclaw.exec.leader import Leader
from openclaw.exec.owner import Owner
from openclaw.exec.worker import Worker
from openclaw.gossip.membership import Membership
from openclaw.ids import NodeId
from openclaw.messages import (
    ElectionMessage,
    GossipMessage,
    GuardianMessage,
    LeaderMessage,
    OwnerMessage,
    WorkerMessage,
)
from openclaw.notes import (
    Accepted,
    Cloned,
    Contested,
    Duplicate,
    EndedElsewhere,
    Forgotten,
    LeaderSeen,
    MemberChanged,
    MetaLearned,
    Note,
    Replaced,
    RosterDiffers,
    Settled,
    TakeOver,
    TaskFetched,
    TaskMoved,
    Yielded,
)
from openclaw.records import Restored

FOR_PEOPLE: Final = (Accepted, TaskMoved, TaskFetched, Forgotten, Duplicate, Cloned, RosterDiffers)
"""Notes that no machine waits for. There is one for every task that moves, and one event can move any number."""

HEARD: Final = tuple(note for note in get_args(Note) if note not in FOR_PEOPLE)


class _Seat:
    """A machine and when it is `due`, which it is asked for only after it has handled something."""

    __slots__ = ("_machine", "due", "stale")

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.due: float | None = None
        self.stale = True

    def handle(self, event: Event | Note, now: float) -> list[Effect]:
        self.stale = True
        return self._machine.handle(event, now)

    def ask(self) -> None:
        self.due = self._machine.next_deadline()
        self.stale = False

    def is_due(self, now: float) -> bool:
        if self.stale:
            self.ask()
        return self.due is not None and self.due <= now


class Node:
    """The machines of one node behind the one door (`effects.Machine`)."""

    def __init__(
        self, me: NodeId, boot: str, settings: Settings, rng_for: Callable[[str], Rng], restored: Restored
    ) -> None:
        self.me, self.boot = me, boot
        self._settings = settings
        self.membership = Membership(
            me, boot, settings, rng_for("membership"), restored.incarnation, restored.meta_version
        )
        self.election = Bully(me, settings, rng_for("election"), restored.epoch)
        self.leader = Leader(me, settings, rng_for("leader"))
        self.owner = Owner(me, boot, settings, rng_for("owner"), restored)
        self.guardian = Guardian(me, settings, restored, self.owner)
        self.owner.copy_of = self.guardian.copy
        self.worker = Worker(me, boot, settings, rng_for("worker"), restored)
        machines: tuple[Machine, ...] = (
            self.membership,
            self.election,
            self.leader,
            self.owner,
            self.guardian,
            self.worker,
        )
        self._seats = tuple(_Seat(machine) for machine in machines)
        self._by_message = self._message_routes()
        self._by_event = self._event_routes()
        self._stop: StopAsked | None = None
        self._due: float | None = None
        self._handled = 0.0

    def handle(self, event: Event, now: float) -> list[Effect]:
        """All effects of one event and of the notes and messages to ourselves that it caused.

        A node that comes to its senses much later than it meant to has slept, or was stopped: its machines
        hear of that, and of all that it leads to, before anything else.
        """
        effects: list[Effect] = []
        late_s = now - max(self._due, self._handled) if self._due is not None else 0.0
        self._handled = now
        if late_s > self._settings.resume_gap_s_min:
            self._all_of(Resumed(late_s), effects, now)
        self._all_of(event, effects, now)
        return effects

    def _all_of(self, event: Event, effects: list[Effect], now: float) -> None:
        queue: deque[Event | Note] = deque((event,))
        for _ in range(self._settings.events_per_instant_max):
            if not queue:
                return
            self._step(queue, effects, now)
        raise AssertionError(f"livelock: {queue[0]} and {len(queue) - 1} more at one instant")

    def next_deadline(self) -> float | None:
        """When to call with `Tick` next. To be asked after each batch: lateness is measured against the answer."""
        earliest: float | None = None
        for seat in self._seats:
            if seat.stale:
                seat.ask()
            due = seat.due
            if due is not None and (earliest is None or due < earliest):
                earliest = due
        self._due = earliest
        return earliest

    def _step(self, queue: deque[Event | Note], effects: list[Effect], now: float) -> None:
        event = queue.popleft()
        if isinstance(event, StopAsked):
            self._stop = event
        for seat in self._route(event, now):
            for effect in seat.handle(event, now):
                match effect:
                    case Send():
                        if effect.to == self.me:
                            queue.append(Received(effect.message, self.me))
                        else:
                            effects.append(effect)
                    case Stopped():
                        effects += self._goodbye(now)
                        effects.append(effect)
                    case _:
                        effects.append(effect)
                        if isinstance(effect, HEARD):
                            queue.append(effect)

    def _goodbye(self, now: float) -> list[Effect]:
        """Peers hear that we leave only when nothing runs here any more: what they hear of restarts our tasks."""
        assert self._stop is not None
        membership = self._seats[0]
        return membership.handle(self._stop, now)

    def _route(self, event: Event | Note, now: float) -> tuple[_Seat, ...]:
        match event:
            case Received(message=message):
                return self._by_message.get(type(message), ())
            case Tick():
                return tuple(seat for seat in self._seats if seat.is_due(now))
            case _:
                return self._by_event.get(type(event), self._seats)

    def _message_routes(self) -> dict[type, tuple[_Seat, ...]]:
        rooms = (
            GossipMessage, ElectionMessage, LeaderMessage, OwnerMessage, GuardianMessage, WorkerMessage,
        )  # fmt: skip
        routes: dict[type, tuple[_Seat, ...]] = {}
        for seat, union in zip(self._seats, rooms, strict=True):
            for message in get_args(union):
                routes[message] = (*routes.get(message, ()), seat)
        return routes

    def _event_routes(self) -> dict[type, tuple[_Seat, ...]]:
        """What only some machines care about; anything else is offered to all of them."""
        membership, election, _, owner, guardian, worker = self._seats
        others = self._seats[1:]
        return {
            PeerFound: (membership,),
            LinkUp: (membership,),
            LinkDown: (membership,),
            Measured: (membership, worker),
            MemberChanged: others,
            MetaLearned: others,
            LeaderSeen: (election,),
            Settled: others,
            Submitted: (owner,),
            CancelAsked: (owner,),
            ForgetAsked: (owner,),
            Fetched: (owner, guardian),
            Recalled: (guardian,),
            TakeOver: (owner,),
            Contested: (owner,),
            Replaced: (owner,),
            Yielded: (guardian,),
            EndedElsewhere: (guardian,),
            DrainAsked: (worker,),
            StopAsked: others,
            ExecutorUp: (worker,),
            ExecutorDown: (worker,),
            ProcessStarted: (worker,),
            ProcessExited: (worker,),
            HandedBack: (worker,),
        }
