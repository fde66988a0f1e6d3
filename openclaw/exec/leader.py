"""The leader: matches what owners want to the workers that have the fewest tasks.

Promises: it grants only while it leads, only to live members that have reported to it under this epoch, and by
its own count; all that it knows is soft and comes back from owners and workers in one round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import ceil

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Event, MetaChanged, Received, Rng, RosterChanged, Send, Started, Tick
from openclaw.exec.demand import weight
from openclaw.exec.eligible import refusals, submitter_refusal
from openclaw.exec.recall import recall
from openclaw.exec.room import Taken
from openclaw.exec.schedule import Scheduler, Want
from openclaw.exec.seat import Seat
from openclaw.ids import Epoch, NodeId
from openclaw.messages import Status
from openclaw.notes import (
    GrantedChanged,
    LeaderChanged,
    MemberChanged,
    MetaLearned,
    Note,
    OfferTurn,
    TurnTaken,
)
from openclaw.records import ONE_SLOT, Member, Meta, Needs, Size

_INHERITED = 0  # the number under which a predecessor's grants are counted
_LEASE_MARGIN = 1.1


class Leader:
    def __init__(self, me: NodeId, settings: Settings, rng: Rng) -> None:
        self.me = me
        self.settings = settings
        self.granted = 0
        self._scheduler = Scheduler(rng, settings.demand_rows_max, settings.starve_s_max)
        self._epoch: Epoch | None = None
        self._metas: dict[NodeId, Meta] = {}
        self._members: Mapping[NodeId, Member] = {}
        self._alive: set[NodeId] = {me}
        self._pass_due_s: float | None = None
        self._forget_all()

    @property
    def pending(self) -> int:
        """How many tasks wait for a place, as far as their owners have said."""
        return sum(want.count for rows in self._wants.values() for want in rows.values())

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: Event | Note, now: float) -> list[Effect]:
        match event:
            case Received(message=m.Demand() as demand, sender=sender):
                self._demanded(demand, sender, now)
            case Received(message=m.Report() as report, sender=sender):
                self._reported(report, sender)
            case Tick():
                return self._tick(now)
            case LeaderChanged(epoch=epoch):
                self._follow(epoch)
            case TurnTaken():
                self._take_turn(event, now)
            case OfferTurn(to=to, term=term, expires_s=expires_s):
                return [Send(to, m.Offer(term, expires_s, self._demands(now), self._outstanding()))]
            case Started(meta=meta) | MetaChanged(meta=meta):
                self._learn(self.me, meta)
            case MetaLearned(node=node, meta=meta):
                self._learn(node, meta)
            case MemberChanged(node=node, status=status):
                self._member(node, status)
            case RosterChanged(members=members):
                self._members = members
                self._able.clear()
            case _:
                return []
        if self._epoch is not None and (self._wants or self._hoarding):
            self._pass_due_s = now
        return []

    def next_deadline(self) -> float | None:
        lease = self._leases[0][0] if self._leases else None
        timers = (self._pass_due_s, lease, self._inherited_until_s)
        return min((at for at in timers if at is not None), default=None)

    # --- what is known ---------------------------------------------------------------------------

    def _forget_all(self) -> None:
        self._seq = 0
        self._seats: dict[NodeId, Seat] = {}
        self._wants: dict[NodeId, dict[int, Want]] = {}
        self._able: dict[Needs, list[Seat]] = {}
        self._leases: deque[tuple[float, NodeId, m.Grant]] = deque()
        self._unseen: dict[NodeId, deque[m.Grant]] = {}  # grants that their owner has not counted in yet
        self._inherited: dict[tuple[NodeId, str], Taken] = {}
        self._inherited_until_s: float | None = None
        self._hoarding: dict[NodeId, Seat] = {}  # workers at which tasks wait

    def _follow(self, epoch: Epoch | None) -> None:
        if epoch == self._epoch:
            return
        self._forget_all()
        self._epoch = epoch if epoch is not None and epoch.node == self.me else None

    def _learn(self, node: NodeId, meta: Meta) -> None:
        self._metas[node] = meta
        if node in self._seats:
            self._seats[node].whole = meta.size
        self._able.clear()

    def _member(self, node: NodeId, status: Status) -> None:
        self._able.clear()
        if status is Status.ALIVE:
            self._alive.add(node)
            return
        self._alive.discard(node)
        if status >= Status.DOWN and node != self.me:
            self._seats.pop(node, None)
            self._hoarding.pop(node, None)
            self._wants.pop(node, None)
            self._unseen.pop(node, None)

    def _reported(self, report: m.Report, sender: NodeId) -> None:
        if report.epoch != self._epoch:
            return
        seat = self._seats.get(sender)
        if seat is None or seat.boot != report.boot:
            meta = self._metas.get(sender)
            whole = Size(report.slots) if meta is None else meta.size
            seat = self._seats[sender] = Seat(sender, report.boot, report.slots, whole)
            inherited = self._inherited.pop((sender, report.boot), None)
            if inherited is not None:
                seat.grant(_INHERITED, inherited.size, 1)
            self._able.clear()
        slots = 0 if report.draining else report.slots
        if seat.slots != slots:
            seat.slots = slots
            self._able.clear()
        for _, grant, count in report.taken:
            seat.release(grant, count)
        seat.report(report.size or Size(report.running + report.queued))
        seat.waiting = report.queued
        if report.queued:
            self._hoarding[sender] = seat
        else:
            self._hoarding.pop(sender, None)
        if report.returned or not report.queued:
            seat.pause_s = self.settings.recall_s_min

    def _demanded(self, demand: m.Demand, owner: NodeId, now: float) -> None:
        """`demand` replaces what `owner` wanted, less the grants that are still on their way to it."""
        if demand.epoch != self._epoch:
            return
        for unused in demand.unused:
            seat = self._seats.get(unused.worker)
            if seat is not None:
                seat.release(unused.seq, unused.count)
        unseen = self._unseen.setdefault(owner, deque())
        while unseen and unseen[0].seq <= demand.seen:
            unseen.popleft()
        coming: dict[int, int] = {}
        for grant in unseen:
            for row in grant.rows:
                coming[row.row] = coming.get(row.row, 0) + row.count
        self._want(owner, demand.rows, coming, now)

    def _want(
        self, owner: NodeId, rows: tuple[m.DemandRow, ...], coming: Mapping[int, int], now: float
    ) -> None:
        before = self._wants.get(owner, {})
        wants = {
            row.row: Want(
                owner, row.row, row.needs, row.priority, row.job, row.count - coming.get(row.row, 0),
                1 + self._ahead(row.runtime_s), row.runtime_s,
                max(now - row.waited_s, before[row.row].since_s if row.row in before else 0.0),
            )
            for row in rows
        }  # fmt: skip
        self._wants[owner] = wants
        if not wants:
            del self._wants[owner]

    def _ahead(self, runtime_s: float) -> int:
        """How many tasks a slot may hold in waiting: as many as fit into two turnarounds, for short ones."""
        settings = self.settings
        if runtime_s < 0 or runtime_s > settings.ahead_runtime_s_max:
            return 0
        fits = 2 * settings.turnaround_s_min / max(runtime_s, 1e-6)
        return min(settings.ahead_per_slot_max, ceil(fits))

    def _able_for(self, needs: Needs) -> list[Seat]:
        able = self._able.get(needs)
        if able is None:
            if len(self._able) >= self.settings.demand_rows_max:
                self._able.clear()
            able = self._able[needs] = [
                seat
                for node, seat in sorted(self._seats.items())
                if seat.slots > 0
                and not refusals(needs, self._metas.get(node), self._members.get(node), node in self._alive)
            ]
        return able

    # --- granting --------------------------------------------------------------------------------

    def _tick(self, now: float) -> list[Effect]:
        self._expire(now)
        if self._pass_due_s is None or self._pass_due_s > now:
            return []
        self._pass_due_s = None
        if self._epoch is None:
            return []
        effects = self._place(self._epoch, now)
        if self._hoarding:
            effects += self._recall(self._epoch, now)
        return effects

    def _place(self, epoch: Epoch, now: float) -> list[Effect]:
        wants = [
            want
            for owner, rows in sorted(self._wants.items())
            for want in rows.values()
            if want.count > 0 and not submitter_refusal(want.needs.kind, self._members.get(owner))
        ]
        placed = self._scheduler.place(wants, self._able_for, now)
        if not placed:
            return []
        self.granted += placed
        effects: list[Effect] = []
        for owner in dict.fromkeys(want.owner for want in wants):
            effects += self._grant(epoch, owner, now)
        return [*effects, GrantedChanged(self.granted)]

    def _grant(self, epoch: Epoch, owner: NodeId, now: float) -> list[Effect]:
        """What the pass has found for `owner`, as leases: one size a grant, so that its places are alike."""
        sizes: dict[Size, list[tuple[Seat, m.GrantRow]]] = {}
        for want in self._wants[owner].values():
            rows = sizes.setdefault(want.size, [])
            rows += [(s, m.GrantRow(want.row, s.node, s.boot, count)) for s, count in want.places.items()]
            if want.places:
                want.places, want.since_s = {}, now
        return [e for size, rows in sizes.items() for e in self._lease(epoch, owner, size, rows, now)]

    def _lease(
        self, epoch: Epoch, owner: NodeId, size: Size, rows: list[tuple[Seat, m.GrantRow]], now: float
    ) -> list[Effect]:
        effects: list[Effect] = []
        rows_max = self.settings.grants_per_message_max
        for start in range(0, len(rows), rows_max):
            part = rows[start : start + rows_max]
            self._seq += 1
            for seat, row in part:
                seat.grant(self._seq, size, row.count)
            grant = m.Grant(epoch, self._seq, self.settings.grant_ttl_s, tuple(row for _, row in part))
            self._leases.append((now + self.settings.grant_ttl_s * _LEASE_MARGIN, owner, grant))
            self._unseen.setdefault(owner, deque()).append(grant)
            effects.append(Send(owner, grant))
        return effects

    def _recall(self, epoch: Epoch, now: float) -> list[Effect]:
        """After a pass: whoever has a free slot now is wanted by nobody that waits at an owner."""
        idle = [
            seat
            for node, seat in self._seats.items()
            if seat.load < seat.slots and node in self._alive and node not in self._hoarding
        ]
        if not idle:
            return []
        effects, self._pass_due_s = recall(self._hoarding.values(), idle, epoch, now, self.settings)
        return effects

    def _expire(self, now: float) -> None:
        """Grants that nobody used in their time are free again."""
        while self._leases and self._leases[0][0] <= now:
            _, owner, grant = self._leases.popleft()
            unseen = self._unseen.get(owner)
            if unseen and unseen[0].seq <= grant.seq:
                unseen.popleft()
            for row in grant.rows:
                seat = self._seats.get(row.worker)
                if seat is not None and grant.seq in seat.granted:
                    seat.release(grant.seq)
                    self._pass_due_s = now
        if self._inherited_until_s is not None and self._inherited_until_s <= now:
            self._inherited_until_s = None
            self._inherited.clear()
            for seat in self._seats.values():
                seat.release(_INHERITED)
            self._pass_due_s = now

    # --- turns -----------------------------------------------------------------------------------

    def _demands(self, now: float) -> tuple[m.DemandOf, ...]:
        """What fits into one message; the owners tell the new leader the rest."""
        left, left_bytes = self.settings.demand_rows_max, self.settings.demand_bytes_max
        demands: list[m.DemandOf] = []
        for owner, wants in sorted(self._wants.items()):
            rows: list[m.DemandRow] = []
            for w in wants.values():
                left_bytes -= weight(w.needs, w.job)
                if left <= 0 or left_bytes <= 0:
                    break
                if w.count > 0:
                    waited_s = max(0.0, now - w.since_s)
                    rows.append(
                        m.DemandRow(w.row, w.needs, w.count, w.priority, w.runtime_s, w.job, waited_s)
                    )
                    left -= 1
            if rows:
                demands.append(m.DemandOf(owner, tuple(rows)))
        return tuple(demands)

    def _outstanding(self) -> tuple[m.GrantRow, ...]:
        rows: list[m.GrantRow] = []
        for _, owner, grant in self._leases:
            for row in grant.rows:
                seat = self._seats.get(row.worker)
                if seat is not None and seat.boot == row.boot and grant.seq in seat.granted:
                    size = seat.granted[grant.seq][1]
                    rows.append(m.GrantRow(row.row, row.worker, row.boot, row.count, owner, size))
        return tuple(rows[-self.settings.demand_rows_max :])

    def _take_turn(self, turn: TurnTaken, now: float) -> None:
        """Begin with what the predecessor knew: owners and workers will correct it within a round."""
        self._follow(turn.epoch)
        for demand in turn.demands:
            if demand.owner not in self._wants:
                self._want(demand.owner, demand.rows, {}, now)
        for row in turn.outstanding:
            key = (row.worker, row.boot)
            self._inherited.setdefault(key, Taken()).add(row.size or ONE_SLOT, row.count)
        self._inherited_until_s = now + self.settings.gather_s
