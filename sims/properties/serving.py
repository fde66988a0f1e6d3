"""Who of those that wait gets a place, and what becomes of a place that nobody needs any more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Started, Store
from openclaw.ids import Epoch, NodeId
from openclaw.messages import Demand, DemandRow, Grant, Status
from openclaw.notes import LeaderChanged, Note
from openclaw.records import ONE_SLOT, Progress, State
from sims.properties.leading import Book, Leading, depth
from sims.properties.placing import refused
from sims.properties.views import PAUSE_S, Inside, Pause, Second, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

Waiting = tuple[NodeId, DemandRow]
Taken = tuple[NodeId, DemandRow, NodeId]
"""An owner, its row, and the worker on which it got a place."""

Flow = tuple[NodeId, str]
"""An owner, or one of its jobs."""

_SOON_S = 0.5


class ServedInTurn(Leading):
    name = "served in turn"
    sentence = (
        "Of what waits for a place that each of them could use the more urgent comes first; among equals no owner gets "
        "two while another gets none, nor does a job of one owner; and nothing runs ahead where one of them waits that "
        "may not. What has waited for too long is before all."
    )

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._in_a_row: dict[tuple[Host, Epoch], Counter[tuple[Flow, Flow]]] = {}

    def granted(self, host: Host, book: Book | None, given: list[tuple[NodeId, Grant]], now: float) -> None:
        if book is None:
            return
        settings = host.world.settings
        late = any(now - since >= settings.starve_s_max for since in book.since.values())
        for owner, grant in given:
            book.gave(owner, grant, now)
        if late or now <= book.inherited_until + settings.gather_s:
            self._in_a_row.pop((host, book.epoch), None)
            return
        waiting = [
            (owner, row)
            for (owner, number), count in book.open.items()
            if count > 0 and (row := book.row(owner, number)) is not None and row.needs.size == ONE_SLOT
        ]
        taken = self._taken(book, given)
        self._urgent_first(host, book, taken, waiting)
        self._nothing_ahead(host, book, taken, waiting)
        self._in_turn(host, book, taken, waiting, of_jobs=False)
        self._in_turn(host, book, taken, waiting, of_jobs=True)

    def _taken(self, book: Book, given: list[tuple[NodeId, Grant]]) -> list[Taken]:
        places = [(owner, book.row(owner, part.row), part) for owner, grant in given for part in grant.rows]
        return [
            (owner, row, part.worker)
            for owner, row, part in places
            if row is not None and part.worker in book.places
            for _ in range(part.count)
        ]

    def _urgent_first(self, host: Host, book: Book, taken: list[Taken], waiting: list[Waiting]) -> None:
        view = self._views.of(host)
        for owner, row, worker in taken:
            place = book.places[worker]
            if place.load > place.slots:
                continue  # it waits there: what is more urgent may not be allowed to
            for other, urgent in waiting:
                if urgent.priority > row.priority and not refused(urgent.needs, worker, other, view):
                    self.fail(
                        f"{host.name} grants {row} of {owner} a place on {worker} before {urgent} of {other}"
                    )

    def _nothing_ahead(self, host: Host, book: Book, taken: list[Taken], waiting: list[Waiting]) -> None:
        """Where something waits that may not run ahead, nothing does that is no more urgent."""
        view, settings = self._views.of(host), host.world.settings
        places = Counter(worker for _, _, worker in taken)
        for owner, row, worker in taken:
            place = book.places[worker]
            if place.load - places[worker] < place.slots:
                continue
            for other, want in waiting:
                patient = depth(want, settings) == 1 and want.priority >= row.priority
                if patient and not refused(want.needs, worker, other, view):
                    self.fail(
                        f"{host.name} lets {row} of {owner} run ahead on {worker}, where {want} of {other} waits"
                    )

    def _in_turn(
        self, host: Host, book: Book, taken: list[Taken], waiting: list[Waiting], *, of_jobs: bool
    ) -> None:
        """Whoever still waits got one, more urgent or not, for each that another got in its place."""

        def flow(owner: NodeId, row: DemandRow) -> Flow:
            return (owner, row.job) if of_jobs else (owner, "")

        got = Counter(flow(owner, row) for owner, row, _ in taken)
        in_a_row = self._in_a_row.setdefault((host, book.epoch), Counter())
        for key in [key for key in in_a_row if key[1] in got]:
            del in_a_row[key]
        for mine in sorted({flow(owner, row) for owner, row in waiting}):
            wants = [row for owner, row in waiting if flow(owner, row) == mine]
            passed = Counter(
                flow(owner, row)
                for owner, row, _ in taken
                if any(self._alike(host, row, want) for want in wants)
            )
            for theirs, count in passed.items():
                if theirs == mine or (of_jobs and theirs[0] != mine[0]):
                    continue
                in_a_row[theirs, mine] += max(0, count - got[mine])
                if in_a_row[theirs, mine] > 1:
                    self.fail(
                        f"{host.name} serves {theirs} {in_a_row[theirs, mine]} times in a row, and not {mine}"
                    )

    def _alike(self, host: Host, row: DemandRow, want: DemandRow) -> bool:
        """Whether any place for `row` would do for `want` as well, and neither comes first."""
        settings = host.world.settings
        same = (row.priority, row.needs) == (want.priority, want.needs)
        return same and depth(want, settings) >= depth(row, settings)


class UnusedGoesBack(Inside):
    name = "unused goes back"
    sentence = (
        "Of the places on a live worker that the leader granted an owner, those that found no task any more go "
        "straight back to it."
    )
    hears = (Started, Pause, Second, Grant, LeaderChanged)
    says = (Demand, LeaderChanged)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._leaders: dict[Host, Epoch | None] = {}
        self._owed: dict[Host, dict[tuple[int, NodeId], tuple[int, float]]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._leaders[host] = None
        if isinstance(event, Started) or self._views.gap_s(host) > PAUSE_S or self._views.of(host).stopping:
            self._owed[host] = {}
        super().handled(host, event, effects)
        for (seq, worker), (count, since) in self._owed[host].items():
            if clock(host) - since > _SOON_S:
                self.fail(
                    f"{host.name} keeps {count} places of grant {seq} on {worker}, and has no use for them"
                )

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        owed = self._owed.setdefault(host, {})
        match event:
            case LeaderChanged(epoch=epoch):
                self._leaders[host] = epoch
                owed.clear()
            case Received(message=Grant() as grant, sender=sender) if sender == grant.epoch.node:
                if grant.epoch == self._leaders.get(host) and host.node is not None:
                    self._granted(host, grant, effects)
            case _:
                pass
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Demand):
                for back in effect.message.unused:
                    count, since = owed.pop((back.seq, back.worker), (0, 0.0))
                    if count > back.count:
                        owed[back.seq, back.worker] = (count - back.count, since)

    def _granted(self, host: Host, grant: Grant, effects: Sequence[Effect]) -> None:
        if host.node is None or not host.node.owner.placing.ready:
            return  # whoever may not place anything keeps the leader off for as long as the lease lasts
        members = self._views.of(host).members
        granted: Counter[NodeId] = Counter()
        for row in grant.rows:
            known = members.get(row.worker)
            if row.worker == host.id or (known is not None and known.status is Status.ALIVE):
                granted[row.worker] += row.count
        for effect in effects:
            match effect:
                case Store(value=Progress(state=State.PLACED, worker=worker)):
                    granted[worker] -= 1
                case _:
                    pass
        owed, now = self._owed[host], clock(host)
        for worker, left in granted.items():
            if left > 0:
                count, since = owed.get((grant.seq, worker), (0, now))
                owed[grant.seq, worker] = (count + left, since)
