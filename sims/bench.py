"""A world to measure in: one protocol, so many nodes, everyone seeing everyone, and a meter on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import sims.host
from openclaw.config import Settings
from openclaw.effects import RosterChanged
from openclaw.node import Node
from sims import warm
from sims.host import Host
from sims.meter import Meter
from sims.models import MEMBERLIST, SWIM, Making, Model, maker
from sims.network import Weather
from sims.shared import Shared
from sims.world import World

STARTS_WITHIN_S = 0.2
COLD_NODES_MAX = 50
FOUND_S_MAX = 60.0
STEP_S = 1.0
TELLS_S = 0.0005  # for a message on a LAN


@dataclass(frozen=True, slots=True)
class Protocol:
    """`make` stands in for the class `Node` where the protocol is not ours."""

    name: str
    make: Making | None = None

    @property
    def ours(self) -> bool:
        return self.make is None


OURS = Protocol("openclaw")
MODELS = tuple(Protocol(parameters.name, maker(parameters)) for parameters in (MEMBERLIST, SWIM))
PROTOCOLS = (OURS, *MODELS)


class NeverFound(RuntimeError):
    """The nodes of this world do not all see each other: there is nothing to measure."""


class Bench:
    """Used within `with bench.standing_in():`, for as long as hosts may start."""

    def __init__(
        self,
        protocol: Protocol,
        nodes: int,
        seed: int,
        settings: Settings | None = None,
        weather: Weather | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.protocol = protocol
        self.rng = random.Random(f"{seed}:bench")
        self.world = World(seed, settings, weather)
        self.world.shared = shared
        self.hosts = [self.world.add_host(f"n{number}") for number in range(nodes)]
        self.meter = Meter(self.world)

    @contextmanager
    def standing_in(self) -> Iterator[None]:
        """While this lasts, hosts that start run the protocol."""
        room = vars(sims.host)
        real = room["Node"]
        room["Node"] = self.protocol.make or real
        try:
            yield
        finally:
            room["Node"] = real

    def found(self) -> None:
        """Start all of them, and wait until they see each other and agree on a leader.

        Many begin as a mesh that has been there for a while: how they first meet is not measured here.
        """
        many = len(self.hosts) > COLD_NODES_MAX
        self.world.network.warm = many
        if many and self.protocol.ours:
            warm.start(self.world)
        else:
            for host in self.hosts:
                begin = partial(host.start, warm=many)
                self.world.at(self.rng.random() * STARTS_WITHIN_S, begin)
        self.run_until(lambda: self.sees_all(self.hosts), FOUND_S_MAX, "to find each other")
        self.run(3.0)
        self.meter.clear()

    def admit(self, name: str) -> Host:
        """One more machine starts. Whoever learns that it is in the roster stores that before the core hears of it."""
        new = self.world.add_host(name)
        change = RosterChanged(self.world.roster(), self.world.roster_digest)
        first, *others = self.running()
        told_s = first.fsync_s()
        self.world.after(told_s, partial(first.post_if_running, change))
        for host in others:
            self.world.after(told_s + TELLS_S + host.fsync_s(), partial(host.post_if_running, change))
        new.start()
        self.hosts.append(new)
        return new

    # --- time ------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        return self.world.now

    def run(self, seconds: float) -> None:
        self.world.run(self.world.now + seconds)

    def reached(self, fact: Callable[[], bool], limit_s: float) -> bool:
        """Run until `fact` holds; False when it did not within the limit."""
        until = self.world.now + limit_s
        while not fact():
            if self.world.now >= until:
                return False
            self.run(STEP_S)
        return True

    def run_until(self, fact: Callable[[], bool], limit_s: float, what: str) -> None:
        if not self.reached(fact, limit_s):
            raise NeverFound(f"{len(self.hosts)} nodes of {self.protocol.name} had {limit_s:g} s {what}")

    # --- views -----------------------------------------------------------------------------------

    def running(self) -> list[Host]:
        return [host for host in self.hosts if host.running]

    def sees_all(self, hosts: list[Host]) -> bool:
        """Whether these see each other, and with our protocol follow one leader."""
        names = {host.id for host in hosts}
        return all(_live(host) >= names for host in hosts) and self.agreed(hosts)

    def agreed(self, hosts: list[Host]) -> bool:
        if not self.protocol.ours:
            return True
        epochs = {host.node.election.leader if host.node is not None else None for host in hosts}
        return len(epochs) == 1 and None not in epochs

    def leaders(self) -> list[Host]:
        return [host for host in self.running() if host.node is not None and host.node.election.leading]

    def leader(self) -> Host:
        return self.leaders()[0]

    def others(self, count: int) -> list[Host]:
        """So many by lot that run and do not lead."""
        leaders = self.leaders() if self.protocol.ours else []
        return self.rng.sample([host for host in self.running() if host not in leaders], count)


def _live(host: Host) -> set[str]:
    node: object = host.node
    if isinstance(node, Node):
        return set(node.membership.alive())
    return {host.id, *node.view.live()} if isinstance(node, Model) else set()
