"""One connection between two machines, and how good the links of a world are.

Two modes, both needed. `tcp` is what the real transport gives: in order; what is lost is sent again by the kernel,
which stalls everything behind it; when the connection breaks, what had not arrived is gone, and so is what no queue
has room for. `hostile` gives no connection at all: messages are lost, doubled, late, and pass each other.
"""

from __future__ import annotations

import math
import random
from functools import partial
from typing import TYPE_CHECKING, Literal

import msgspec

from openclaw import wire
from openclaw.config import HIGH_WATER_MARK, LINK_QUEUE_MAX
from openclaw.messages import AnyMessage

if TYPE_CHECKING:
    from sims.host import Host
    from sims.network import Network

RTO_S = 0.2  # the kernel's first retransmission; each further one waits twice as long
OUTAGE_PER_LOSS = 0.05  # so many losses begin a time in which nothing passes
OUTAGE_S = 1.0
OUTAGE_S_MAX = 8.0
HEARTBEAT_S = (20.0, 30.0)  # of silence until a connection is given up: the heartbeats' period and timeout
WINDOW = 10  # segments that may be on their way without any being acknowledged
STRAY_S = 0.5  # how late a stray is, in hostile mode
STRAY_S_MAX = 5.0


class Weather(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How good the links are. `latency_s`, a range, takes the place of what `latency` stands for.

    `queue_max` is the high-water mark. `duplicate` and `stray` are shares of the messages, in hostile mode alone.
    """

    mode: Literal["tcp", "hostile"] = "tcp"
    latency: Literal["lan", "tailnet", "mixed"] = "lan"
    latency_s: tuple[float, float] | None = None
    loss: float = 0.0
    bandwidth_bytes_s: float = 0.0  # of each link, each way; 0: as much as anybody wants
    queue_max: int = HIGH_WATER_MARK
    duplicate: float = 0.02
    stray: float = 0.02


class Path(msgspec.Struct, frozen=True):
    """The latencies of one link: at least `least_s`; usually `jitter_s` more; now and then much more."""

    least_s: float
    jitter_s: float
    tail: float = 0.0
    tail_s: float = 0.0
    even: bool = False  # evenly spread over the jitter

    def draw(self, chance: float) -> float:
        if self.even:
            return self.least_s + self.jitter_s * chance
        if chance < self.tail:
            return self.least_s + self.tail_s * chance / self.tail
        return self.least_s - self.jitter_s * math.log1p(-chance)


def path(weather: Weather, seed: int, one: str, other: str) -> Path:
    """What the link between two machines is like, for as long as the world lasts."""
    if weather.latency_s is not None:
        low, high = weather.latency_s
        return Path(low, high - low, even=True)
    kind = weather.latency
    if kind == "mixed":
        near = _site(seed, one) == _site(seed, other)
        kind = "lan" if near else "tailnet"
    chance = random.Random(f"{seed}:path:{min(one, other)}:{max(one, other)}").random()
    if kind == "lan":
        return Path(0.0001 + 0.0004 * chance, 0.0002, 0.002, 0.02)
    return Path(0.005 + 0.075 * chance**2, 0.002 + 0.006 * chance, 0.005, 0.3)


def _site(seed: int, name: str) -> int:
    return random.Random(f"{seed}:site:{name}").randrange(3)


class Pipe:
    """One direction of a link. `queue` holds what has not arrived, in order, with the time when it is due."""

    __slots__ = (
        "due",
        "free_at",
        "link",
        "outage_until",
        "passed",
        "pump",
        "queue",
        "ready_at",
        "source",
        "stalled_at",
        "target",
    )

    def __init__(self, link: Link, source: Host, target: Host) -> None:
        self.link = link
        self.source, self.target = source, target
        self.queue: list[tuple[float, AnyMessage]] = []
        self.due = 0.0
        self.free_at = 0.0
        self.ready_at = 0.0
        self.outage_until = 0.0
        self.stalled_at = 0.0
        self.passed = 0
        self.pump = self._pump

    def reset(self) -> int:
        """A new connection: what had not arrived on the old one never will. How much that was."""
        lost = len(self.queue)
        self.queue.clear()
        self.due = self.free_at = self.ready_at = 0.0
        self.passed = 0
        return lost

    def send(self, message: AnyMessage) -> bool:
        """Whether it may still arrive."""
        link = self.link
        network = link.network
        if network.hostile:
            return self._throw(message)
        limit = network.queue_max if link.up else LINK_QUEUE_MAX if link.dialling else 0
        if len(self.queue) >= limit:
            return False
        now = network.world.now
        at = self._leaves(message, now) + link.path.draw(self.source.chance())
        if (
            network.lossy and self.due - now < RTO_S
        ):  # else it waits behind what is sent again, and goes with it
            self.stalled_at = now
            at += self._stall_s(now)
        if not link.up:
            at = max(at, link.up_at)
        if at < self.due:
            at = self.due
        self.due = at
        self.queue.append((at, message))
        network.world.at(at, self.pump)
        return True

    def resume(self, now: float) -> None:
        """Packets pass again; the kernel tries the next time that its timer says so."""
        self.passed = 0
        if self.queue:
            self.ready_at = retry_at(min(self.queue[0][0], now), now)
            self.link.network.world.at(self.ready_at, self.pump)

    def eased(self, now: float) -> None:
        """Less is lost from now on: the next time that the kernel tries, all that waits gets through."""
        self.outage_until = min(self.outage_until, now)
        at = max(retry_at(self.stalled_at, now), self.link.up_at)
        if self.queue and at < self.due:
            self.queue = [(min(due, at), message) for due, message in self.queue]
            self.due = at
            self.link.network.world.at(at, self.pump)

    def _pump(self) -> None:
        """Hand over what is due, unless it cannot pass."""
        network = self.link.network
        now = network.world.now
        if now < self.ready_at:
            return
        while self.queue and self.queue[0][0] <= now:
            if network.troubled and not self._passes(network):
                return
            _, message = self.queue.pop(0)
            network.deliver(self, message)

    def _passes(self, network: Network) -> bool:
        """Without acknowledgements no more than a window of data passes."""
        if not self.link.up or not network.clear_between(self.source, self.target):
            return False
        if network.clear_between(self.target, self.source):
            return True
        self.passed += 1
        return self.passed <= WINDOW

    def _leaves(self, message: AnyMessage, now: float) -> float:
        """When the last byte is on the wire."""
        bandwidth = self.link.network.weather.bandwidth_bytes_s
        if not bandwidth:
            return now
        self.free_at = max(self.free_at, now) + len(wire.encode(message)) / bandwidth
        return self.free_at

    def _stall_s(self, now: float) -> float:
        """How long loss keeps a message from arriving; a connection that stalls too long breaks."""
        network, chance = self.link.network, self.source.chance
        loss = network.loss_between(self.source, self.target)
        if loss <= 0.0:
            return 0.0
        at, rto_s = now, RTO_S
        while at < self.outage_until or chance() < loss:
            if at >= self.outage_until and chance() < OUTAGE_PER_LOSS:
                self.outage_until = at + min(OUTAGE_S_MAX, -OUTAGE_S * math.log1p(-chance()))
            at += rto_s
            rto_s *= 2
            if at - now > HEARTBEAT_S[1]:
                self.link.doubt()
                break
        return at - now

    def _throw(self, message: AnyMessage) -> bool:
        """Hostile: every message for itself."""
        network, chance = self.link.network, self.source.chance
        if not network.clear_between(self.source, self.target):
            return False
        if chance() < network.loss_between(self.source, self.target):
            return False
        weather = network.weather
        for _ in range(2 if chance() < weather.duplicate else 1):
            delay_s = self.link.path.draw(chance())
            if chance() < weather.stray:
                delay_s += min(STRAY_S_MAX, -STRAY_S * math.log1p(-chance()))
            network.world.after(delay_s, partial(network.deliver, self, message))
        return True


def retry_at(sent: float, passes_at: float) -> float:
    """The kernel's first retransmission at or after `passes_at` of what was `sent` before."""
    at, rto_s = sent, RTO_S
    while at < passes_at:
        at += rto_s
        rto_s *= 2
    return at


class Link:
    """A connection between two machines, up or not. `told` is what each end last heard of it."""

    __slots__ = (
        "dialling",
        "doubted_at",
        "ends",
        "network",
        "path",
        "pipes",
        "session",
        "told",
        "up",
        "up_at",
    )

    def __init__(self, network: Network, one: Host, other: Host) -> None:
        self.network = network
        self.ends = (one, other)
        self.path = path(network.weather, network.world.seed, one.name, other.name)
        self.pipes = (Pipe(self, one, other), Pipe(self, other, one))
        self.up = False
        self.up_at = 0.0
        self.dialling = False
        self.doubted_at: float | None = None
        self.session = 0
        self.told: dict[str, tuple[bool, bool]] = {}

    def doubt(self) -> None:
        """Nothing passes, in one direction at least: give the connection up unless that changes soon."""
        if self.up and self.doubted_at is None:
            low, high = HEARTBEAT_S
            network = self.network
            now = self.doubted_at = network.world.now
            after_s = low + (high - low) * network.chance()
            network.world.after(after_s, partial(network.give_up, self, self.session, now))

    def other(self, end: Host) -> Host:
        return self.ends[1] if self.ends[0] is end else self.ends[0]

    def pipe_from(self, end: Host) -> Pipe:
        return self.pipes[0] if self.ends[0] is end else self.pipes[1]
