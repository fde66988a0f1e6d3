"""A mesh of owners, workers and one leader in memory: the same machines, a clock that the test moves.

Messages arrive in order; a batch is handled, its stores land on the node's disk, then its other effects happen.
Tests pull any cable (`cut`), crash and restart nodes, and read what started from `starts`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.guardian import Guardian
from openclaw.exec.leader import Leader
from openclaw.exec.owner import Owner
from openclaw.exec.worker import Worker
from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId, TaskId, Token, mint_task_id
from openclaw.records import (
    Attempt,
    Batch,
    Copy,
    Counts,
    Exit,
    Held,
    Kind,
    Member,
    Meta,
    Needs,
    Number,
    Progress,
    Record,
    Restored,
    State,
    Submission,
    Table,
)

BETWEEN = (n.TakeOver, n.Yielded, n.Replaced, n.Contested, n.EndedElsewhere)
EVERYTHING = frozenset({"observe", "skill", "shell", "admin"})
WALL_OFFSET_S = 1_000_000.0
HAND_BACK_S = 0.1  # so long may a run wait in an executor


def node_id(number: int) -> NodeId:
    return NodeId(f"node{number:012d}")


def submission(owner: NodeId, sequence: int, **fields: object) -> Submission:
    task = mint_task_id(owner, "boot", sequence)
    base: dict[str, object] = {
        "needs": Needs(kind=Kind.COMMAND),
        "payload": b"true",
        "batch": Batch(b"signature", b"leaves"),
        "leaf": 0,
        "submitted": 0.0,
    }
    return Submission(task=task, **(base | fields))  # type: ignore[arg-type]


@dataclass
class Node:
    me: NodeId
    boot: str
    owner: Owner
    worker: Worker
    leader: Leader
    guardian: Guardian
    disk: dict[tuple[Table, str], Record] = field(default_factory=dict)
    process: dict[tuple[TaskId, Token], Exit | None] = field(default_factory=dict)  # in the executor
    slots: dict[tuple[TaskId, Token], int] = field(default_factory=dict)  # that what is in the executor takes
    queue: dict[tuple[TaskId, Token], float] = field(default_factory=dict)  # there, and since when it waits
    inbox: deque[e.Event | n.Note] = field(default_factory=deque)
    notes: list[e.Effect] = field(default_factory=list)
    up: bool = True
    restarts: int = 0


class Mesh:
    def __init__(
        self,
        count: int = 3,
        *,
        slots: int = 2,
        settings: Settings | None = None,
        seed: int = 1,
        lead: int = 0,
    ) -> None:
        self.settings = settings or Settings()
        self.seed = seed
        self.slots = slots
        self.now = 100.0
        self.cuts: set[frozenset[NodeId]] = set()
        self.starts: list[tuple[TaskId, Token, NodeId]] = []
        self.sent: list[tuple[NodeId, e.Send]] = []
        self.lost: set[type[m.Message]] = set()  # kinds of messages that get lost
        self.ids = [node_id(i) for i in range(count)]
        self.members = {n: Member(n, f"n{i}", EVERYTHING) for i, n in enumerate(self.ids)}
        self.fuses: dict[NodeId, int] = {}  # crash within the next batch, after so many effects
        self._numbers = itertools.count(1)
        self.epoch: Epoch | None = None
        self.nodes = {n: self._node(n, "boot0", Restored()) for n in self.ids}
        for node in self.nodes.values():
            self._begin(node)
        if lead >= 0:
            self.elect(lead)
        self.run()

    # --- nodes -----------------------------------------------------------------------------------

    def _node(self, me: NodeId, boot: str, restored: Restored) -> Node:
        def rng(stream: str) -> Random:
            return Random(f"{self.seed}:{me}:{boot}:{stream}")

        owner = Owner(me, boot, self.settings, rng("owner"), restored)
        guardian = Guardian(me, self.settings, restored, owner)
        owner.copy_of = guardian.copy
        worker = Worker(me, boot, self.settings, rng("worker"), restored)
        return Node(me, boot, owner, worker, Leader(me, self.settings, rng("leader")), guardian)

    def _begin(self, node: Node) -> None:
        node.inbox.append(e.Started(self.meta(node.me), WALL_OFFSET_S))
        node.inbox.append(e.RosterChanged(self.members, b""))
        node.inbox.append(n.IncarnationRaised(Incarnation(node.restarts + 1, node.boot)))
        for other in self.nodes_up() if hasattr(self, "nodes") else []:
            if other.me != node.me:
                self._introduce(node, other)
                self._introduce(other, node)
        held = tuple(Held(*key, node.process.get(key)) for key in (*node.process, *node.queue))
        node.inbox.append(e.ExecutorUp(held))
        node.inbox.append(n.Settled())
        if self.epoch is not None:
            node.inbox.append(n.LeaderChanged(self.epoch))

    def _introduce(self, node: Node, other: Node) -> None:
        incarnation = Incarnation(other.restarts + 1, other.boot)
        node.inbox.append(n.MetaLearned(other.me, 1, self.meta(other.me)))
        node.inbox.append(n.MemberChanged(other.me, m.Status.ALIVE, incarnation))

    def meta(self, node: NodeId) -> Meta:
        return Meta(name=self.members[node].name, slots=self.slots)

    def nodes_up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.up]

    def __getitem__(self, number: int) -> Node:
        return self.nodes[self.ids[number]]

    def elect(self, number: int | None) -> None:
        term = (self.epoch.term if self.epoch else 0) + 1
        epoch = None if number is None else Epoch(term, self.ids[number])
        self.epoch = epoch or self.epoch
        self.give_all(n.LeaderChanged(epoch))

    def crash(self, number: int, *, executor: bool = False, noticed: bool = True) -> None:
        """Power off; `executor` takes the running commands along."""
        node = self[number]
        node.up = False
        node.inbox.clear()
        if executor:
            node.process.clear()
            node.queue.clear()
        if noticed:
            self.tell_status(number, m.Status.DOWN)

    def tell_status(self, number: int, status: m.Status, *, back_soon: bool = False) -> None:
        node = self[number]
        incarnation = Incarnation(node.restarts + 1, node.boot)
        for other in self.nodes_up():
            if other.me != node.me:
                other.inbox.append(n.MemberChanged(node.me, status, incarnation, back_soon))

    def restart(self, number: int) -> None:
        """Start again from what is on disk; the executor still holds what it held."""
        old = self[number]
        boot = f"boot{old.restarts + 1}"
        node = self._node(old.me, boot, restored(old.disk))
        node.disk, node.process, node.restarts = old.disk, old.process, old.restarts + 1
        node.slots, node.queue = old.slots, old.queue
        self.nodes[old.me] = node
        self._begin(node)

    # --- the world -------------------------------------------------------------------------------

    def give(self, number: int, *events: e.Event | n.Note) -> None:
        self[number].inbox.extend(events)

    def give_all(self, *events: e.Event | n.Note) -> None:
        for node in self.nodes_up():
            node.inbox.extend(events)

    def cut(self, a: int, b: int) -> None:
        self.cuts.add(frozenset({self.ids[a], self.ids[b]}))

    def mend(self) -> None:
        self.cuts.clear()

    def submit(self, number: int, count: int = 1, **fields: object) -> list[TaskId]:
        node = self[number]
        tasks = tuple(submission(node.me, next(self._numbers), **fields) for _ in range(count))
        self.give(number, e.Submitted(tasks))
        self.run()
        return [task.task for task in tasks]

    def run(self) -> None:
        """Until nothing more happens at this instant."""
        for _ in range(10_000):
            busy = False
            for node in self.nodes_up():
                busy = self._hand_back(node) or self._batch(node) or busy
            if not busy:
                return
        raise AssertionError("livelock")

    def advance(self, seconds: float) -> None:
        """Move the clock, stopping at every deadline on the way."""
        until = self.now + seconds
        self.run()
        for _ in range(100_000):
            due = [d for node in self.nodes_up() for d in self._deadlines(node) if d <= until]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.run()
        else:
            raise AssertionError("the clock does not move")
        self.now = until
        self.run()

    def _deadlines(self, node: Node) -> list[float]:
        machines = (node.owner, node.worker, node.leader, node.guardian)
        waiting = [since + HAND_BACK_S for since in node.queue.values()]
        return waiting + [d for machine in machines if (d := machine.next_deadline()) is not None]

    def _batch(self, node: Node) -> bool:
        machines = (node.owner, node.worker, node.leader, node.guardian)
        effects: list[e.Effect] = []
        events = 0
        while node.inbox:
            event = node.inbox.popleft()
            events += 1
            effects += self._offer(node, machines, event)
        for machine in machines:
            due = machine.next_deadline()
            if due is not None and due <= self.now:
                events += 1
                effects += self._offer(node, (machine,), e.Tick())
        fuse = self.fuses.pop(node.me, None) if effects else None
        if fuse == 0:  # before the commit: only what may leave early has left
            early = [x for x in effects if isinstance(x, e.Send) and isinstance(x.message, m.EARLY)]
            for effect in early:
                self._perform(node, effect)
            self.crash(self.number(node.me))
            return True
        for effect in effects:
            if isinstance(effect, e.Store):
                key = (effect.table, effect.key)
                if effect.value is None:
                    node.disk.pop(key, None)
                else:
                    node.disk[key] = effect.value
        for effect in effects[:fuse]:
            self._perform(node, effect)
        if fuse is not None:
            self.crash(self.number(node.me))
        return events > 0

    def _offer(self, node: Node, machines: Sequence[e.Machine], event: e.Event | n.Note) -> list[e.Effect]:
        """All effects of one event and of what the machines tell each other because of it, at one instant."""
        effects: list[e.Effect] = []
        for machine in machines:
            for effect in machine.handle(event, self.now):
                effects.append(effect)
                if isinstance(effect, BETWEEN):
                    effects += self._offer(node, (node.owner, node.guardian), effect)
        return effects

    def _perform(self, node: Node, effect: e.Effect) -> None:
        match effect:
            case e.Send(to=to, message=message):
                self.sent.append((node.me, effect))
                there = self.nodes.get(to)
                cut = frozenset({node.me, to}) in self.cuts or type(message) in self.lost
                if there is not None and there.up and not cut:
                    there.inbox.append(e.Received(message, node.me))
            case e.Run(task=task, token=token, slots=slots):
                node.slots[task, token] = slots
                node.queue[task, token] = self.now
                self._fill(node)
            case e.Kill(task=task, token=token, reason=reason):
                if (task, token) in node.process or node.queue.pop((task, token), None) is not None:
                    self._exit(node, task, token, Exit(130, ended_by=reason))
            case e.Forget(task=task, token=token):
                node.process.pop((task, token), None)
            case e.Recall(number=number, tasks=tasks):
                node.inbox.append(e.Recalled(number, ended(node.disk, tasks)))
            case e.Fetch(task=task, token=token):
                if effect.kept:
                    node.inbox.append(e.Fetched(task, token, True))
                else:
                    node.notes.append(effect)
            case e.Store():
                pass
            case _:
                node.notes.append(effect)

    def _fill(self, node: Node) -> None:
        """As the executor does: start what there are slots for, in order."""
        while key := next(iter(node.queue), None):
            taken = sum(node.slots[one] for one, exit in node.process.items() if exit is None)
            if taken and taken + node.slots[key] > self.slots:
                return
            del node.queue[key]
            node.process[key] = None
            self.starts.append((*key, node.me))
            node.inbox.append(e.ProcessStarted(*key, self.now + WALL_OFFSET_S))

    def _hand_back(self, node: Node) -> bool:
        """And hand back what waited too long, the last first."""
        if not any(since + HAND_BACK_S <= self.now for since in node.queue.values()):
            return False
        node.inbox.extend(e.HandedBack(*key) for key in reversed(node.queue))
        node.queue.clear()
        return True

    def _exit(self, node: Node, task: TaskId, token: Token, exit: Exit) -> None:
        if node.process.get((task, token), exit) is None:
            node.process[task, token] = exit
            if node.up:
                node.inbox.append(e.ProcessExited(task, token, exit))
            self._fill(node)

    def finish(self, *, code: int = 0, runtime_s: float = 0.0, exit: Exit | None = None) -> int:
        """End every running command with `code`, also on nodes that are down; how many that were."""
        ended = 0
        for node in self.nodes.values():
            for (task, token), known in list(node.process.items()):
                if known is None:
                    self._exit(node, task, token, exit or Exit(code, runtime_s=runtime_s))
                    ended += 1
        self.run()
        return ended

    # --- what is to be seen ----------------------------------------------------------------------

    def progress(self, task: TaskId) -> Progress:
        """As whoever owns it has it; of several, who has the highest claim."""
        rows = [node.disk.get((Table.PROGRESS, task)) for node in self.nodes.values()]
        return max((row for row in rows if isinstance(row, Progress)), key=lambda row: row.claim)

    def state(self, task: TaskId) -> State:
        return self.progress(task).state

    def story(self, task: TaskId) -> list[State]:
        return [move.state for move in self.progress(task).story]

    def started_on(self, task: TaskId) -> list[NodeId]:
        return [node for started, _, node in self.starts if started == task]

    def number(self, node: NodeId) -> int:
        return self.ids.index(node)


def restored(disk: dict[tuple[Table, str], Record]) -> Restored:
    submissions: list[Submission] = []
    progress: list[Progress] = []
    attempts: list[Attempt] = []
    copies: list[Copy] = []
    for (table, key), row in disk.items():
        match row:
            case Copy() if table is Table.COPIES:
                copies.append(row)
            case Progress() if not row.over:
                kept = disk[Table.TASKS, key]
                assert isinstance(kept, Submission)
                submissions.append(kept)
                progress.append(row)
            case Attempt() if table is Table.ATTEMPTS:
                attempts.append(row)
    counts = disk.get((Table.META, "counts"), Counts())
    assert isinstance(counts, Counts)
    return Restored(
        incarnation=1,
        epoch=NO_EPOCH,
        counts=counts,
        submissions=tuple(submissions),
        progress=tuple(progress),
        attempts=tuple(attempts),
        copies=tuple(copies),
        heard=tuple(
            (NodeId(key.removeprefix("heard:")), float(row.value))
            for (table, key), row in disk.items()
            if table is Table.META and isinstance(row, Number)
        ),
    )


def ended(disk: dict[tuple[Table, str], Record], tasks: Sequence[TaskId]) -> tuple[Copy, ...]:
    """Those of `tasks` that the disk has the end of."""
    found: list[Copy] = []
    for task in tasks:
        submission, progress = disk.get((Table.TASKS, task)), disk.get((Table.PROGRESS, task))
        copy = disk.get((Table.RESULTS, task))
        if isinstance(submission, Submission) and isinstance(progress, Progress) and progress.state.final:
            found.append(Copy(submission, progress))
        elif isinstance(copy, Copy):
            found.append(copy)
    return tuple(found)
