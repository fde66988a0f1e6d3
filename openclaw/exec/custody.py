"""The owner's side of its guardian: what is copied there, and what may be done because of it.

One guardian keeps all copies of an owner, chosen by rendezvous hashing among the live nodes, the steadiest first, and
kept for as long as it lives. Promises: a final is provisional until it is on that one's disk; an exclusive task is
assigned only when every node that may hold a copy of it has its intent, or has let the copy go; an owner that comes
back hears its guardian before it dispatches.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from hashlib import blake2b

from msgspec.structs import replace

from openclaw import messages as m
from openclaw.effects import Send
from openclaw.exec.guards import pack
from openclaw.exec.ledger import Entry, Ledger
from openclaw.exec.outbox import cut
from openclaw.exec.promises import Promises
from openclaw.ids import NodeId, TaskId
from openclaw.records import Member, Meta, Progress, State, Submission, Tier

_STEADY = {Tier.ALWAYS_ON: 0, Tier.MAINS: 1, Tier.NO_LEAD: 1, Tier.BATTERY: 2}


class Custody:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.settings = ledger.settings
        self.confirmed = False  # nobody is known who might know more of our tasks than we do
        self._able: list[NodeId] | None = None
        self._owed: set[NodeId] = set()  # members: who may be back some day
        self._due: OrderedDict[TaskId, None] = OrderedDict()
        self._sent: OrderedDict[TaskId, float] = OrderedDict()
        self.promises = Promises(ledger)
        self._released: dict[NodeId, dict[TaskId, None]] = {}
        self._requests = 0  # to let copies go
        self._answers_from: dict[NodeId, int] = {}  # from which request on: a copy came late to this node
        self._past: set[NodeId] = set()  # who may hold a copy, and is not the guardian any more
        ledger.moved = self.moved

    @property
    def guardian(self) -> NodeId | None:
        return self.ledger.guardian

    @property
    def pending(self) -> bool:
        """Whether a flush would have something to say."""
        window = self.settings.guard_window_max
        return bool(self._released or (self._due and len(self._sent) < window))

    def next(self) -> float | None:
        """When something that was sent has been silent for too long."""
        if not self._sent:
            return None
        return next(iter(self._sent.values())) + self.settings.guard_resend_s

    # --- who ------------------------------------------------------------------------------------

    def choose(
        self, alive: set[NodeId], metas: Mapping[NodeId, Meta], members: Mapping[NodeId, Member], now: float
    ) -> None:
        """Keep the guardian while it lives; else take the next. Whatever has another keeper is copied to it."""
        able = [
            node
            for node in sorted(alive)
            if node != self.ledger.me and node in metas and node in members and not members[node].revoked
        ]
        if able == self._able:
            return
        self._able = able
        self._owed = {node for node, member in members.items() if not member.revoked}
        first = self.guardian is None
        if self.guardian not in able:
            stored = self._stored()
            able = sorted(able, key=lambda node: (node not in stored, *self._order(node, metas[node])))
            self.ledger.guardian = able[0] if able else None
        for entry in list(self.ledger.tasks.values()):
            self._rekeep(entry, now, first=first)
            self.release(entry, now)
        if self.guardian is None:
            self.promises.sweep()

    def _rekeep(self, entry: Entry, now: float, *, first: bool) -> None:
        keeper = self.keeper_of(entry)
        self._past.update(entry.progress.guardians[1:])
        if keeper is not None and keeper == entry.keeper:
            return
        known = first and keeper is not None and entry.progress.guardians[:1] == (keeper,)
        entry.keeper, entry.kept_moves = keeper, 0 if known else -1
        self._sent.pop(entry.progress.task, None)
        if keeper is None:
            self._go_on(entry, now)
        elif entry.submission.replicas:
            self._due[entry.progress.task] = None

    def keep(self, entry: Entry) -> bool:
        """A task is new here: whether there is somebody to copy it to."""
        entry.keeper = self.keeper_of(entry)
        wanted = entry.keeper is not None and entry.submission.replicas > 0 and entry.kept_moves < 0
        if wanted:
            self._due[entry.progress.task] = None
        return wanted

    def keeper_of(self, entry: Entry) -> NodeId | None:
        """Who is to have the copy: where it was submitted, if that is another node and up; else the guardian."""
        origin = entry.submission.submitter
        return origin if origin != self.ledger.me and origin in (self._able or ()) else self.guardian

    def _order(self, node: NodeId, meta: Meta) -> tuple[bool, int, bytes]:
        weight = blake2b(f"{self.ledger.me}:{node}".encode(), digest_size=8).digest()
        return meta.draining, _STEADY[meta.tier], weight

    def _stored(self) -> set[NodeId]:
        """Who holds copies according to our disk."""
        return {node for entry in self.ledger.tasks.values() for node in entry.progress.guardians[:1]}

    def met(self, node: NodeId, now: float) -> None:
        """A node that may hold a copy that it should let go is back."""
        if node in self._past:
            for entry in list(self.ledger.tasks.values()):
                if node in entry.progress.guardians[1:]:
                    self.release(entry, now)

    def found(self, entry: Entry, node: NodeId, now: float) -> None:
        """`node` has a copy from before we owned the task: it lets it go, or is the keeper."""
        progress = entry.progress
        if node != self.ledger.me and node not in progress.guardians and entry.submission.replicas:
            self._past.add(node)
            self._holders(entry, (*progress.guardians, node))
            self.release(entry, now)

    def _holders(self, entry: Entry, holders: tuple[NodeId, ...]) -> None:
        """Who may have a copy. Of an exclusive task the keeper hears it: as its heir it waits for the others' word."""
        self.ledger.rewrite(entry, replace(entry.progress, guardians=holders))
        if entry.submission.exclusive and entry.keeper is not None:
            self._due[entry.progress.task] = None

    def release(self, entry: Entry, now: float) -> None:
        """Whoever kept a copy before lets it go, now that its successor has one. Asked again until it is done."""
        others = [node for node in entry.progress.guardians[1:] if node in (self._able or ())]
        if others and entry.kept_moves >= 0:
            for node in others:
                self._released.setdefault(node, {})[entry.progress.task] = None
            self.ledger.timers.set(now + self.settings.guard_resend_s, "release", entry.progress.task)

    # --- what there is to copy -------------------------------------------------------------------

    def promise(self, submissions: tuple[Submission, ...], now: float) -> None:
        """Accept these when the guardian has them, or when it has been silent for too long."""
        tasks = tuple(submission.task for submission in submissions)
        left = set()
        for task in tasks:
            entry = self.ledger.tasks.get(task)
            if entry is None:
                continue
            if self.keep(entry):
                left.add(task)
        self.promises.make(tasks, left, now)

    def moved(self, entry: Entry, before: Progress) -> None:
        """The guardian hears of what it would need to go on from: ends, cancellations, failures, intents."""
        after = entry.progress
        if entry.keeper is None or not entry.submission.replicas:
            return
        told = (
            (after.state.final and after.fetched)
            or after.state is State.CANCELLING
            or (after.failures, after.deaths) != (before.failures, before.deaths)
            or (after.state is State.PLACED and entry.submission.exclusive)
        )
        if told:
            self._due[after.task] = None
        elif after.state is State.RUNNING:
            at = after.story[-1].at - self.ledger.wall_offset_s + self.settings.guard_tell_s
            self.ledger.timers.set(at, "tell", after.task)

    def tell(self, task: TaskId) -> None:
        """It runs for a while already: whoever reads the copy sees where."""
        entry = self.ledger.tasks.get(task)
        if entry is not None and entry.keeper is not None and entry.progress.state is State.RUNNING:
            self._due[task] = None

    def confirm(self, now: float) -> None:
        """We are back, and may have been given up: the guardian hears of every task of ours and answers first."""
        if self.guardian is None or not self.ledger.tasks:
            self.go()
            return
        self.confirmed = False
        for task, entry in self.ledger.tasks.items():
            if entry.submission.replicas:
                self._due[task] = None
        self.ledger.timers.set(now + self.settings.guard_confirm_s, "confirmed")

    def go(self) -> None:
        """Whoever might know more of our tasks has spoken, or was waited for."""
        self.confirmed = True
        self.ledger.demands.changed = True

    def may_start(self, entry: Entry) -> bool:
        """Whether an assignment of an exclusive task may leave: nobody can take it over without knowing of it."""
        progress = entry.progress
        alone = not progress.guardians
        told = entry.kept_moves >= progress.moves and len(progress.guardians) == 1
        return not entry.submission.exclusive or alone or told

    # --- what the guardian says ------------------------------------------------------------------

    def guarded(self, message: m.Guarded, sender: NodeId, now: float) -> None:
        for task, claim, moves in message.items:
            entry = self.ledger.tasks.get(task)
            if entry is None or claim != entry.progress.claim:
                continue
            if sender != entry.keeper:
                self._answers_from[sender] = self._requests + 1
                self.found(entry, sender, now)
                self.release(entry, now)
                continue
            entry.kept_moves = max(entry.kept_moves, moves)
            self.promises.kept(task, sender)
            self._confirmed_by(entry, now)

    def _confirmed_by(self, entry: Entry, now: float) -> None:
        progress = entry.progress
        self.release(entry, now)
        if progress.task not in self._due and entry.kept_moves >= entry.sent_moves:
            self._sent.pop(progress.task, None)
        self._go_on(entry, now)

    def _go_on(self, entry: Entry, now: float) -> None:
        """What waited for the copies: a final is settled, an assignment that waited for its intent leaves."""
        progress = entry.progress
        if progress.provisional and self._known(entry):
            if progress.exit is not None and progress.token is not None:
                self.ledger.out.acknowledge(progress.worker, progress.task, progress.token)
            if not self._is_owed(entry, now):
                self.ledger.settle(entry)
                self.forget(progress.task)
        elif entry.held is not None and self.may_start(entry) and progress.token is not None:
            self.ledger.assign(entry, entry.held)
            entry.held = None

    def _known(self, entry: Entry) -> bool:
        """Whether a final is on two disks, and with all who could start an exclusive task again."""
        progress = entry.progress
        if not progress.fetched or (
            entry.submission.exclusive and not set(progress.guardians) <= {entry.keeper}
        ):
            return False
        if entry.keeper is None:  # who has a copy that is not over may start it again: it is to know first
            return not any(node in self._owed for node in progress.guardians)
        return entry.kept_moves >= progress.moves

    def _is_owed(self, entry: Entry, now: float) -> bool:
        """What was taken over is owed to where it was submitted, for as long as what is known there could matter."""
        origin = entry.submission.submitter
        if origin == self.ledger.me or origin == entry.keeper or origin not in self._owed:
            return False
        fresh_until_s = entry.progress.finished - self.ledger.wall_offset_s + self.settings.copy_stale_s
        if fresh_until_s <= now:
            return False
        self.ledger.timers.set(fresh_until_s, "owed", entry.progress.task)
        return True

    def owed(self, task: TaskId, now: float) -> None:
        """Where it was submitted nobody has been heard of for so long that nothing is owed any more."""
        entry = self.ledger.tasks.get(task)
        if entry is not None:
            self._go_on(entry, now)

    def unguarded(self, tasks: tuple[TaskId, ...], sender: NodeId) -> None:
        for task in tasks:
            entry = self.ledger.tasks.get(task)
            if entry is not None and sender == entry.keeper:
                entry.kept_moves = -1
                self._due[task] = None

    def keeping(self, tasks: tuple[TaskId, ...], sender: NodeId) -> None:
        """A guardian asks whether its copies are of use: those of what is over, or kept elsewhere, are not."""
        for task in tasks:
            entry = self.ledger.tasks.get(task)
            if entry is None or (sender != entry.keeper and entry.kept_moves >= 0):
                self._released.setdefault(sender, {})[task] = None

    def released(self, message: m.Released, sender: NodeId, now: float) -> None:
        if message.number < self._answers_from.get(sender, 0):
            return
        for task in message.tasks:
            entry = self.ledger.tasks.get(task)
            if entry is None or sender == entry.keeper or sender not in entry.progress.guardians:
                continue
            self._holders(entry, tuple(node for node in entry.progress.guardians if node != sender))
            self._go_on(entry, now)

    def forget(self, task: TaskId) -> None:
        """It is over, or somebody else's."""
        self._due.pop(task, None)
        self._sent.pop(task, None)

    # --- the end of a batch ----------------------------------------------------------------------

    def flush(self, now: float) -> None:
        out = self.ledger.out.effects
        self._requests += bool(self._released)
        for node, tasks in self._released.items():
            out.extend(Send(node, m.Release(part, self._requests)) for part in cut(list(tasks)))
        self._released = {}
        for task in [t for t, at in self._first_sent() if at + self.settings.guard_resend_s <= now]:
            del self._sent[task]
            self._due[task] = None
        for keeper, kept in self._take(now).items():
            out.extend(Send(keeper, guard) for guard in pack(kept, self.settings))
        if not self.confirmed and not self._due and not self._sent:
            self.go()

    def _first_sent(self) -> list[tuple[TaskId, float]]:
        """The oldest of what was sent, as many as one resending is for."""
        oldest = []
        for task, at in self._sent.items():
            oldest.append((task, at))
            if len(oldest) >= self.settings.guard_tasks_max:
                break
        return oldest

    def _take(self, now: float) -> dict[NodeId, list[tuple[Submission | None, Progress]]]:
        """What is due, as much as the window has room for; each row names its keeper before that hears of it."""
        taken: dict[NodeId, list[tuple[Submission | None, Progress]]] = {}
        while self._due and len(self._sent) < self.settings.guard_window_max:
            task, _ = self._due.popitem(last=False)
            entry = self.ledger.tasks.get(task)
            if entry is None or entry.keeper is None or self._half_done(entry):
                continue
            progress = entry.progress
            if progress.guardians[:1] != (entry.keeper,):
                others = tuple(node for node in progress.guardians if node != entry.keeper)
                self._past.update(others)
                self.ledger.rewrite(entry, replace(progress, guardians=(entry.keeper, *others)))
            entry.sent_moves = progress.moves
            self._sent[task] = now
            whole = entry.submission if entry.kept_moves < 0 else None
            taken.setdefault(entry.keeper, []).append((whole, entry.progress))
        return taken

    @staticmethod
    def _half_done(entry: Entry) -> bool:
        """What is final is told with its outputs."""
        return entry.progress.state.final and not entry.progress.fetched
