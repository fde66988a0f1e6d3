"""A simulated network: latency, loss, cuts that may be one way, links that keep their order.

Harsher than TCP in one thing: a message that is lost stays lost, while the link goes on. What is on its way to a
node that ends, or across a cut, is lost too. A node that is not running hears nothing. When only the node's
process ends, its machine refuses new connections, and the peers see that; when the machine ends, they see nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import LinkDown, LinkUp, Received
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

BREAK_S = 3.0  # until a silent connection is given up


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How good the links are."""

    latency_s: tuple[float, float] = (0.0002, 0.003)
    loss: float = 0.0


class Network:
    def __init__(self, world: World, weather: Weather) -> None:
        self.weather = weather
        self.dropped = 0
        self._world = world
        self._rng = world.rng("network")
        self._cuts: dict[tuple[NodeId, NodeId], int] = {}
        self._arrives: dict[tuple[NodeId, NodeId], float] = {}

    def clear(self, source: NodeId, to: NodeId) -> bool:
        return not self._cuts.get((source, to))

    def cut(self, source: NodeId, to: NodeId) -> None:
        """Nothing gets from `source` to `to`. Cuts may overlap; each needs its own `mend`."""
        self._cuts[source, to] = self._cuts.get((source, to), 0) + 1
        self._world.after(BREAK_S, lambda: self._give_up(source, to))

    def mend(self, source: NodeId, to: NodeId) -> None:
        self._cuts[source, to] -= 1
        if self.clear(source, to) and self.clear(to, source):
            self._world.after(self._latency(), lambda: self._join(source, to))

    def send(self, source: Host, to: NodeId, message: AnyMessage) -> None:
        target = self._world.hosts.get(to)
        lost = self._rng.random() < self.weather.loss
        if target is None or not target.running or not self.clear(source.id, to) or lost:
            self.dropped += 1
            return
        pair = (source.id, to)
        at = self._arrives[pair] = max(self._arrives.get(pair, 0.0), self._world.now + self._latency())
        start = target.starts
        self._world.at(at, lambda: self._deliver(target, start, message, source.id))

    def started(self, host: Host) -> None:
        """The host's process is up: links come up to everyone who can be reached."""
        for peer in self._world.hosts:
            if peer != host.id:
                self._world.after(self._latency(), lambda peer=peer: self._join(host.id, peer))  # type: ignore[misc]

    def ended(self, host: Host, machine: bool) -> None:
        """The host's process is gone, and with `machine` everything that could tell the others."""
        for peer in self._world.hosts.values():
            if peer is host:
                continue
            delay_s = BREAK_S if machine else self._latency()
            self._world.after(delay_s, lambda peer=peer: self._broken(host, peer, machine))  # type: ignore[misc]

    def _latency(self) -> float:
        low, high = self.weather.latency_s
        return low + (high - low) * self._rng.random()

    def _deliver(self, target: Host, start: int, message: AnyMessage, sender: NodeId) -> None:
        if target.running and target.starts == start and self.clear(sender, target.id):
            target.post(Received(message, sender))
        else:
            self.dropped += 1

    def _join(self, one: NodeId, other: NodeId) -> None:
        if not (self.clear(one, other) and self.clear(other, one)):
            return
        ends = (self._world.hosts[one], self._world.hosts[other])
        if all(end.running for end in ends):
            ends[0].post(LinkUp(other))
            ends[1].post(LinkUp(one))

    def _broken(self, gone: Host, peer: Host, machine: bool) -> None:
        if peer.running and not gone.running:
            heard = self.clear(gone.id, peer.id) and self.clear(peer.id, gone.id)
            if heard or machine:
                peer.post(LinkDown(gone.id, refused=not machine))

    def _give_up(self, source: NodeId, to: NodeId) -> None:
        if not self.clear(source, to):
            for end, peer in ((source, to), (to, source)):
                host = self._world.hosts[end]
                if host.running:
                    host.post(LinkDown(peer, refused=False))
