"""Plain SWIM and memberlist, modelled: a yardstick in the same world, under the same faults and seeds.

These are models and not the products: the state machines as their papers and sources describe them, written anew
over the simulator's network, in messages of memberlist's fields. `MEMBERLIST` has the published LAN parameters;
`SWIM` has none of Lifeguard (no local health, no confirmations, no nacks), no gossip of its own beside the probes,
and our own probe times, so that the two differ in what is compared. What a model hears it says as our notes do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf, log2

import msgspec

from openclaw.config import Settings
from openclaw.effects import Effect, Event, MetaChanged, Received, Rng, RosterChanged, Send, Started
from openclaw.ids import NodeId
from openclaw.messages import Status
from openclaw.records import Restored
from sims.modelled import Ack, IndirectPing, Nack, Packet, Parameters, Part, Ping, PushPull, Suspect
from sims.modelled_view import Member, View

MEMBERLIST = Parameters(
    name="memberlist (model)",
    period_s=1.0,
    timeout_s=0.5,
    suspicion_mult=4,
    suspicion_stretch=6,
    confirmations=2,
    health_max=8,
    retransmit_mult=4,
    lifeguard=True,
    gossip_s=0.2,
    gossip_to_dead_s=30.0,
    push_pull_s=30.0,
)
SWIM = Parameters(
    name="plain SWIM (model)",
    period_s=Settings().probe_every_s,
    timeout_s=Settings().probe_timeout_s,
    suspicion_mult=Settings().suspect_s_min / Settings().probe_every_s,
)


@dataclass(slots=True)
class Probe:
    target: NodeId
    seq: int
    asked_again_at: float
    fails_at: float
    helpers: int = 0
    nacks: int = 0


@dataclass(frozen=True, slots=True)
class Relay:
    asker: NodeId
    seq: int
    ends: float


class Model:
    """Stands where a `Node` stands: events in, effects out, one deadline."""

    def __init__(self, me: NodeId, parameters: Parameters, rng: Rng) -> None:
        self.me = me
        self.view = View(me, parameters, rng)
        self._parameters = parameters
        self._rng = rng
        self._seq = 0
        self._round: list[NodeId] = []
        self._probe: Probe | None = None
        self._relays: dict[int, Relay] = {}
        self._next_probe = self._next_gossip = self._next_push_pull = inf

    def handle(self, event: Event, now: float) -> list[Effect]:
        self.view.out = []
        match event:
            case Started():
                self._start(now)
            case RosterChanged(members):
                for node in sorted(members):
                    if node != self.me:
                        self.view.rows.setdefault(node, Member())
                self._join(now)
            case Received(message, sender):
                assert isinstance(message, Packet)
                for part in message.parts:
                    self._read(part, sender, now)
            case MetaChanged():
                self.view.refute(self.view.incarnation)
            case _:
                self._tick(now)
        return self.view.out

    def next_deadline(self) -> float | None:
        if self._next_probe == inf:
            return None
        probe = self._probe
        asking = self._next_probe if probe is None else min(probe.asked_again_at, probe.fails_at)
        relays = (relay.ends for relay in self._relays.values())
        waits = (asking, self._next_gossip, self._next_push_pull, self.view.next_deadline())
        return min(*waits, min(relays, default=inf))

    # --- time ------------------------------------------------------------------------------------

    def _start(self, now: float) -> None:
        chance, parameters = self._rng.random, self._parameters
        self._next_probe = now + parameters.period_s * chance()
        if parameters.gossip_s is not None:
            self._next_gossip = now + parameters.gossip_s * chance()

    def _join(self, now: float) -> None:
        """Exchange views with somebody at once, and from then on at times of our own."""
        self._push_pull()
        if self._parameters.push_pull_s is not None:
            self._next_push_pull = now + self._push_pull_every_s() * self._rng.random()

    def _tick(self, now: float) -> None:
        for seq, relay in list(self._relays.items()):
            if relay.ends <= now:
                del self._relays[seq]
                if self._parameters.lifeguard:
                    self._send(relay.asker, Nack(relay.seq))
        probe = self._probe
        if probe is not None and probe.fails_at <= now:
            self._failed(probe, now)
        elif probe is not None and probe.asked_again_at <= now:
            self._ask_helpers(probe)
        self.view.expire(now)
        if self._probe is None and self._next_probe <= now:
            self._probe_next(now)
        if self._next_gossip <= now:
            self._gossip(now)
        if self._next_push_pull <= now:
            self._next_push_pull = now + self._push_pull_every_s()
            self._push_pull()

    def _probe_next(self, now: float) -> None:
        self._next_probe = now + self._parameters.period_s
        target = self._next_of_round()
        if target is None:
            return
        self._seq += 1
        patience_s = self._parameters.period_s * (1 + self.view.health)
        self._probe = Probe(target, self._seq, now + self._parameters.timeout_s, now + patience_s)
        ping, row = Ping(self._seq, target, self.me), self.view.rows[target]
        if row.status is Status.SUSPECT and self._parameters.lifeguard:
            self._send(target, ping, Suspect(row.incarnation, target, self.me))  # so that it can say no
        else:
            self._send(target, ping)

    def _next_of_round(self) -> NodeId | None:
        for _ in range(2):
            while self._round:
                node = self._round.pop()
                if self.view.rows[node].live:
                    return node
            self._round = self.view.live()
            self._rng.shuffle(self._round)
        return None

    def _ask_helpers(self, probe: Probe) -> None:
        probe.asked_again_at = inf
        helpers = self.view.some(
            self._parameters.helpers, lambda node, row: row.live and node != probe.target
        )
        probe.helpers = len(helpers)
        for helper in helpers:
            self._send(helper, IndirectPing(probe.seq, probe.target, self.me, self._parameters.lifeguard))
        if self._parameters.lifeguard:  # memberlist asks once more over a stream
            self._send(probe.target, Ping(probe.seq, probe.target, self.me))

    def _failed(self, probe: Probe, now: float) -> None:
        self._probe = None
        expected = probe.helpers if self._parameters.lifeguard else 0
        self.view.feel(max(0, expected - probe.nacks) if expected else 1)
        row = self.view.rows[probe.target]
        self.view.take(Suspect(row.incarnation, probe.target, self.me), now)

    def _gossip(self, now: float) -> None:
        assert self._parameters.gossip_s is not None
        self._next_gossip = now + self._parameters.gossip_s
        if len(self.view.queue):
            recent_s = self._parameters.gossip_to_dead_s
            for node in self.view.some(
                self._parameters.gossip_nodes, lambda _, row: row.live or now - row.since < recent_s
            ):
                self._send(node)

    def _push_pull(self) -> None:
        for peer in self.view.some(1, lambda _, row: row.live):
            self._emit(peer, self.view.states(reply=False))

    def _push_pull_every_s(self) -> float:
        """Every 30 s while there are 32 nodes; each doubling adds as much again."""
        assert self._parameters.push_pull_s is not None
        doublings = ceil(log2(self.view.size / 32)) if self.view.size > 32 else 0
        return self._parameters.push_pull_s * (1 + doublings)

    # --- messages --------------------------------------------------------------------------------

    def _read(self, part: Part, sender: NodeId, now: float) -> None:
        match part:
            case Ping(seq):
                self._send(sender, Ack(seq))
            case IndirectPing(seq, target):
                self._seq += 1
                self._relays[self._seq] = Relay(sender, seq, now + self._parameters.timeout_s)
                self._send(target, Ping(self._seq, target, self.me))
            case Ack(seq):
                self._acked(seq)
            case Nack(seq):
                if self._probe is not None and self._probe.seq == seq:
                    self._probe.nacks += 1
            case PushPull(states, reply):
                if not reply:
                    self._emit(sender, self.view.states(reply=True))
                for claim in states:
                    self.view.merge(claim, sender, now)
            case _:
                self.view.take(part, now)

    def _acked(self, seq: int) -> None:
        relay = self._relays.pop(seq, None)
        if relay is not None:
            self._send(relay.asker, Ack(relay.seq))
        elif self._probe is not None and self._probe.seq == seq:
            self._probe = None
            self.view.feel(-1)

    def _send(self, to: NodeId, *parts: Part) -> None:
        """A packet, filled up with news."""
        room = self._parameters.packet_bytes - sum(len(msgspec.msgpack.encode(part)) for part in parts)
        riding = self.view.queue.take(room, self.view.size)
        if parts or riding:
            self._emit(to, *parts, *riding)

    def _emit(self, to: NodeId, *parts: Part) -> None:
        self.view.out.append(Send(to, Packet(parts)))  # type: ignore[arg-type]


Making = Callable[[NodeId, str, Settings, Callable[[str], Rng], Restored], Model]


def maker(parameters: Parameters) -> Making:
    """What makes a model where the world would make a `Node`."""
    return lambda me, _boot, _settings, rng_for, _restored: Model(me, parameters, rng_for("model"))
