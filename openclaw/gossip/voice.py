"""Everything that leaves: heads, pings, and news that does not wait for the next ping.

Changes of status and our own news are flushed at once, coalesced over `coalesce_s`: what only we can know goes
to everyone in a small mesh, what was heard goes to a few at random in a large one and rides on pings in a
small one. Nothing leaves before our incarnation is on disk.
"""

from __future__ import annotations

from openclaw.config import Settings
from openclaw.effects import Effect, Rng, Send
from openclaw.gossip.beats import Beats
from openclaw.gossip.own import Own
from openclaw.gossip.roll import Roll
from openclaw.gossip.waits import earliest
from openclaw.ids import NOBODY, NodeId
from openclaw.messages import Ack, Beat, Gossip, Head, Ping, PingRequest, Rumour


class Voice:
    """Builds what is sent. Every head tells its receiver what we hold on it, if it seems not to know."""

    def __init__(self, own: Own, roll: Roll, beats: Beats, settings: Settings, rng: Rng) -> None:
        self._own = own
        self._roll = roll
        self._beats = beats
        self._settings = settings
        self._rng = rng
        self.roster = b""
        self.announce = False  # we have news of ourselves
        self._flush_at: float | None = None

    def may_speak(self, now: float) -> bool:
        """Whether there is an incarnation of ours on disk that a head could carry."""
        return self._own.spoken(now) is not None

    def ping(self, to: NodeId, seq: int, now: float, out: list[Effect]) -> None:
        head = self._head(to, now)
        if head is not None:
            out.append(Send(to, Ping(seq, head)))

    def ack(self, to: NodeId, seq: int, now: float, out: list[Effect], target: NodeId = NOBODY) -> None:
        head = self._head(to, now)
        if head is not None:
            out.append(Send(to, Ack(seq, head, target)))

    def ask_for(self, to: NodeId, seq: int, target: NodeId, now: float, out: list[Effect]) -> None:
        head = self._head(to, now)
        if head is not None:
            out.append(Send(to, PingRequest(seq, target, head)))

    def notice(self, now: float) -> None:
        """Called after every event: news is flushed a moment later, together with what else happens."""
        if self._flush_at is None and (self._roll.news or self.announce):
            self._flush_at = now + self._settings.coalesce_s

    def speak(self, now: float, out: list[Effect]) -> None:
        """Flush what is due: news, and a change of our load."""
        targets: set[NodeId] = set()
        beat_at = self._beat_at()
        if beat_at is not None and beat_at <= now:
            self._beats.mint(self._roll.size, now)
            targets.update(self._roll.live())
        if self._flush_at is not None and self._flush_at <= now:
            targets.update(self._audience())
            self._flush_at = None
            self._roll.news = self._roll.own_verdict = False
            self.announce = not self._own.all_spoken(now)
        self._gossip(sorted(targets), now, out)

    def farewell(self, now: float, out: list[Effect]) -> None:
        """Our last word goes to everyone, at once, by name."""
        ourselves = self._own.spoken(now)
        if ourselves is not None:
            for node in self._roll.live():
                head = self._head_with(ourselves, (ourselves,), (), now)
                out.append(Send(node, Gossip(head)))

    def next_deadline(self) -> float | None:
        return earliest(self._beat_at(), self._flush_at)

    def _audience(self) -> list[NodeId]:
        live = self._roll.live()
        if self._roll.size <= self._settings.flood_nodes_max:
            return live if self._roll.own_verdict or self.announce else []
        return self._rng.sample(live, min(self._settings.rumour_fanout, len(live)))

    def _beat_at(self) -> float | None:
        """When a change of our load goes to everyone, where there are few enough of us for that."""
        size = self._roll.size
        at = self._beats.due(size)
        return at if 1 < size <= self._settings.beat_flood_nodes_max else None

    def _gossip(self, targets: list[NodeId], now: float, out: list[Effect]) -> None:
        if not targets or self._own.spoken(now) is None:
            return
        rumours = self._roll.rumours.pick(self._roll.size, copies=len(targets))
        for node in targets:
            head = self._head(node, now, rumours)
            if head is not None:
                out.append(Send(node, Gossip(head)))

    def _head(self, to: NodeId, now: float, rumours: tuple[Rumour, ...] | None = None) -> Head | None:
        ourselves = self._own.spoken(now)
        if ourselves is None:
            return None
        row = self._roll.rows.get(to)
        if rumours is None:
            rumours = self._roll.rumours.pick(self._roll.size)
        if row is not None and row.mistaken:
            rumours = (row.claim, *(r for r in rumours if r.node != to))
        if ourselves.back_soon:
            rumours = (ourselves, *rumours)
        return self._head_with(ourselves, rumours, self._beats.riding(row, self._roll.size, now), now)

    def _head_with(
        self, ourselves: Rumour, rumours: tuple[Rumour, ...], beats: tuple[Beat, ...], now: float
    ) -> Head:
        return Head(
            ourselves.incarnation,
            self._own.epoch.spoken(now),
            ourselves.meta_version,
            self._roll.view(ourselves),
            self.roster,
            beats,
            rumours,
        )
