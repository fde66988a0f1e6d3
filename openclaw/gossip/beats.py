"""Heartbeats: each node's load and metrics, at a rate bounded for the whole mesh.

A node mints at most one beat every max(`beat_every_s`, n / `beats_per_second_mesh_max`) seconds, so that all
nodes together mint no more than the bound; without a change of load only every `beat_idle_s`. A beat rides
on pings and acks, once to each peer. A change of load goes straight to everyone while the mesh is small.
Where pairs meet too rarely by pings, fresh beats of others are passed on a few times as well.
"""

from __future__ import annotations

from itertools import islice

from msgspec.structs import replace

from openclaw.config import Settings
from openclaw.gossip.member import NEVER, Row
from openclaw.ids import NodeId
from openclaw.messages import Beat
from openclaw.records import Counts, Metrics

RELAYS_EACH = 2


class Beats:
    """Our own beat, and others' that are still worth passing on."""

    def __init__(self, me: NodeId, boot: str, settings: Settings) -> None:
        self._settings = settings
        self._beat = Beat(me, boot, 0)
        self._minted_at = NEVER
        self._running, self._queued, self._granted = 0, 0, 0
        self._metrics, self._counts = Metrics(), Counts()
        self._changed = False
        self._relays: dict[NodeId, tuple[Beat, int]] = {}

    @property
    def latest(self) -> Beat:
        """As it is at this moment: the rate is for what others hear, and a node alone tells nobody."""
        return Beat(
            self._beat.node,
            self._beat.boot,
            self._beat.number,
            self._running,
            self._queued,
            self._metrics,
            self._counts,
            self._granted,
        )

    def load(self, running: int, queued: int) -> None:
        self._changed |= (running, queued) != (self._running, self._queued)
        self._running, self._queued = running, queued

    def counts(self, counts: Counts) -> None:
        self._changed |= counts != self._counts
        self._counts = counts

    def granted(self, granted: int) -> None:
        self._changed |= granted != self._granted
        self._granted = granted

    def measured(self, metrics: Metrics) -> None:
        """Metrics move all the time: they wait for the next beat and never cause one."""
        self._metrics = metrics

    def due(self, members: int) -> float | None:
        """When a change of load must be told; None while there is none."""
        return self._minted_at + self._interval_s(members) if self._changed else None

    def mint(self, members: int, now: float) -> None:
        """A new beat, if the last is old enough for what happened since."""
        pause_s = self._interval_s(members) if self._changed else self._settings.beat_idle_s
        if now - self._minted_at < pause_s:
            return
        self._beat = replace(self.latest, number=self._beat.number + 1)
        self._minted_at = now
        self._changed = False

    def riding(self, to: Row | None, members: int, now: float) -> tuple[Beat, ...]:
        """What goes along to this peer: ours if it has not had it, and a few of others'."""
        self.mint(members, now)
        mine: tuple[Beat, ...] = ()
        if to is None or to.beat_told < self._beat.number:
            mine = (self._beat,)
            if to is not None:
                to.beat_told = self._beat.number
        if members <= self._settings.flood_nodes_max:
            return mine
        return mine + self._passed_on(to)

    def learn(self, beat: Beat, row: Row) -> None:
        """Keep a newer beat of the start that this member is in; an older start's is noise."""
        known = row.beat
        if beat.boot != row.claim.incarnation.boot:
            return
        if known is not None and known.boot == beat.boot and known.number >= beat.number:
            return
        row.beat = beat
        self._relays.pop(beat.node, None)
        self._relays[beat.node] = (beat, RELAYS_EACH)

    def forget(self, node: NodeId) -> None:
        self._relays.pop(node, None)

    def _passed_on(self, to: Row | None) -> tuple[Beat, ...]:
        receiver = None if to is None else to.claim.node
        freshest = (node for node in reversed(self._relays) if node != receiver)
        chosen = []
        for node in list(islice(freshest, self._settings.beats_relayed_max)):
            beat, left = self._relays.pop(node)
            chosen.append(beat)
            if left > 1:
                self._relays[node] = (beat, left - 1)
        return tuple(chosen)

    def _interval_s(self, members: int) -> float:
        return max(self._settings.beat_every_s, members / self._settings.beats_per_second_mesh_max)
