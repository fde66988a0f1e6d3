"""Coverage marks: what a campaign must have seen happen, or it proves nothing of it.

Each has a name and a sentence, and is recognised from outside, as the properties are: by events, effects, disks and
real processes, never by hooks in the core. `Marks` is a property that never fails; one for one world.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.ids import NO_EPOCH, Epoch, NodeId, TaskId, Token
from openclaw.messages import Holding, Status
from openclaw.records import Attempt, EpochRow, Progress, State
from sims.properties import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World

MARKS: Mapping[str, str] = {
    "suspicion refuted": "A member that was suspected spoke up with a higher incarnation.",
    "back from the dead": "A member that was held down came back with a higher incarnation.",
    "false death": "A member was held down while it ran.",
    "reached through another": "A ping got its answer over a third node.",
    "helper in vain": "A node that was asked to ping another had to say that it heard nothing.",
    "refused at the door": "A machine answered that nobody listens there.",
    "back soon": "A member stopped, and had said that it is back soon.",
    "hand-over": "A leader offered the next term, and the other took it.",
    "hand-over interrupted": "An offered term was not taken by the one to whom it was offered.",
    "offer refused": "A node would not take its turn.",
    "offered at a stop": "A leader that was stopped offered its term first.",
    "two leaders met": "A leader heard of a higher epoch and followed it.",
    "witness objected": "A candidate was told by a peer that there is a leader.",
    "elections crossed": "Two nodes stood for a term at once, and one yielded to the other.",
    "leader deposed by sleep": "A leader slept, and let the lead go as it woke.",
    "old epoch refused": "A worker was given a task under an older epoch than its own, and gave it back.",
    "former start refused": "A worker was given what was meant for a former start of it.",
    "placed without a leader": "An owner placed a task by itself while nobody led.",
    "grant unused": "An owner gave places back for which it had no task any more.",
    "drained": "A worker that was draining gave back what it was given.",
    "worker asked": "An owner asked a silent worker what became of a task.",
    "sworn off": "A worker swore that it has not started an attempt, and never will.",
    "lost track": "A worker could not say how an attempt of its own ended.",
    "orphaned": "An attempt ended with its executor, and its worker could say so.",
    "outlived its node": "A node started and found commands of its former start still running.",
    "retried elsewhere": "A task that a worker was lost with started again on another.",
    "duplicate": "A superseded attempt turned out to have run as well.",
    "adopted": "An attempt that was given up was found to run, and was taken back.",
    "outcome twice": "An outcome was delivered to its owner more than once.",
    "assignment twice": "An assignment was delivered to its worker more than once.",
    "retry": "A task failed and was tried again, as was asked for.",
    "--once lost": "A task that was submitted with --once ended lost.",
    "cancelled early": "A task was cancelled before it had a place.",
    "cancelled as it ran": "A worker ended what was cancelled.",
    "cancel met a final": "A task ended by itself while it was being cancelled.",
    "outputs late": "The outputs of a task could not be had at the first try.",
    "disk full refused an intake": "A submission came to a full disk, and was not promised.",
    "forgotten": "A task that was over was deleted.",
    "stored and not said": "A node ended between a commit and what was to follow it.",
}

SELDOM = frozenset({"former start refused", "drained", "adopted"})
"""Hit by fewer than five of the seeds 1 to 200: counted and shown, and nothing depends on it."""

REQUIRED: tuple[str, ...] = tuple(name for name in MARKS if name not in SELDOM)

_FULL = "ends: its disk is full"
_FUSED = "crashes between two effects"
Key = tuple[TaskId, Token]


class Marks(Property):
    """`hit` counts. Call `watch(world)` before the first host starts."""

    name = "marks"
    sentence = "What may happen happened."
    hears = (
        e.LinkDown, e.Submitted, e.ExecutorUp, e.Fetched, e.StopAsked, m.Assign, m.ElectAnswer, m.Elect,
    )  # fmt: skip
    says = (
        n.MemberChanged, n.LeaderChanged, n.Duplicate, n.Accepted, n.TaskMoved, n.Forgotten,
        m.Elect, m.Offer, m.OfferRefused, m.Demand, m.Returned, m.Ask, m.Have,
    )  # fmt: skip

    def __init__(self) -> None:
        self.hit: Counter[str] = Counter()
        self._members: dict[tuple[str, int, NodeId], tuple[Status, int]] = {}
        self._leaders: dict[tuple[str, int], Epoch | None] = {}
        self._offers: dict[int, NodeId] = {}
        self._standing: dict[tuple[str, int], int] = {}
        self._intake: dict[str, set[TaskId]] = {}
        self._committed: dict[str, float] = {}
        self._turns: set[int] = set()
        self._stopping: set[tuple[str, int]] = set()
        self._old: set[tuple[str, Key]] = set()
        self._delivered: set[tuple[str, type, Key]] = set()
        self._ran: dict[TaskId, Start] = {}

    def watch(self, world: World) -> None:
        world.trace.observers.append(self._observed)

    def _observed(self, at: float, who: str, what: object) -> None:
        """What a machine's own end says: only the world's marks tell of it."""
        if not isinstance(what, str):
            if not isinstance(what, e.Store):
                self._committed.pop(who, None)
            return
        if what == _FULL:
            self.hit["disk full refused an intake"] += bool(self._intake.pop(who, None))
        elif what.startswith(_FUSED):
            self.hit["stored and not said"] += self._committed.get(who) == at
            self._intake.pop(who, None)

    # --- what comes in ---------------------------------------------------------------------------

    def delivered(self, host: Host, sender: NodeId, message: m.AnyMessage) -> None:  # noqa: ARG002
        match message:
            case m.Outcomes(items=outcomes):
                self._again("outcome twice", host, m.Outcomes, [(one.task, one.token) for one in outcomes])
            case m.Assign(items=items, boot=boot):
                self._again("assignment twice", host, m.Assign, [(one.task, one.token) for one in items])
                self.hit["former start refused"] += host.node is not None and boot != host.node.boot
            case m.Ack(target=target) if target:
                self.hit["reached through another"] += 1
            case m.Nack():
                self.hit["helper in vain"] += 1
            case _:
                pass

    def _again(self, mark: str, host: Host, kind: type, keys: Sequence[Key]) -> None:
        for key in keys:
            self.hit[mark] += (host.name, kind, key) in self._delivered
            self._delivered.add((host.name, kind, key))

    def handled(self, host: Host, event: e.Event, effects: Sequence[e.Effect]) -> None:
        match event:
            case e.LinkDown(refused=True):
                self.hit["refused at the door"] += 1
            case e.Submitted(tasks=tasks):
                self._intake.setdefault(host.name, set()).update(one.task for one in tasks)
            case e.ExecutorUp(held=held):
                self.hit["outlived its node"] += any(one.exit is None for one in held)
            case e.Fetched(ok=False):
                self.hit["outputs late"] += 1
            case e.StopAsked():
                self._stopping.add((host.name, host.starts))
            case e.Received(message=message):
                self._received(host, message)
            case _:
                pass
        for effect in effects:
            match effect:
                case n.MemberChanged():
                    self._member(host, effect)
                case n.LeaderChanged(epoch=epoch):
                    self._leader(host, event, epoch)
                case n.Duplicate():
                    self.hit["duplicate"] += 1
                case _:
                    pass

    def _received(self, host: Host, message: m.AnyMessage) -> None:
        match message:
            case m.Assign(epoch=epoch, items=items, boot=boot) if epoch < host.disk.epoch:
                if host.node is not None and boot == host.node.boot and not host.meta.draining:
                    self._old.update((host.name, (item.task, item.token)) for item in items)
            case m.ElectAnswer(leader=leader) if leader != NO_EPOCH:
                self.hit["witness objected"] += self._follows(host) is None
            case m.Elect(term) if self._standing.get((host.name, host.starts)) == term:
                self.hit["elections crossed"] += 1
            case _:
                pass

    def _follows(self, host: Host) -> Epoch | None:
        return self._leaders.get((host.name, host.starts))

    # --- who lives, who leads --------------------------------------------------------------------

    def _member(self, host: Host, note: n.MemberChanged) -> None:
        key = (host.name, host.starts, note.node)
        status, counter = self._members.get(key, (Status.ALIVE, 0))
        self._members[key] = note.status, note.incarnation.counter
        if note.status is Status.ALIVE and note.incarnation.counter > counter:
            self.hit["suspicion refuted"] += status is Status.SUSPECT
            self.hit["back from the dead"] += status is Status.DOWN
        if note.status is Status.DOWN and note.node in host.world.hosts:
            self.hit["false death"] += host.world.hosts[note.node].awake
        self.hit["back soon"] += note.back_soon

    def _leader(self, host: Host, event: e.Event, epoch: Epoch | None) -> None:
        before = self._follows(host)
        self._leaders[host.name, host.starts] = epoch
        self._standing.pop((host.name, host.starts), None)
        led = before is not None and before.node == host.id
        if epoch is None:
            self.hit["leader deposed by sleep"] += led
        elif epoch.node != host.id:
            self.hit["two leaders met"] += led and epoch.term not in self._turns
        elif isinstance(event, e.Received) and isinstance(event.message, m.Offer):
            self.hit["hand-over"] += 1
            self._turns.add(epoch.term)

    # --- what is stored, said and started --------------------------------------------------------

    def committing(self, host: Host, stores: Sequence[e.Store]) -> None:
        self._committed[host.name] = host.world.now
        for store in stores:
            match store.value:
                case Progress() as row:
                    self._moved(host, host.disk.progress(row.task), row)
                case Attempt(exit=exit) if exit is not None and exit.ended_by == "orphaned":
                    self.hit["orphaned"] += 1
                case EpochRow(epoch) if epoch.node == host.id:
                    self.hit["hand-over interrupted"] += self._offers.pop(epoch.term, host.id) != host.id
                    for term in [term for term in self._offers if term < epoch.term]:
                        del self._offers[term]
                        self.hit["hand-over interrupted"] += 1
                case _:
                    pass

    def _moved(self, host: Host, old: Progress | None, new: Progress) -> None:
        was = None if old is None else old.state
        match was, new.state:
            case State.RETRYING, State.QUEUED:
                self.hit["retry"] += 1
            case ((State.QUEUED | State.RETRYING), State.CANCELLED):
                self.hit["cancelled early"] += 1
            case State.CANCELLING, State.CANCELLED:
                self.hit["cancelled as it ran"] += new.exit is not None
            case State.CANCELLING, to if to.final:
                self.hit["cancel met a final"] += 1
            case ((State.QUEUED | State.RETRYING), State.RUNNING):
                self.hit["adopted"] += 1
            case _, State.LOST if was is not State.LOST:
                submission = host.disk.submission(new.task)
                self.hit["--once lost"] += submission is not None and submission.once
            case _:
                pass

    def performed(self, host: Host, effect: e.Effect) -> None:
        match effect:
            case e.Send(to=to, message=message):
                self._sent(host, to, message)
            case n.Accepted():
                self._intake.pop(host.name, None)
            case n.TaskMoved(state=State.PLACED, reason="leaderless"):
                self.hit["placed without a leader"] += 1
            case n.Forgotten(tasks=tasks):
                self.hit["forgotten"] += len(tasks)
            case _:
                pass

    def _sent(self, host: Host, to: NodeId, message: m.AnyMessage) -> None:
        match message:
            case m.Elect(term):
                self._standing[host.name, host.starts] = term
            case m.Offer(term=term):
                self._offers[term] = to
                self.hit["offered at a stop"] += (host.name, host.starts) in self._stopping
            case m.OfferRefused():
                self.hit["offer refused"] += 1
            case m.Demand(unused=unused):
                self.hit["grant unused"] += bool(unused)
            case m.Returned(items=items):
                self.hit["drained"] += host.meta.draining
                given_back = {(host.name, (one.task, one.token)) for one in items}
                self.hit["old epoch refused"] += len(given_back & self._old)
                self._old -= given_back
            case m.Ask():
                self.hit["worker asked"] += 1
            case m.Have(items=rows):
                self.hit["sworn off"] += any(holding is Holding.NOT_STARTED for _, _, holding in rows)
                self.hit["lost track"] += any(holding is Holding.MAYBE_STARTED for _, _, holding in rows)
            case _:
                pass

    def started(self, host: Host, start: Start) -> None:
        before = self._ran.get(start.task)
        self._ran[start.task] = start
        row = host.world.owner_host(start.task).disk.progress(start.task)
        if before is not None and before.host != start.host and row is not None and not row.failures:
            self.hit["retried elsewhere"] += 1
