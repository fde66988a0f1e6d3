"""SWIM's probes and Lifeguard's opinion of ourselves: who is asked when, and how long we wait.

One member at a time, round robin over a shuffled list, so that everyone is asked within 2n-1 rounds. What is
not answered is asked again directly and through helpers; only then is it a failure. Waiting stretches with
the peer's measured round trip and with our own ill health: a node that runs late, or that even its helpers do
not answer, should doubt itself before it accuses others. This part sends nothing; it says what is due.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from openclaw.config import Settings
from openclaw.effects import Rng
from openclaw.gossip.member import NEVER
from openclaw.ids import NodeId

RTTS_WAITED = 3.0
RTT_WEIGHT = 0.2
NACK_SHARE = 0.8


@dataclass(slots=True)
class Probe:
    """One question that is open. `indirect` once helpers were asked too."""

    target: NodeId
    sent: float
    deadline: float
    indirect: bool = False
    helpers: int = 0
    nacks: int = 0


@dataclass(slots=True)
class Relay:
    """A ping that we sent for somebody else."""

    asker: NodeId
    asker_seq: int
    target: NodeId
    deadline: float


@dataclass(frozen=True, slots=True)
class Due:
    """What has run out: probes to ask indirectly, probes that failed, relays to be answered with a nack."""

    indirect: tuple[tuple[int, Probe], ...]
    failed: tuple[Probe, ...]
    nacks: tuple[Relay, ...]


class Detector:
    """Open probes and relays, the order of the round, and our health score (0 is well)."""

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self._settings = settings
        self._rng = rng
        self._seq = int(rng.random() * (1 << 40))  # an answer to our former self must not fit
        self._round: list[NodeId] = []
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self.health = 0

    def probing(self, target: NodeId, since: float = NEVER) -> bool:
        """Whether a question to `target` is open that was asked at `since` or later."""
        return any(probe.target == target and probe.sent >= since for probe in self._probes.values())

    def next_seq(self) -> int:
        self._seq += 1
        return self._seq

    def next_target(self, wanted: Callable[[NodeId], bool], members: list[NodeId]) -> NodeId | None:
        """The next of the round that is wanted and not being asked already."""
        for _ in range(2):
            while self._round:
                node = self._round.pop()
                if wanted(node) and not self.probing(node):
                    return node
            self._round = list(members)
            self._rng.shuffle(self._round)
        return None

    def interval_s(self) -> float:
        return self._settings.probe_every_s * (1 + self.health)

    def open(self, target: NodeId, rtt_s: float | None, now: float) -> int:
        seq = self.next_seq()
        patience = self._stretched(self._settings.probe_timeout_s, rtt_s)
        self._probes[seq] = Probe(target, now, now + patience)
        return seq

    def widen(self, probe: Probe, helpers: int, rtt_s: float | None, now: float) -> None:
        probe.indirect = True
        probe.helpers = helpers
        probe.deadline = now + self._stretched(self._settings.indirect_timeout_s, rtt_s)

    def open_relay(self, asker: NodeId, asker_seq: int, target: NodeId, now: float) -> int | None:
        """A ping for `asker`; None when too many are open, which the asker takes for our silence."""
        if len(self._relays) >= self._settings.relays_max:
            return None
        seq = self.next_seq()
        wait_s = self._settings.indirect_timeout_s * NACK_SHARE
        self._relays[seq] = Relay(asker, asker_seq, target, now + wait_s)
        return seq

    def answered(self, seq: int, target: NodeId) -> Probe | None:
        """The open probe that this ack answers, closed, and with it all older ones. A success makes us more well."""
        probe = self._probes.get(seq)
        if probe is None or probe.target != target:
            return None
        for asked in [n for n, one in self._probes.items() if one.target == target and n <= seq]:
            del self._probes[asked]
        self.better()
        return probe

    def relayed(self, seq: int, target: NodeId) -> Relay | None:
        relay = self._relays.get(seq)
        if relay is None or relay.target != target:
            return None
        return self._relays.pop(seq)

    def nacked(self, seq: int, target: NodeId) -> None:
        probe = self._probes.get(seq)
        if probe is not None and probe.target == target:
            probe.nacks += 1

    def due(self, now: float) -> Due:
        late = [(seq, probe) for seq, probe in self._probes.items() if probe.deadline <= now]
        failed = tuple(probe for _, probe in late if probe.indirect)
        for seq, probe in late:
            if probe.indirect:
                del self._probes[seq]
                self._learn_from(probe)
        expired = [seq for seq, relay in self._relays.items() if relay.deadline <= now]
        return Due(
            tuple(item for item in late if not item[1].indirect),
            failed,
            tuple(self._relays.pop(seq) for seq in expired),
        )

    def next_deadline(self) -> float | None:
        if not self._probes and not self._relays:
            return None
        waiting = [probe.deadline for probe in self._probes.values()]
        waiting += [relay.deadline for relay in self._relays.values()]
        return min(waiting, default=None)

    def drop(self, target: NodeId) -> None:
        self._probes = {seq: probe for seq, probe in self._probes.items() if probe.target != target}

    def drop_all(self) -> None:
        self._probes.clear()
        self._relays.clear()

    def shift(self, gap_s: float) -> None:
        """We did not run for a while: answers may be waiting in our own inbox."""
        for probe in self._probes.values():
            probe.deadline += gap_s

    def worse(self, by: int = 1) -> None:
        self.health = min(self._settings.health_score_max, self.health + by)

    def better(self) -> None:
        self.health = max(0, self.health - 1)

    def _learn_from(self, failed: Probe) -> None:
        """Helpers that did not even say "no answer" hint that the trouble is ours."""
        silent = max(0, failed.helpers - failed.nacks)  # a nack may come twice
        self.worse(silent if failed.helpers else 1)

    def _stretched(self, base_s: float, rtt_s: float | None) -> float:
        return max(base_s, RTTS_WAITED * (rtt_s or 0.0)) * (1 + self.health)


def smoothed(rtt_s: float | None, sample_s: float) -> float:
    """The round trip as a moving average."""
    return sample_s if rtt_s is None else rtt_s + RTT_WEIGHT * (sample_s - rtt_s)
