"""What a world costs and how fast news is in it: an observer of its trace that counts, and sums up.

Bytes are those of the packets as `openclaw.wire` encodes them; what TCP, CURVE or UDP add is not in them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from openclaw import wire
from openclaw.effects import Send
from openclaw.ids import Epoch, NodeId
from openclaw.messages import MetaWant, Status
from openclaw.notes import LeaderChanged, MemberChanged, MetaLearned
from sims.host import Host
from sims.modelled import Packet
from sims.world import World


@dataclass(frozen=True, slots=True)
class Figure:
    """A quantity with the spread of what was measured."""

    mean: float
    p50: float
    p99: float
    worst: float
    count: int


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the values that at least this share of them does not exceed."""
    index = max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))
    return ordered[index]


def figure(values: Iterable[float]) -> Figure | None:
    ordered = sorted(values)
    if not ordered:
        return None
    mean = sum(ordered) / len(ordered)
    return Figure(mean, quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1], len(ordered))


def packet_bytes(message: object) -> int:
    """How many bytes leave for `message`."""
    if isinstance(message, Packet):
        return sum(len(msgspec.msgpack.encode(part)) + 2 for part in message.parts)
    return len(wire.encode(message))  # type: ignore[arg-type]


class Meter:
    """Everything since the last `clear`. Times are the world's own."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.excused: set[NodeId] = set()  # whom to call dead is no mistake: stalled, or cut off
        self.clear()
        world.trace.observers.append(self._observe)

    def clear(self) -> None:
        self.since = self._world.now
        self.sent: Counter[str] = Counter()
        self.bins: defaultdict[int, Counter[str]] = defaultdict(Counter)  # bytes by second and host
        self.messages: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self.down: defaultdict[NodeId, dict[str, float]] = defaultdict(dict)  # first verdict of each host
        self.back: defaultdict[NodeId, dict[str, float]] = defaultdict(dict)  # last return, by host
        self.heard: defaultdict[NodeId, dict[str, float]] = defaultdict(dict)  # that there is news of a node
        self.learned: defaultdict[NodeId, dict[str, float]] = defaultdict(dict)  # what it is
        self.leaders: list[tuple[float, str, Epoch | None]] = []
        self.false_deaths = 0
        self.excused_deaths = 0  # of those that ran, if slowly

    def _observe(self, at: float, who: str, what: object) -> None:
        match what:
            case Send(_, message):
                second = int(at - self.since)
                self.bins[second][who] += packet_bytes(message)
                self.messages[second][who] += 1
                self.sent[type(message).__name__] += 1
                if isinstance(message, MetaWant):
                    for node in message.nodes:
                        self.heard[node].setdefault(who, at)
            case MemberChanged(node, status):
                self._member(at, who, node, status)
            case LeaderChanged(epoch):
                self.leaders.append((at, who, epoch))
            case MetaLearned(node):
                self.heard[node].setdefault(who, at)
                self.learned[node].setdefault(who, at)
            case _:
                pass

    def _member(self, at: float, who: str, node: NodeId, status: Status) -> None:
        if status is Status.ALIVE:
            self.back[node][who] = at
        if status is not Status.DOWN:
            return
        self.down[node].setdefault(who, at)
        network, me = self._world.network, self._world.host(who).id
        reachable = network.clear(me, node) and network.clear(node, me)
        accused = self._world.hosts[node]
        if node in self.excused:
            self.excused_deaths += accused.running and reachable
        elif accused.awake and reachable and me not in self.excused:
            self.false_deaths += 1

    # --- sums ------------------------------------------------------------------------------------

    def per_second(self, bins: dict[int, Counter[str]], seconds: int) -> list[float]:
        """One value for each node and each of the first `seconds` seconds, silent ones too."""
        return [float(bins[second][name]) for second in range(seconds) for name in self._names()]

    def _names(self) -> list[str]:
        return [host.name for host in self._world.hosts.values()]

    def knowing(self, dead: NodeId, hosts: Iterable[Host]) -> int:
        """How many of these hold `dead` down."""
        return sum(host.name in self.down[dead] for host in hosts)

    def verdicts_s(self, dead: NodeId, since: float) -> list[float]:
        """How long each survivor took to hold `dead` down, shortest first."""
        return sorted(at - since for at in self.down[dead].values())

    def elections_sent(self) -> int:
        """Messages of elections: candidacies, answers, announcements, corrections."""
        return sum(self.sent[name] for name in ("Elect", "ElectAnswer", "Coordinator", "Higher"))
