"""A small world for several membership machines: virtual time, latency, loss, cuts, crashes.

Each machine is driven as the runtime drives it: one instant is one batch, what it stores is committed before
the next, and what it sends arrives later.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

from openclaw.config import Settings
from openclaw.effects import (
    Effect,
    Event,
    LinkDown,
    LinkUp,
    Received,
    RosterChanged,
    Send,
    Started,
    Store,
    Tick,
)
from openclaw.gossip.membership import Membership
from openclaw.ids import NodeId
from openclaw.messages import Status
from openclaw.records import Member, Meta, Number

SETTINGS = Settings()


def nothing(*_: object) -> bool:
    return False


def node(number: int) -> NodeId:
    return NodeId(f"node{number:02}")


def roster(*numbers: int, revoked: tuple[int, ...] = ()) -> RosterChanged:
    members = {node(n): Member(node(n), f"n{n}", frozenset({"skill"}), revoked=n in revoked) for n in numbers}
    return RosterChanged(members, repr(sorted((m.node, m.revoked) for m in members.values())).encode()[-8:])


@dataclass
class Host:
    machine: Membership
    disk: dict[str, int] = field(default_factory=dict)
    up: bool = True
    paused: bool = False
    instant: float = -1.0
    committed: dict[str, int] = field(default_factory=dict)  # as of the instant before this one
    boots: int = 0
    notes: list[tuple[float, Effect]] = field(default_factory=list)


class World:
    def __init__(self, nodes: int, seed: int = 1, settings: Settings = SETTINGS) -> None:
        self.rng = random.Random(seed)
        self.settings = settings
        self.now = 0.0
        self.latency_s = 0.002
        self.loss = 0.0
        self.cut: Callable[[NodeId, NodeId], bool] = nothing
        self.lose: Callable[[Send], bool] = nothing
        self.sent_log: list[tuple[float, NodeId, Send]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._numbers = range(nodes)
        self.hosts: dict[NodeId, Host] = {}
        for number in self._numbers:
            self.start(node(number))

    def at(self, when: float, act: Callable[[], None]) -> None:
        heappush(self._heap, (when, next(self._order), act))

    def start(self, name: NodeId, disk: dict[str, int] | None = None) -> None:
        old = self.hosts.get(name)
        boots = old.boots + 1 if old else 1
        kept = dict(disk) if disk is not None else dict(old.disk) if old else {}
        machine = Membership(
            name,
            f"boot{boots}",
            self.settings,
            random.Random(f"{name}{boots}{self.rng.random()}"),
            kept.get("incarnation", 0),
            kept.get("meta_version", 0),
        )
        self.hosts[name] = Host(machine, kept, boots=boots, notes=old.notes if old else [])
        self.give(name, Started(Meta(name=name), 0.0))
        self.give(name, roster(*self._numbers))

    def kill(self, name: NodeId, refused: bool) -> None:
        """End a node's process; `refused` as its machine would say, else it is silent."""
        self.hosts[name].up = False
        if refused:
            for other in sorted(self.hosts):
                if other != name:
                    self.at(self.now + 0.003, lambda o=other: self.give(o, LinkDown(name, True)))

    def link(self, a: NodeId, b: NodeId) -> None:
        self.give(a, LinkUp(b))
        self.give(b, LinkUp(a))

    def give(self, name: NodeId, event: Event) -> None:
        host = self.hosts[name]
        if not host.up:
            return
        if host.paused:
            self.at(self.now + 0.01, lambda: self.give(name, event))
            return
        if self.now > host.instant:
            host.committed, host.instant = dict(host.disk), self.now
        for effect in host.machine.handle(event, self.now):
            self._perform(name, host, effect)
        due = host.machine.next_deadline()
        if due is not None:
            machine = host.machine
            self.at(max(due, self.now), lambda: self._tick(name, machine))

    def run(self, seconds: float) -> None:
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], seconds: float = 30.0) -> float:
        """Seconds until `done`; at most `seconds`."""
        began, end = self.now, self.now + seconds
        while not done() and self._heap and self._heap[0][0] <= end:
            self.now, _, act = heappop(self._heap)
            act()
        if not done():
            self.now = end
        return self.now - began

    def status(self, observer: NodeId, subject: NodeId) -> Status | None:
        view = self.hosts[observer].machine.members().get(subject)
        return None if view is None else view.status

    def everyone_sees(self, subject: NodeId, status: Status) -> bool:
        return all(
            self.status(name, subject) is status
            for name, host in self.hosts.items()
            if host.up and name != subject
        )

    def converged(self) -> bool:
        up = sorted(name for name, host in self.hosts.items() if host.up)
        return all(
            sorted(n for n, m in self.hosts[name].machine.members().items() if m.status is Status.ALIVE) == up
            for name in up
        )

    def notes(self, name: NodeId, kind: type) -> list[Effect]:
        return [note for _, note in self.hosts[name].notes if isinstance(note, kind)]

    def _tick(self, name: NodeId, machine: Membership) -> None:
        host = self.hosts[name]
        due = machine.next_deadline()
        if host.machine is machine and due is not None and due <= self.now:
            self.give(name, Tick())

    def _perform(self, name: NodeId, host: Host, effect: Effect) -> None:
        match effect:
            case Store(key=key, value=Number(value=value)):
                assert value > host.disk.get(key, -1), "counters only rise"
                host.disk[key] = value
            case Send(to=to):
                head = getattr(effect.message, "head", None)
                if head is not None:
                    assert head.incarnation.counter <= host.committed.get("incarnation", 0), "not on disk yet"
                    assert head.meta_version <= host.committed.get("meta_version", 0), "not on disk yet"
                self.sent_log.append((self.now, name, effect))
                delay_s = self.latency_s * (0.5 + self.rng.random())
                lost = self.rng.random() < self.loss or self.cut(name, to) or self.lose(effect)
                if to in self.hosts and not lost:
                    self.at(
                        self.now + delay_s,
                        lambda: self.give(to, Received(effect.message, name)),
                    )
            case _:
                host.notes.append((self.now, effect))
