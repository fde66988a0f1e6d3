"""The owner's book: every task of ours that is not done, and the one way in which it changes.

Promises: each move is legal, stored and told in the same batch; a task leaves memory when its final and its
outputs are on our disk; the counts agree with the moves.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from openclaw.config import Settings
from openclaw.effects import Fetch, Rng, Store
from openclaw.exec.demand import Demands, Row
from openclaw.exec.outbox import Outbox
from openclaw.exec.task import ACTIVE, advance, begin
from openclaw.exec.timers import Timers
from openclaw.ids import NodeId, TaskId, Token
from openclaw.notes import Accepted, Forgotten, TaskFetched, TaskMoved
from openclaw.records import Counts, Ended, Exit, Progress, State, Submission, Table

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
        self.unfetched: dict[TaskId, Entry] = {}  # final, and their outputs are still at the worker
        self._rng = rng
        done = (State.SUCCEEDED, State.FAILED, State.TIMED_OUT, State.CANCELLED, State.LOST)
        self._counts = dict.fromkeys(_COUNTED.values(), 0) | {str(s): getattr(counts, s) for s in done}
        self.counts_changed = False

    @property
    def counts(self) -> Counts:
        return Counts(**self._counts)

    def admit(self, submissions: tuple[Submission, ...], now: float) -> None:
        """Take on new tasks. One that we have already is accepted again and changes nothing."""
        at = now + self.wall_offset_s
        effects = self.out.effects
        for submission in submissions:
            task = submission.task
            if task in self.tasks:
                continue
            progress = begin(task, at, self.me)
            row = self.demands.row_of(submission)
            self.tasks[task] = Entry(submission, progress, row)
            self.demands.push(task, row, now)
            effects.append(Store(Table.TASKS, task, submission))
            effects.append(Store(Table.PROGRESS, task, progress))
            self._counts["queued"] += 1
        self.counts_changed = True
        effects.append(Accepted(tuple(submission.task for submission in submissions)))

    def restore(self, submission: Submission, progress: Progress, now: float) -> None:
        """Put a task from our disk back where it stood."""
        entry = Entry(submission, progress, self.demands.row_of(submission), heard_s=now)
        if progress.started:
            entry.running_since_s = min(now, progress.started - self.wall_offset_s)
        self.tasks[submission.task] = entry
        if not progress.state.final:  # a final one is in the stored counts
            self._counts[_COUNTED[progress.state]] += 1
        if progress.state is State.QUEUED:
            self.demands.push(submission.task, entry.row, now)
        elif progress.state is State.RETRYING:
            self.timers.set(now + self.backoff_s(progress.failures), "retry", submission.task, progress.token)
        elif progress.state in ACTIVE:
            self.on.setdefault(progress.worker, {})[submission.task] = entry
        else:
            self.unfetched[submission.task] = entry

    def move(self, entry: Entry, to: State, now: float, node: NodeId, reason: str, **changes: object) -> None:
        """The only place where a task's state changes."""
        before = entry.progress
        at = now + self.wall_offset_s
        moves_max = self.settings.story_moves_max
        after = advance(before, to, at, node, reason, moves_max=moves_max, **changes)
        task = before.task
        entry.progress = after
        if before.state is State.QUEUED and to is not State.PLACED:
            self.demands.remove(task, entry.row)
        if before.state in ACTIVE and (to not in ACTIVE or before.worker != after.worker):
            self._off(before.worker, task)
        if to in ACTIVE:
            self.on.setdefault(after.worker, {})[task] = entry
        self._counts[_COUNTED[before.state]] -= 1
        self._counts[_COUNTED[to]] += 1
        self.counts_changed = True
        if to.final and after.fetched:
            del self.tasks[task]
        self.out.effects.append(Store(Table.PROGRESS, task, after))
        self.out.effects.append(TaskMoved(task, to, after.worker, reason))

    def _off(self, worker: NodeId, task: TaskId) -> None:
        there = self.on[worker]
        del there[task]
        if not there:
            del self.on[worker]

    def requeue(self, entry: Entry, now: float, reason: str, **changes: object) -> None:
        """Back to the front of its class."""
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
    ) -> bool:
        """A final with a result. False: its outputs are still at `worker`, and are being fetched."""
        self.demands.ran(entry.row, exit.runtime_s)
        task = entry.progress.task
        self.move(
            entry, to, now, worker, reason,
            token=token, worker=worker, exit=exit, error=exit.error, fetched=exit.inline,
            started=exit.started or entry.progress.started, finished=exit.ended or now + self.wall_offset_s,
            starts=max(1, entry.progress.starts),
        )  # fmt: skip
        if not exit.inline:
            self.unfetched[task] = entry
            self.fetch(entry)
        return exit.inline

    def fetch(self, entry: Entry) -> None:
        """Pull the outputs of a task that is final, unless that is under way."""
        progress = entry.progress
        if progress.token is not None and progress.exit is not None and not entry.fetching:
            entry.fetching = True
            self.out.effects.append(Fetch(progress.task, progress.token, progress.worker, progress.exit))

    def fetched(self, entry: Entry, error: str = "") -> None:
        """The outputs are here as well, or `error` says why they never will be: nothing is left to do."""
        progress = replace(entry.progress, fetched=True, error=entry.progress.error or error)
        self.out.effects.append(Store(Table.PROGRESS, progress.task, progress))
        self.out.effects.append(TaskFetched(progress.task))
        del self.tasks[progress.task], self.unfetched[progress.task]

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
