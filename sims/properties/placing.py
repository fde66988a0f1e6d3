"""What the least-tasks scheduler promises: who grants, to whom, how many, and how an owner uses a grant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.config import Settings
from openclaw.effects import Effect, Event, Received, Send, Started, Store
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.messages import (
    Assign,
    Demand,
    DemandRow,
    Grant,
    Offer,
    Probe,
    Recall,
    Report,
    Returned,
    Room,
    Status,
)
from openclaw.notes import LeaderChanged, LoadChanged, MemberChanged, Note, TaskMoved, TurnTaken
from openclaw.records import ONE_SLOT, Kind, Meta, Needs, Policy, Progress, State, Table
from sims.properties.leading import Book, Leading, Place, depth
from sims.properties.tasks import placed_anew
from sims.properties.views import Inside, View, Views, enrolled

if TYPE_CHECKING:
    from sims.host import Host

_HAIR = 1e-9
RECALL_SLACK_S = 2.0
_CAPABILITY = {Kind.COMMAND: "shell", Kind.SKILL: "skill", Kind.HANDLER: "skill"}


def refused(needs: Needs, worker: NodeId, owner: NodeId, view: View) -> str:
    """Why this worker may not run that owner's tasks, as far as this node knows; empty when it may."""
    meta, submitter = view.metas.get(worker), view.roster.get(owner)
    if submitter is None or submitter.revoked or _CAPABILITY[needs.kind] not in submitter.capabilities:
        return f"{owner} may not submit it"
    if not enrolled(view.roster, worker):
        return f"{worker} is not a member"
    if meta is None or meta.draining or meta.policy is Policy.NONE:
        return f"{worker} takes nothing"
    if meta.policy is Policy.SKILLS and needs.kind is Kind.COMMAND:
        return f"{worker} runs no commands"
    if needs.node and needs.node != worker:
        return "it is for another node"
    if needs.cpus > meta.slots or needs.memory_bytes > meta.memory_bytes or needs.gpus > meta.gpus:
        return f"{worker} is too small"
    have = {
        name
        for skill in meta.skills
        if skill.eligible
        for name in (skill.name, f"{skill.name}@{skill.tree[:16]}")
    }
    if not set(needs.labels) <= set(meta.labels) or not set(needs.skills) <= have:
        return f"{worker} lacks what it needs"
    return ""


def _fits(needs: Needs, seat: Place, meta: Meta) -> bool:
    """Whether what is large would have had room there as well; what is not has, where there are fewer tasks."""
    size, taken = needs.size, seat.taken
    return size == ONE_SLOT or (
        taken.slots + size.slots <= seat.slots
        and taken.memory_bytes + size.memory_bytes <= meta.memory_bytes
        and taken.gpus + size.gpus <= meta.gpus
    )


class GrantsAreTheLeaders(Leading):
    name = "grants"
    sentence = (
        "Places are granted by the leader that the node itself follows, for what was asked of it, on members that live "
        "and have reported to it, to the fewest tasks a slot by its own count, and never past slots and run-ahead. Who "
        "has had none for too long is first, and while one has a free slot others are asked for some of what waits."
    )
    says = (Grant, Offer, LeaderChanged, TurnTaken, MemberChanged, Recall)

    def led(self, host: Host, book: Book, effects: Sequence[Effect], now: float) -> None:
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, Offer):
                self._hands_over(host, book, effect.message)
        self._evens_out(host, book, effects, now)

    def granted(self, host: Host, book: Book | None, given: list[tuple[NodeId, Grant]], now: float) -> None:
        if book is None:
            self.fail(f"{host.name} grants {given}, and does not lead")
        else:
            self._judge(host, book, given, now)

    def _hands_over(self, host: Host, book: Book, offer: Offer) -> None:
        """A successor that does not know what is on its way fills the same workers again."""
        told = Counter({(row.worker, row.boot): 0 for row in offer.outstanding})
        for row in offer.outstanding:
            told[row.worker, row.boot] += row.count
        mine = {lease.grant.seq for lease in book.leases}
        for worker, place in book.places.items():
            coming = sum(count for seq, count in place.outstanding.items() if seq in mine)
            if (
                coming > told[worker, place.boot]
                and len(offer.outstanding) < host.world.settings.demand_rows_max
            ):
                self.fail(f"{host.name} hands over {told[worker, place.boot]} of {coming} grants on {worker}")

    def _judge(self, host: Host, book: Book, given: list[tuple[NodeId, Grant]], now: float) -> None:
        view, settings = self._views.of(host), host.world.settings
        for owner, grant in given:
            if grant.epoch != book.epoch:
                self.fail(f"{host.name} grants under {grant.epoch}, and leads under {book.epoch}")
            for part in grant.rows:
                row = book.row(owner, part.row)
                place = book.places.get(part.worker)
                if row is None or place is None or place.boot != part.boot:
                    self.fail(f"{host.name} grants {part}: not asked for, or {part.worker} has not reported")
                    return
                known = view.members.get(part.worker)
                if part.worker != host.id and (known is None or known.status is not Status.ALIVE):
                    self.fail(f"{host.name} grants places on {part.worker}, which is not alive")
                why = refused(row.needs, part.worker, owner, view)
                if why:
                    self.fail(f"{host.name} grants {part} to {owner}, but {why}")
        self._count(host, book, given, now - settings.grant_ttl_s)
        starved = self._starved(host, book, given, now)
        for owner, grant in given:
            book.gave(owner, grant, now)
        for owner, row in starved:
            self._relieved(host, book, given, owner, row)
        if now > book.inherited_until + settings.gather_s and not starved:
            self._fewest(host, book, given, view)
        if now < book.inherited_until:
            self._counted_in(host, book, given)

    def _counted_in(self, host: Host, book: Book, given: list[tuple[NodeId, Grant]]) -> None:
        """What a predecessor granted is as good as there, until it must have come."""
        settings = host.world.settings
        for owner, grant in given:
            for part in grant.rows:
                row, place = book.row(owner, part.row), book.places[part.worker]
                inherited = book.inherited.get((part.worker, part.boot), 0)
                if row is not None and place.load + inherited > self._deepest(
                    book, given, part.worker, settings
                ):
                    self.fail(
                        f"{host.name} grants {part}: {place.load} there, and {inherited} by its predecessor"
                    )

    def _deepest(
        self, book: Book, given: list[tuple[NodeId, Grant]], worker: NodeId, settings: Settings
    ) -> int:
        rows = [
            book.row(owner, part.row)
            for owner, grant in given
            for part in grant.rows
            if part.worker == worker
        ]
        return max(depth(row, settings) for row in rows if row is not None) * book.places[worker].slots

    def _starved(
        self, host: Host, book: Book, given: list[tuple[NodeId, Grant]], now: float
    ) -> list[tuple[NodeId, DemandRow]]:
        """What has had no place for too long, and gets none now either."""
        settings = host.world.settings
        served = {(owner, part.row) for owner, grant in given for part in grant.rows}
        late = [key for key, since in book.since.items() if now - since >= settings.starve_s_max]
        rows = [(owner, book.row(owner, number)) for owner, number in late if (owner, number) not in served]
        ever = float("-inf")  # who was given all that it asked for lacks nothing, until it asks again
        return [(owner, row) for owner, row in rows if row and book.open_count(owner, row, ever) > 0]

    def _relieved(
        self, host: Host, book: Book, given: list[tuple[NodeId, Grant]], owner: NodeId, row: DemandRow
    ) -> None:
        """No free slot went to anybody else while `row` had to wait for one."""
        view = self._views.of(host)
        for other, grant in given:
            for part in grant.rows:
                place, theirs = book.places[part.worker], book.row(other, part.row)
                free = place.load <= place.slots and row.needs.size == ONE_SLOT
                if theirs is None or not free or refused(row.needs, part.worker, owner, view):
                    continue
                if book.since_before.get((other, part.row), 0.0) > book.since[owner, row.row]:
                    self.fail(f"{host.name} grants {part} to {other} while {row} of {owner} starves")

    def _alive(self, host: Host) -> set[NodeId]:
        members = self._views.of(host).members
        return {node for node, known in members.items() if known.status is Status.ALIVE} | {host.id}

    def _evens_out(self, host: Host, book: Book, effects: Sequence[Effect], now: float) -> None:
        asked = any(isinstance(effect, Send) and isinstance(effect.message, Recall) for effect in effects)
        slept = self._views.gap_s(host) > 1.0
        if asked or slept or not book.queueing or not book.idle(self._alive(host)):
            book.uneven_since = None
        elif book.uneven_since is None:
            book.uneven_since = now
        elif now - book.uneven_since > host.world.settings.recall_s_max + RECALL_SLACK_S:
            self.fail(f"{host.name} lets work wait since {book.uneven_since}: {book.places}")

    def _count(self, host: Host, book: Book, given: list[tuple[NodeId, Grant]], since: float) -> None:
        new = Counter(
            (owner, part.row) for owner, grant in given for part in grant.rows for _ in range(part.count)
        )
        for (owner, number), count in new.items():
            row = book.row(owner, number)
            if row is not None and count > book.open_count(owner, row, since):
                self.fail(f"{host.name} grants {count} places more for {row} of {owner}")

    def _fewest(self, host: Host, book: Book, given: list[tuple[NodeId, Grant]], view: View) -> None:
        """The last place granted on a worker was on one with the fewest tasks a slot, and was allowed."""
        settings = host.world.settings
        classes: dict[NodeId, set[Needs]] = {}
        depths: dict[NodeId, int] = {}
        owners: dict[Needs, NodeId] = {}
        for owner, grant in given:
            for part in grant.rows:
                row = book.row(owner, part.row)
                if row is not None:
                    classes.setdefault(part.worker, set()).add(row.needs)
                    depths[part.worker] = max(depths.get(part.worker, 0), depth(row, settings))
                    owners[row.needs] = owner
        for worker, needs in classes.items():
            place = book.places[worker]
            if place.load > depths[worker] * place.slots:
                self.fail(f"{host.name} fills {worker} beyond {depths[worker]} a slot: {place}")
            taken, whole = place.taken, view.metas[worker]
            if any(n.memory_bytes for n in needs) and taken.memory_bytes > whole.memory_bytes:
                self.fail(f"{host.name} grants {taken.size} on {worker}, which has {whole.size}")
            if any(n.gpus for n in needs) and taken.gpus > whole.gpus:
                self.fail(f"{host.name} grants {taken.size} on {worker}, which has {whole.size}")
            if len(needs) > 1:
                continue
            (only,) = needs
            before = (place.load - only.size.slots) / max(place.slots, _HAIR)
            for other, seat in book.places.items():
                known = view.members.get(other)
                able = seat.slots and (other == host.id or (known and known.status is Status.ALIVE))
                if not able or refused(only, other, owners[only], view):
                    continue
                if seat.load / seat.slots < before - _HAIR and _fits(only, seat, view.metas[other]):
                    self.fail(f"{host.name} grants {worker} ({place.load}) while {other} has {seat.load}")


class GrantsAreUsedOnce(Inside):
    name = "grants are used once"
    sentence = (
        "An owner uses each place once that no older leader granted it, or that it probed while it had none; and "
        "nothing is placed on who is not alive."
    )
    hears = (Grant, Room, LeaderChanged)
    says = (Store, TaskMoved, Probe, Assign)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._left: dict[tuple[Host, Epoch, int, NodeId, str], int] = {}
        self._room: dict[tuple[Host, NodeId], int] = {}
        self._leaders: dict[tuple[Host, int], Epoch | None] = {}
        self._judged: set[tuple[TaskId, Token | None]] = set()  # what was written once is written again

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        view = self._views.of(host)
        match event:
            case Received(message=Grant() as grant, sender=sender) if sender == grant.epoch.node:
                for row in grant.rows:
                    key = (host, grant.epoch, grant.seq, row.worker, row.boot)
                    self._left[key] = self._left.get(key, 0) + row.count
            case Received(message=Room(free=free), sender=sender):
                self._room[host, sender] = free
            case LeaderChanged(epoch=epoch):
                self._leaders[host, host.starts] = epoch
            case _:
                pass
        for effect in effects:
            match effect:
                case Store(value=Progress(state=State.PLACED) as progress) if placed_anew(
                    host.disk.progress(progress.task), progress
                ):
                    self._placed(host, progress, view)
                case TaskMoved(state=State.PLACED, reason="leaderless", worker=worker):
                    self._probed(host, worker)
                case Send(message=Probe()) if self._leaders.get((host, host.starts)) is not None:
                    self.fail(f"{host.name} probes, and follows a leader")
                case Send(to=to, message=Assign() as assign) if assign.grant:
                    self._use(host, to, assign)
                case _:
                    pass

    def _placed(self, host: Host, row: Progress, view: View) -> None:
        if (row.task, row.token) in self._judged:
            return
        self._judged.add((row.task, row.token))
        known = view.members.get(row.worker)
        if row.worker != host.id and (known is None or known.status is not Status.ALIVE):
            self.fail(
                f"{host.name} places {row.task} on {row.worker}, which is {known and known.status.name}"
            )
        if not view.settled:
            self.fail(f"{host.name} places {row.task} before it is settled")
        if row.epoch < view.followed:
            self.fail(f"{host.name} places {row.task} under {row.epoch} after {view.followed}")

    def _probed(self, host: Host, worker: NodeId) -> None:
        leader, left = self._leaders.get((host, host.starts)), self._room.get((host, worker), 0)
        if leader is not None or not left:
            self.fail(f"{host.name} places a task on {worker} by itself; leader {leader}, room {left}")
        self._room[host, worker] = left - 1

    def _use(self, host: Host, to: NodeId, assign: Assign) -> None:
        key = (host, assign.epoch, assign.grant, to, assign.boot)
        left = self._left.get(key, 0) - len(assign.items)
        if left < 0:
            self.fail(f"{host.name} uses {-left} places more than it was granted on {to}: {assign.grant}")
        self._left[key] = left


class TakenBackWhenAsked(Inside):
    name = "taken back when asked"
    sentence = "A worker gives back what it would start later only when the leader asks, and no more than it asks for."
    hears = (Recall,)
    says = (Returned,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._asked: Counter[tuple[Host, int]] = Counter()

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        key = (host, host.starts)
        match event:
            case Received(message=Recall() as recall, sender=sender) if sender == recall.epoch.node:
                if recall.epoch >= self._views.of(host).followed:
                    self._asked[key] += recall.count
            case _:
                pass
        for effect in effects:
            match effect:
                case Send(message=Returned(items=items)):
                    self._asked[key] -= sum(item.taken_back for item in items)
                    if self._asked[key] < 0:
                        self.fail(f"{host.name} gives back {items}, and was not asked for so many")
                case _:
                    pass


class DemandIsTrue(Inside):
    name = "demand"
    sentence = (
        "An owner tells its leader all that waits undoubted, and which of its grants it has seen; a worker how full it "
        "is and what it took."
    )
    hears = (Started, Assign, Grant, LeaderChanged)
    says = (Store, LoadChanged, Demand, Report)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._states: dict[Host, dict[str, State]] = {}
        self._took: dict[Host, Counter[tuple[NodeId, int]]] = {}
        self._loads: dict[Host, LoadChanged] = {}
        self._leaders: dict[Host, Epoch | None] = {}
        self._seen: dict[Host, int] = {}  # the last grant that this leader sent
        self._starts: dict[Host, int] = {}

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        if self._starts.get(host) != host.starts:
            self._begin(host)
        took = self._took[host]
        match event:
            case Received(message=Assign() as assign, sender=sender):
                if assign.grant and assign.epoch == self._leaders[host]:
                    took[sender, assign.grant] += len(assign.items)
            case Received(message=Grant() as grant) if grant.epoch == self._leaders[host]:
                self._seen[host] = max(grant.seq, self._seen[host])
            case LeaderChanged(epoch=epoch):
                self._leaders[host] = epoch
                self._seen[host] = 0
                took.clear()
            case _:
                pass
        for effect in effects:
            match effect:
                case Store(value=Progress() as row):
                    self._states[host][row.task] = row.state
                case Store(table=Table.PROGRESS, key=key, value=None):
                    self._states[host].pop(key, None)
                case LoadChanged():
                    self._loads[host] = effect
                case Send(to=to, message=(Demand() | Report()) as message):
                    self._told(host, to, message)
                case _:
                    pass

    def _begin(self, host: Host) -> None:
        self._starts[host] = host.starts
        self._states[host] = {row.task: row.state for row in host.disk.restored().progress}
        self._took[host] = Counter()
        self._loads[host] = LoadChanged(0, 0)
        self._leaders[host] = None
        self._seen[host] = 0

    def _told(self, host: Host, to: NodeId, message: Demand | Report) -> None:
        leader = self._leaders[host]
        if leader is None or to != leader.node or message.epoch != leader:
            self.fail(f"{host.name} tells {to} under {message.epoch}, and follows {leader}")
        if isinstance(message, Demand):
            self._demanded(host, message)
        else:
            self._reported(host, message)

    def _demanded(self, host: Host, demand: Demand) -> None:
        if demand.seen > self._seen[host]:
            self.fail(
                f"{host.name} says that it has seen grant {demand.seen}, and was sent {self._seen[host]}"
            )
        waits = sum(state is State.QUEUED for state in self._states[host].values())
        told = sum(row.count for row in demand.rows)
        whole = len(demand.rows) < host.world.settings.demand_rows_max
        owner = host.node.owner if host.node is not None else None
        doubtful = sum(entry.sought for entry in owner.ledger.tasks.values()) if owner is not None else 0
        if told > waits or (whole and told < waits - doubtful):
            self.fail(f"{host.name} asks for {told} places while {waits} tasks wait")

    def _reported(self, host: Host, report: Report) -> None:
        load, took = self._loads[host], self._took[host]
        if (report.running, report.queued) != (load.running, load.queued):
            self.fail(f"{host.name} reports {report.running} and {report.queued}, and has {load}")
        if report.taken or took:
            said = Counter({(owner, grant): count for owner, grant, count in report.taken})
            if said != took:
                self.fail(f"{host.name} reports to have taken {dict(said)}, and took {dict(took)}")
            took.clear()
