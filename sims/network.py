"""A simulated network: who reaches whom, which connections stand, and what the two ends are told of them.

A process that ends is noticed at once: its machine closes its connections, and refuses new ones. A machine without
power, a closed lid, a cut and a process that stands still say nothing: their connections break when the heartbeats
have been missed for long enough. Whoever can be reached again is dialled again within moments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from openclaw.effects import LinkDown, LinkUp
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage
from sims import tomorrow
from sims.links import Link, Pipe, Weather

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

__all__ = ["Network", "Weather"]

HANDSHAKE_TRIPS = 3  # TCP and CURVE
REDIAL_S = (0.1, 2.5)  # how long after a path is there again a dial of one end finds it
UNKNOWN_RATE = 0.05  # of the messages of a node of tomorrow are of a kind that is not known today


class Network:
    """`dropped` counts what was lost anywhere, `junk` what the codec refused, by reason."""

    def __init__(self, world: World, weather: Weather) -> None:
        self.world = world
        self.dropped = 0
        self.junk: Counter[str] = Counter()
        self.chance = world.rng("network").random
        self.warm = False  # connections that nobody has used yet are there already
        self.troubled = False  # there is somebody who does not reach everybody
        self._cuts: dict[tuple[NodeId, NodeId], int] = {}
        self._troubled_at: dict[tuple[NodeId, NodeId], float] = {}  # a way, or a node's own
        self._losses: dict[str, float] = {}
        self._links: dict[tuple[str, str], Link] = {}
        self._of: dict[str, list[Link]] = {}
        self._tomorrow: set[str] = set()
        self.weather = weather

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        """The latencies of links that are there already stay as they are."""
        self._weather = weather
        self.hostile = weather.mode == "hostile"
        self.queue_max = weather.queue_max
        self._look()

    def _look(self) -> None:
        self.lossy = self._weather.loss > 0.0 or any(self._losses.values())
        self.troubled = bool(self._cuts) or any(
            host.asleep or not host.powered for host in self.world.machines()
        )

    # --- messages --------------------------------------------------------------------------------

    def send(self, source: Host, to: NodeId, message: AnyMessage) -> None:
        pipe = source.pipes.get(to) or self._open(source, to)
        if pipe is None:
            self.dropped += 1
            return
        if self._tomorrow:
            known = self._translated(pipe, message)
            if known is None:
                return
            message = known
        if not pipe.send(message):
            self.dropped += 1

    def deliver(self, pipe: Pipe, message: AnyMessage) -> None:
        source, target = pipe.source, pipe.target
        if (self.hostile and self.troubled and not self.clear_between(source, target)) or not target.receive(
            source.id, message
        ):
            self.dropped += 1
        elif self.world.clones:
            target.pipes[source.id] = pipe.link.pipe_from(target)  # answers go to whoever spoke last

    def _translated(self, pipe: Pipe, message: AnyMessage) -> AnyMessage | None:
        """What arrives when one of the two is of another version."""
        if pipe.source.name in self._tomorrow:
            if self.chance() < UNKNOWN_RATE:
                self.junk[str(tomorrow.heard(tomorrow.UNKNOWN))] += 1
            heard = tomorrow.heard(tomorrow.said(message))
            if isinstance(heard, str):
                self.junk[heard] += 1
                return None
            return heard
        return message

    # --- what may happen to it -------------------------------------------------------------------

    def clear(self, source: NodeId, to: NodeId) -> bool:
        """Whether no cut keeps `source` from reaching `to`."""
        return not self._cuts.get((source, to))

    def clear_between(self, source: Host, target: Host) -> bool:
        """Whether packets pass from machine to machine."""
        if self._cuts and self._cuts.get((source.id, target.id)):
            return False
        return source.powered and target.powered and not source.asleep and not target.asleep

    def troubled_at(self, one: NodeId, other: NodeId) -> float:
        """When one of these two stood still last, or a way between them was cut, however short."""
        if not self._troubled_at:
            return -inf
        ways = ((one, other), (other, one), (one, one), (other, other))
        return max(self._troubled_at.get(way, -inf) for way in ways)

    def joined(self, one: Host, other: Host) -> bool:
        return self.clear_between(one, other) and self.clear_between(other, one)

    def cut(self, source: NodeId, to: NodeId) -> None:
        """Nothing gets from `source` to `to`. Cuts may overlap; each needs its own `mend`."""
        self._cuts[source, to] = self._cuts.get((source, to), 0) + 1
        self._troubled_at[source, to] = self.world.now
        self.troubled = True
        world = self.world
        world.trace.mark(world.now, world.hosts[source].name, f"no longer reaches {world.hosts[to].name}")
        for link in self._between(source, to):
            link.doubt()

    def mend(self, source: NodeId, to: NodeId) -> None:
        left = self._cuts[source, to] = self._cuts[source, to] - 1
        if left:
            return
        del self._cuts[source, to]
        world = self.world
        world.trace.mark(world.now, world.hosts[source].name, f"reaches {world.hosts[to].name} again")
        self._look()
        for link in self._between(source, to):
            self._recover(link)

    def lose(self, host: Host, rate: float) -> None:
        """This share of what the host sends and is sent is lost, beside what the weather takes."""
        self.world.trace.mark(self.world.now, host.name, f"loses {rate:.0%}")
        before = self._losses.get(host.name, 0.0)
        self._losses[host.name] = rate
        self._look()
        if rate < before:
            for link in self._links.values():
                if host in link.ends:
                    self._ease(link)

    def _ease(self, link: Link) -> None:
        for pipe in link.pipes:
            pipe.eased(self.world.now)
        if self._alive(link):
            link.doubted_at = None

    def loss_between(self, source: Host, target: Host) -> float:
        arrives = 1.0 - self._weather.loss
        if self._losses:
            arrives *= 1.0 - self._losses.get(source.name, 0.0)
            arrives *= 1.0 - self._losses.get(target.name, 0.0)
        return 1.0 - arrives

    def from_tomorrow(self, host: Host) -> None:
        self.world.trace.mark(self.world.now, host.name, "is of the version of tomorrow")
        self._tomorrow.add(host.name)

    def carry_s(self, size: int) -> float:
        """How long so many bytes take on a link of their own."""
        bandwidth = self._weather.bandwidth_bytes_s
        return size / bandwidth if bandwidth else 0.0

    def machine(self, host: Host, node: NodeId) -> Host | None:
        """Which machine `host` reaches under this name."""
        pipe = host.pipes.get(node)
        return self.world.hosts.get(node) if pipe is None else pipe.target

    # --- machines come and go --------------------------------------------------------------------

    def started(self, host: Host) -> None:
        """The host's process is up: it dials everybody that it knows of."""
        self._look()
        for peer in self.world.machines():
            if peer.id != host.id:
                link = self._link(host, peer)
                self._break(link)
                self._dial(link, host)

    def known(self, host: Host) -> None:
        """The host's process is up in a warm world: it is connected already."""
        for link in self._of.get(host.name, ()):
            link.up = link.up or self._alive(link)

    def ended(self, host: Host, machine: bool) -> None:
        """The host's process is gone, and with `machine` everything that could tell the others."""
        self.troubled |= machine
        for link in self._of.get(host.name, ()):
            link.told.pop(host.name, None)
            if machine or not self.joined(*link.ends):
                link.doubt()
            elif link.up:
                self.dropped += link.pipe_from(link.other(host)).reset()
                self._close(link, host)

    def silent(self, host: Host) -> None:
        """It does not answer any more, and nobody is told why."""
        self.troubled |= host.asleep
        self._troubled_at[host.id, host.id] = self.world.now
        for link in self._of.get(host.name, ()):
            link.doubt()

    def back(self, host: Host, moved: bool = False) -> None:
        """It answers again; with `moved` under another address, so that no old connection is any good."""
        self._look()
        for link in self._of.get(host.name, ()):
            if moved and link.up:
                self._break(link)
            self._recover(link)

    def give_up(self, link: Link, session: int, doubted_at: float) -> None:
        """Its heartbeats have been missed for too long."""
        if link.up and link.session == session and link.doubted_at == doubted_at:
            self._break(link)
            self._redial(link)

    # --- connections -----------------------------------------------------------------------------

    def _open(self, source: Host, to: NodeId) -> Pipe | None:
        """The way to `to`, or None when there is nobody of that name."""
        target = self.world.hosts.get(to)
        if target is None or target.id == source.id:
            return None
        link = self._link(source, target)
        if self.warm and self._alive(link):
            link.up = True
        elif not link.up:
            self._dial(link, source)
        return source.pipes.setdefault(to, link.pipe_from(source))

    def _link(self, one: Host, other: Host) -> Link:
        key = (one.name, other.name) if one.name < other.name else (other.name, one.name)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link(self, one, other)
            for end in link.ends:
                self._of.setdefault(end.name, []).append(link)
                end.pipes.setdefault(link.other(end).id, link.pipe_from(end))
        return link

    def _between(self, source: NodeId, to: NodeId) -> Iterator[Link]:
        for one in self.world.bearers(source):
            for other in self.world.bearers(to):
                key = (one.name, other.name) if one.name < other.name else (other.name, one.name)
                if key in self._links:
                    yield self._links[key]

    def _alive(self, link: Link) -> bool:
        one, other = link.ends
        return one.awake and other.awake and self.joined(one, other)

    def _recover(self, link: Link) -> None:
        """Something that may have kept the two apart is over."""
        if not self.joined(*link.ends):
            return
        if link.up:
            if self._alive(link):
                link.doubted_at = None
            for pipe in link.pipes:
                pipe.resume(self.world.now)
        else:
            self._redial(link)

    def redial(self, host: Host, to: NodeId) -> None:
        """Its node gives up what it has to `to`, and dials afresh for as long as it takes."""
        for link in self._between(host.id, to):
            if host not in link.ends or link.dialling:
                continue
            if link.up:
                link.up, link.doubted_at = False, None
                self.dropped += sum(pipe.reset() for pipe in link.pipes)
            for end in link.ends:
                link.told.pop(end.name, None)
            self._dial(link, host)

    def _redial(self, link: Link) -> None:
        low, high = REDIAL_S
        sooner = min(self.chance(), self.chance())  # both ends try
        self.world.after(low + (high - low) * sooner, lambda: self._dial(link, link.ends[0]))

    def _dial(self, link: Link, dialler: Host) -> None:
        if link.up or link.dialling or not self.joined(*link.ends):
            return
        trip_s = 2 * link.path.draw(self.chance())
        if self._alive(link):
            link.dialling = True
            link.up_at = self.world.now + HANDSHAKE_TRIPS * trip_s
            self.world.at(link.up_at, lambda: self._join(link))
        elif dialler.running and not link.other(dialler).running:
            self.world.after(trip_s, lambda: self._refused(link, dialler))

    def _refused(self, link: Link, dialler: Host) -> None:
        if not link.up and not link.other(dialler).running:
            self._tell(link, dialler, up=False, refused=True)

    def _join(self, link: Link) -> None:
        link.dialling = False
        if not self._alive(link):
            self.dropped += sum(pipe.reset() for pipe in link.pipes)
            return
        link.up = True
        link.session += 1
        link.doubted_at = None
        for end in link.ends:
            self._tell(link, end, up=True, refused=False)

    def _close(self, link: Link, gone: Host) -> None:
        """The peer reads what the gone one had sent, and then that it is gone."""
        session = link.session
        last = link.pipe_from(gone).queue
        at = max(self.world.now + link.path.draw(self.chance()), last[-1][0] if last else 0.0)

        def closed() -> None:
            if link.up and link.session == session:
                self._break(link, refused=gone.powered and not gone.running)

        self.world.at(at, closed)

    def _break(self, link: Link, refused: bool = False) -> None:
        """The connection is no more, and nothing that was on its way arrives."""
        if not link.up:
            return
        link.up = False
        link.doubted_at = None
        self.dropped += sum(pipe.reset() for pipe in link.pipes)
        for end in link.ends:
            self._tell(link, end, up=False, refused=refused)

    def _tell(self, link: Link, end: Host, up: bool, refused: bool) -> None:
        """Changes only, as the transport does."""
        if end.running and link.told.get(end.name) != (up, refused):
            link.told[end.name] = up, refused
            peer = link.other(end).id
            end.post_if_running(LinkUp(peer) if up else LinkDown(peer, refused))
