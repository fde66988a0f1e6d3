"""The owner's book: every task of ours that is not done, and the one way in which it changes.

Promises: each move is legal, stored and told in the same batch; a task leaves memory when its final and its
outputs are on our disk; the counts agree with the moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from openclaw.config import Settings
from openclaw.effects import Fetch, Rng, Store
from openclaw.exec.demand import Demands, Row
from openclaw.exec.outbox import Outbox, Place
from openclaw.exec.task import ACTIVE, WAITING, advance, begin, inherit
from openclaw.exec.timers import Timers
from openclaw.ids import KEYED, NodeId, TaskId, Token, owner_of
from openclaw.notes import Forgotten, TaskFetched, TaskMoved
from openclaw.records import Copy, Counts, Ended, Exit, Progress, State, Submission, Table

_COUNTED = {state: str(state) for state in State} | {State.RETRYING: "queued", State.CANCELLING: "running"}


@dataclass(slots=True, eq=False)
class Entry:
    """One task in memory. `heard_s` is when its worker last spoke of it, on our clock."""

    submission: Submission
    progress: Progress
    row: Row
    heard_s: float = 0.0
    known: bool = False  # its worker has confirmed that it has it
    running_since_s: float = 0.0
    returns: int = 0  # how often in a row a worker would not have it
    tries: int = 0  # of fetching its outputs
    fetching: bool = False
    keeper: NodeId | None = None  # who has a copy, or is to have one
    kept_moves: int = -1  # how far that copy is; -1: there is none
    sent_moves: int = -1  # how far it was told
    held: Place | None = None  # where it is to be assigned once its intent is kept
    sought: bool = False  # taken over or keyed, and not everybody has said what they have of it
    leased_until_s: float = 0.0  # until then an attempt that must not overlap may run, whatever we hear


class Ledger:
    def __init__(self, me: NodeId, settings: Settings, rng: Rng, counts: Counts) -> None:
        self.me = me
        self.settings = settings
        self.out = Outbox(settings)
        self.demands = Demands(settings.demand_rows_max, settings.demand_bytes_max)
        self.timers = Timers()
        self.wall_offset_s = 0.0
        self.tasks: dict[TaskId, Entry] = {}
        self.on: dict[NodeId, dict[TaskId, Entry]] = {}
        self.closing: dict[TaskId, Entry] = {}  # final, and not over: outputs or guardian are missing
        self.guardian: NodeId | None = None
        self.moved: Callable[[Entry, Progress], None] = lambda _entry, _before: None
        self._rng = rng
        done = (State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST)
        self._counts = dict.fromkeys(_COUNTED.values(), 0) | {str(s): getattr(counts, s) for s in done}
        self.counts_changed = False

    @property
    def counts(self) -> Counts:
        return Counts(**self._counts)

    def admit(self, submissions: tuple[Submission, ...], now: float) -> None:
        """Take on new tasks. One that we have already changes nothing."""
        at = now + self.wall_offset_s
        effects = self.out.effects
        for submission in submissions:
            task = submission.task
            if task in self.tasks:
                continue
            guardians = (self.guardian,) if self.guardian is not None and submission.replicas else ()
            progress = begin(task, at, self.me, guardians)
            row = self.demands.row_of(submission)
            self.tasks[task] = Entry(submission, progress, row)
            self.demands.push(task, row, now)
            effects.append(Store(Table.TASKS, task, submission))
            effects.append(Store(Table.PROGRESS, task, progress))
            self._counts["queued"] += 1
        self.counts_changed = True

    def inherit(self, copy: Copy, now: float, reason: str) -> Entry:
        """A task of an owner that is gone is ours. It waits until everybody was asked about it."""
        progress = inherit(
            copy.progress, self.me, now + self.wall_offset_s, reason, exclusive=copy.submission.exclusive
        )
        entry = Entry(copy.submission, progress, self.demands.row_of(copy.submission), sought=True)
        task = progress.task
        self.tasks[task] = entry
        if progress.state in ACTIVE:
            self.on.setdefault(progress.worker, {})[task] = entry
        self._counts[_COUNTED[progress.state]] += 1
        self.counts_changed = True
        self.out.effects += [
            Store(Table.TASKS, task, copy.submission),
            Store(Table.PROGRESS, task, progress),
            TaskMoved(task, progress.state, self.me, reason),
        ]
        return entry

    def drop(self, entry: Entry) -> None:
        """It has another owner: nothing here speaks of it any more."""
        progress = entry.progress
        task, state = progress.task, progress.state
        if task in entry.row.tasks:
            self.demands.remove(task, entry.row)
        if state in ACTIVE:
            self._off(progress.worker, task)
        if progress.token is not None:
            self.out.withdraw(progress.worker, task, progress.token)
        self.tasks.pop(task, None)
        self.closing.pop(task, None)
        self.disown(task, state)

    def disown(self, task: TaskId, state: State) -> None:
        """Our rows of a task are gone with this batch, and it counts for its other owner."""
        self._counts[_COUNTED[state]] -= 1
        self.counts_changed = True
        self.out.effects += [Store(Table.TASKS, task, None), Store(Table.PROGRESS, task, None)]

    def rewrite(self, entry: Entry, progress: Progress) -> None:
        """What is said of a task beside its state changes."""
        entry.progress = progress
        self.out.effects.append(Store(Table.PROGRESS, progress.task, progress))

    def restore(self, submission: Submission, progress: Progress, now: float) -> None:
        """Put a task from our disk back where it stood."""
        entry = Entry(submission, progress, self.demands.row_of(submission), heard_s=now)
        if progress.started:
            entry.running_since_s = min(now, progress.started - self.wall_offset_s)
        self.tasks[submission.task] = entry
        if not progress.state.final:  # a final one is in the stored counts
            self._counts[_COUNTED[progress.state]] += 1
        self.lease(entry, now)  # our former self may have granted one
        # What was taken over, or submitted by its key, may have another owner or an end that nobody told us of.
        elsewhere = progress.takeover > 0 or owner_of(submission.task) == KEYED
        entry.sought = elsewhere and progress.state in WAITING
        if entry.sought:
            return
        if progress.state is State.QUEUED:
            self.demands.push(submission.task, entry.row, now)
        elif progress.state is State.RETRYING:
            self.timers.set(now + self.backoff_s(progress.failures), "retry", submission.task, progress.token)
        elif progress.state in ACTIVE:
            self.on.setdefault(progress.worker, {})[submission.task] = entry
        else:
            self.closing[submission.task] = entry

    def move(self, entry: Entry, to: State, now: float, node: NodeId, reason: str, **changes: object) -> None:
        """The only place where a task's state changes."""
        before = entry.progress
        at = now + self.wall_offset_s
        moves_max = self.settings.story_moves_max
        if to.final:
            changes["provisional"] = self._awaits_guardian(entry)
        after = advance(before, to, at, node, reason, moves_max=moves_max, **changes)
        task = before.task
        entry.progress = after
        if to is not State.PLACED:
            entry.held = None
        if task in entry.row.tasks:  # a place takes it out of its row before it is moved
            self.demands.remove(task, entry.row)
        if before.state in ACTIVE and (to not in ACTIVE or before.worker != after.worker):
            self._off(before.worker, task)
        if to in ACTIVE:
            self.on.setdefault(after.worker, {})[task] = entry
        self._counts[_COUNTED[before.state]] -= 1
        self._counts[_COUNTED[to]] += 1
        self.counts_changed = True
        self.out.effects.append(Store(Table.PROGRESS, task, after))
        self.out.effects.append(TaskMoved(task, to, after.worker, reason))
        if to.final:
            self.closing[task] = entry
        self.moved(entry, before)
        if after.over:
            self._over(entry)

    def _awaits_guardian(self, entry: Entry) -> bool:
        """Whether an end is news to somebody who could start the task again without it."""
        submission = entry.submission
        guarded = self.guardian is not None and submission.replicas > 0
        return guarded or bool(entry.progress.guardians) or submission.submitter != self.me

    def assign(self, entry: Entry, place: Place) -> None:
        """Its attempt goes to its worker."""
        token = entry.progress.token
        assert token is not None
        self.out.assign(place, entry.submission, token, entry.row.runtime_s)

    def lease(self, entry: Entry, now: float) -> None:
        """Its attempt may run for the time of a lease from now on, by its worker's clock."""
        if entry.submission.no_overlap and entry.progress.token is not None:
            entry.leased_until_s = now + self.settings.lease_s + self.settings.lease_margin_s

    def take_back(self, entry: Entry, worker: NodeId, token: Token, now: float, *, waits: bool) -> None:
        """An attempt of its former owner goes on as ours, running or (`waits`) about to."""
        attempt = max(entry.progress.attempt, token.attempt)
        if entry.progress.state is not State.CANCELLING:
            to = State.PLACED if waits else State.RUNNING
            starts = max(entry.progress.starts, int(not waits))
            self.move(
                entry, to, now, worker, "adopted: it is still there",
                token=token, worker=worker, attempt=attempt, starts=starts, intent=entry.submission.exclusive,
            )  # fmt: skip
            entry.running_since_s = now
            self.lease(entry, now)
            return
        self._off(entry.progress.worker, entry.progress.task)
        self.on.setdefault(worker, {})[entry.progress.task] = entry
        self.rewrite(entry, replace(entry.progress, token=token, worker=worker, attempt=attempt))

    def settle(self, entry: Entry) -> None:
        """Its end is at the guardian too, or there is none to have it."""
        self.rewrite(entry, replace(entry.progress, provisional=False))
        if entry.progress.over:
            self._over(entry)

    def _over(self, entry: Entry) -> None:
        """Nothing is left to do for it: it leaves memory, and its worker may let it go."""
        progress = entry.progress
        del self.tasks[progress.task], self.closing[progress.task]
        if progress.exit is not None and progress.token is not None:
            self.out.acknowledge(progress.worker, progress.task, progress.token)

    def _off(self, worker: NodeId, task: TaskId) -> None:
        there = self.on[worker]
        del there[task]
        if not there:
            del self.on[worker]

    def requeue(self, entry: Entry, now: float, reason: str, **changes: object) -> None:
        """Back to the front of its class, with a line in its story unless it only was in doubt."""
        if entry.progress.state is State.QUEUED:
            self.rewrite(entry, replace(entry.progress, **changes))
        else:
            self.move(entry, State.QUEUED, now, entry.progress.worker, reason, **changes)
        self.demands.push(entry.progress.task, entry.row, now, front=True)

    def retry_later(self, entry: Entry, now: float, reason: str, **changes: object) -> None:
        """Back to the queue after a pause that grows with each failure or refusal."""
        self.move(entry, State.RETRYING, now, entry.progress.worker, reason, **changes)
        progress = entry.progress
        pause_s = self.backoff_s(progress.failures + entry.returns)
        self.timers.set(now + pause_s, "retry", progress.task, progress.token)

    def give_up(self, entry: Entry, now: float, reason: str, *, died: bool) -> None:
        """An attempt may have run and nobody will tell: `died` when it did run as its worker went."""
        progress = entry.progress
        deaths = progress.deaths + died
        if progress.state is State.CANCELLING:
            self.finish(entry, State.CANCELLED, now, f"cancelled; {reason}")
        elif entry.submission.once:
            self.finish(entry, State.LOST, now, f"--once, and nobody can know whether it ran: {reason}")
        elif died and deaths >= self.settings.deaths_max:
            text = f"poison: it was running when {deaths} nodes died; {reason}"
            self.finish(entry, State.FAILED, now, text, deaths=deaths)
        else:
            self.requeue(entry, now, reason, deaths=deaths)

    def finish(self, entry: Entry, to: State, now: float, reason: str, **changes: object) -> None:
        """A final without a result: cancelled, lost, poison."""
        error = "" if to is State.CANCELLED else reason
        at = now + self.wall_offset_s
        node = entry.progress.worker or self.me
        self.move(entry, to, now, node, reason, finished=at, error=error, **changes)

    def conclude(
        self, entry: Entry, to: State, exit: Exit, token: Token, worker: NodeId, now: float, reason: str
    ) -> None:
        """A final with a result. Its worker keeps that until the outputs are here and the guardian knows."""
        self.demands.ran(entry.row, exit.runtime_s)
        self.move(
            entry, to, now, worker, reason,
            token=token, worker=worker, exit=exit, error=exit.error, fetched=exit.inline,
            started=exit.started or entry.progress.started, finished=exit.ended or now + self.wall_offset_s,
            starts=max(1, entry.progress.starts),
        )  # fmt: skip
        if not exit.inline:
            self.fetch(entry)

    def fetch(self, entry: Entry) -> None:
        """Pull the outputs of a task that is final, unless that is under way."""
        progress = entry.progress
        if progress.token is not None and progress.exit is not None and not entry.fetching:
            entry.fetching = True
            self.out.effects.append(Fetch(progress.task, progress.token, progress.worker, progress.exit))

    def fetched(self, entry: Entry, error: str = "") -> None:
        """The outputs are here as well, or `error` says why they never will be."""
        before = entry.progress
        self.rewrite(entry, replace(before, fetched=True, error=before.error or error))
        self.out.effects.append(TaskFetched(before.task))
        self.moved(entry, before)
        if entry.progress.over:
            self._over(entry)

    def forget(self, ended: tuple[Ended, ...]) -> None:
        """The only place where a task's records are deleted. What is in memory is not over, and stays."""
        gone = [each for each in ended if each.state.final and each.task not in self.tasks]
        for task, state, _, _ in gone:
            self._counts[_COUNTED[state]] -= 1
            self.out.effects.append(Store(Table.TASKS, task, None))
            self.out.effects.append(Store(Table.PROGRESS, task, None))
        self.counts_changed = True
        self.out.effects.append(Forgotten(tuple(each.task for each in gone)))

    def backoff_s(self, failures: int) -> float:
        base: float = self.settings.retry_backoff_s * 2 ** min(max(failures - 1, 0), 16)
        return min(base, self.settings.retry_backoff_s_max) * (0.5 + self._rng.random())
