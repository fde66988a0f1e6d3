"""A leader's book kept a second time, from what it was told and what it granted: what its grants are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import TYPE_CHECKING, ClassVar

from openclaw.config import Settings
from openclaw.effects import Effect, Event, Received, Send
from openclaw.exec.room import Taken
from openclaw.ids import Epoch, NodeId
from openclaw.messages import Demand, DemandRow, Grant, Report, Status
from openclaw.notes import LeaderChanged, MemberChanged, Note, TurnTaken
from openclaw.records import ONE_SLOT, Size
from sims.properties.views import Inside, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

LEASE_MARGIN = 1.1
_NOTHING = Size(0)


@dataclass(slots=True)
class Place:
    """A worker: what it last reported, and what was granted since and not yet taken, by grant."""

    boot: str
    slots: int = 0
    queued: int = 0
    reported: Size = _NOTHING
    outstanding: dict[int, int] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)  # of each place of a grant

    @property
    def taken(self) -> Taken:
        taken = Taken()
        taken.add(self.reported)
        for grant, count in self.outstanding.items():
            taken.add(self.sizes[grant], count)
        return taken

    @property
    def load(self) -> int:
        return self.taken.slots if self.outstanding else self.reported.slots

    def release(self, grant: int, count: int) -> None:
        left = self.outstanding.get(grant, 0) - count
        if left > 0:
            self.outstanding[grant] = left
        else:
            self.outstanding.pop(grant, None)


@dataclass(slots=True)
class Given:
    """One grant that has left."""

    at: float
    grant: Grant


@dataclass(slots=True)
class Book:
    """Of one leader under one epoch. `inherited` while it still counts what its predecessor granted."""

    epoch: Epoch
    inherited_until: float = float("-inf")
    inherited: dict[tuple[NodeId, str], int] = field(
        default_factory=dict
    )  # in slots, by worker and its start
    places: dict[NodeId, Place] = field(default_factory=dict)
    demands: dict[NodeId, tuple[int, tuple[DemandRow, ...]]] = field(default_factory=dict)
    given: dict[NodeId, list[Given]] = field(default_factory=dict)
    leases: list[Given] = field(default_factory=list)
    since: dict[tuple[NodeId, int], float] = field(
        default_factory=dict
    )  # when a row got a place, or began to wait
    since_before: dict[tuple[NodeId, int], float] = field(
        default_factory=dict
    )  # as of its last place but one
    uneven_since: float | None = None  # work waits at one while another has a free slot, and nobody was asked
    open: dict[tuple[NodeId, int], int] = field(
        default_factory=dict
    )  # places that a row lacks at least: nothing that it was granted is free again before its owner says so
    queueing: set[NodeId] = field(default_factory=set)  # workers with a queue

    def row(self, owner: NodeId, number: int) -> DemandRow | None:
        rows = self.demands.get(owner, (0, ()))[1]
        return next((row for row in rows if row.row == number), None)

    def open_count(self, owner: NodeId, row: DemandRow, since: float) -> int:
        """How many places the row may still be given: less what was granted and not counted in yet."""
        seen = self.demands[owner][0]
        coming = sum(
            part.count
            for given in self.given.get(owner, [])
            if given.grant.seq > seen and given.at > since
            for part in given.grant.rows
            if part.row == row.row
        )
        return row.count - coming

    def told(self, event: Event | Note, now: float, ttl_s: float) -> None:
        match event:
            case Received(message=Report() as report, sender=sender) if report.epoch == self.epoch:
                place = self.places.get(sender)
                if place is None or place.boot != report.boot:
                    place = self.places[sender] = Place(report.boot)
                place.slots = 0 if report.draining else report.slots
                place.queued = report.queued
                (self.queueing.add if report.queued else self.queueing.discard)(sender)
                place.reported = report.size or Size(report.running + report.queued)
                for _, grant, count in report.taken:
                    place.release(grant, count)
            case Received(message=Demand() as demand, sender=sender) if demand.epoch == self.epoch:
                for unused in demand.unused:
                    if unused.worker in self.places:
                        self.places[unused.worker].release(unused.seq, unused.count)
                seen = max(demand.seen, self.demands.get(sender, (0, ()))[0])
                self.demands[sender] = (seen, demand.rows)
                self.wait(sender, demand.rows, now)
                self._lacks(sender)
            case MemberChanged(node=node, status=status) if status >= Status.DOWN:
                self.forget(node)  # once the leader has heard it: what it granted at that very instant stands
            case _:
                pass
        self._expire(now - ttl_s * LEASE_MARGIN)

    def wait(self, owner: NodeId, rows: tuple[DemandRow, ...], now: float) -> None:
        for row in rows:
            key = (owner, row.row)
            self.since[key] = max(now - row.waited_s, self.since.get(key, float("-inf")))
        for key in [key for key in self.since if key[0] == owner and self.row(*key) is None]:
            del self.since[key]

    def _lacks(self, owner: NodeId) -> None:
        seen, rows = self.demands[owner]
        for key in [key for key in self.open if key[0] == owner]:
            del self.open[key]
        for row in rows:
            self.open[owner, row.row] = row.count
        for given in self.given.get(owner, ()):
            for part in given.grant.rows if given.grant.seq > seen else ():
                self.open[owner, part.row] = self.open.get((owner, part.row), 0) - part.count

    def idle(self, alive: set[NodeId]) -> bool:
        """Whether somebody has nothing to do."""
        return any(
            node in alive and not place.queued and place.load < place.slots
            for node, place in self.places.items()
        )

    def _expire(self, before: float) -> None:
        for lease in [lease for lease in self.leases if lease.at <= before]:
            for row in lease.grant.rows:
                if row.worker in self.places:
                    self.places[row.worker].outstanding.pop(lease.grant.seq, None)
        self.leases = [lease for lease in self.leases if lease.at > before]

    def gave(self, owner: NodeId, grant: Grant, now: float) -> None:
        for row in grant.rows:
            key = (owner, row.row)
            self.since_before[key] = self.since.get(key, now)
        self.leases.append(Given(now, grant))
        self.given[owner] = [
            given for given in self.given.get(owner, []) if given.grant.seq > self.demands[owner][0]
        ] + [Given(now, grant)]
        for row in grant.rows:
            self.since[owner, row.row] = now
            self.open[owner, row.row] = self.open.get((owner, row.row), 0) - row.count
            place = self.places.get(row.worker)
            if place is not None:
                place.outstanding[grant.seq] = place.outstanding.get(grant.seq, 0) + row.count
                wanted = self.row(owner, row.row)
                place.sizes[grant.seq] = wanted.needs.size if wanted is not None else ONE_SLOT

    def forget(self, node: NodeId) -> None:
        self.places.pop(node, None)
        self.queueing.discard(node)
        self.demands.pop(node, None)
        self.given.pop(node, None)
        for key in [key for key in self.open if key[0] == node]:
            del self.open[key]


def changed(book: Book | None, host: Host, effects: Sequence[Effect], now: float) -> Book | None:
    """The book after the notes of these effects: a new one for a new epoch of this node's own, none without."""
    settings = host.world.settings
    for effect in effects:
        match effect:
            case LeaderChanged(epoch=epoch):
                mine = epoch is not None and epoch.node == host.id
                if book is None or book.epoch != epoch:
                    book = Book(epoch) if mine and epoch is not None else None
            case TurnTaken(demands=demands, outstanding=outstanding) if book is not None:
                book.inherited_until = now + settings.gather_s if outstanding else float("-inf")
                for row in outstanding:
                    key = (row.worker, row.boot)
                    slots = row.count * (row.size or ONE_SLOT).slots
                    book.inherited[key] = book.inherited.get(key, 0) + slots
                for demand in demands:
                    if demand.owner not in book.demands:
                        book.demands[demand.owner] = (0, demand.rows)
                        book.wait(demand.owner, demand.rows, now)
                        book.open |= {(demand.owner, row.row): row.count for row in demand.rows}
            case _:
                pass
    return book


def grants(effects: Sequence[Effect]) -> list[tuple[NodeId, Grant]]:
    return [
        (effect.to, effect.message)
        for effect in effects
        if isinstance(effect, Send) and isinstance(effect.message, Grant)
    ]


def depth(row: DemandRow, settings: Settings) -> int:
    """To how many tasks a slot a class may fill a worker: DESIGN section 8, run-ahead; none of what is large."""
    if row.needs.size != ONE_SLOT:
        return 1
    if row.runtime_s < 0 or row.runtime_s > settings.ahead_runtime_s_max:
        return 1
    ahead = ceil(2 * settings.turnaround_s_min / max(row.runtime_s, 1e-6))
    return 1 + min(settings.ahead_per_slot_max, ahead)


class Leading(Inside):
    """Keeps a book for every leader: `led` is called at each of its steps, `granted` at those at which it grants.

    Who overrides `granted` enters the grants into the book (`Book.gave`), before its judgement or after it.
    """

    hears = (Report, Demand)
    says: ClassVar[tuple[type, ...] | None] = (Grant, LeaderChanged, TurnTaken, MemberChanged)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._books: dict[Host, tuple[int, Book]] = {}

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        now = clock(host)
        starts, book = self._books.get(host, (0, None))
        if starts != host.starts:
            book = None
        if book is not None:
            book.told(event, now, host.world.settings.grant_ttl_s)
        book = changed(book, host, effects, now)
        if book is None:
            self._books.pop(host, None)
        else:
            self._books[host] = (host.starts, book)
            self.led(host, book, effects, now)
        given = grants(effects)
        if given:
            self.granted(host, book, given, now)

    def led(self, host: Host, book: Book, effects: Sequence[Effect], now: float) -> None:
        """The leader has taken a step; its grants of this step are not in the book yet."""

    def granted(self, host: Host, book: Book | None, given: list[tuple[NodeId, Grant]], now: float) -> None:
        raise NotImplementedError
