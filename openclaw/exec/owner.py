"""The owner: keeps the tasks that were submitted here, finds them places, and records how they end.

Promises: what it accepts is stored in the same batch and reaches one final; a token is minted once and stored
before its assignment leaves; an outcome is acknowledged only when it is on this disk.
"""

from __future__ import annotations

from collections.abc import Callable

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.custody import Custody
from openclaw.exec.ledger import Entry, Ledger
from openclaw.exec.outcome import explain, ran, verdict
from openclaw.exec.placing import Placing
from openclaw.exec.succession import Succession
from openclaw.exec.task import WAITING, was_on
from openclaw.exec.watch import Watch
from openclaw.ids import KEYED, Claim, NodeId, TaskId, Token, owner_of
from openclaw.messages import Status
from openclaw.records import Copy, Counts, Progress, Restored, State, Table

_FETCH_TRIES_MAX = 5


class Owner:
    def __init__(self, me: NodeId, boot: str, settings: Settings, rng: e.Rng, restored: Restored) -> None:
        self.me = me
        self.settings = settings
        self.ledger = Ledger(me, settings, rng, restored.counts)
        self.watch = Watch(self.ledger, boot)
        self.custody = Custody(self.ledger)
        self.succession = Succession(self.ledger, self.watch, self.custody)
        self.placing = Placing(self.ledger, self.watch, self.custody, rng, restored.epoch)
        self.copy_of: Callable[[TaskId], Copy | None] = lambda _task: None  # what we keep of others' tasks
        self._restored = restored
        self._flush_due_s: float | None = None

    # --- what the runtime may ask ----------------------------------------------------------------

    @property
    def counts(self) -> Counts:
        return self.ledger.counts

    @property
    def queued(self) -> int:
        return self.ledger.demands.queued

    def active(self, task: TaskId) -> Progress | None:
        """How far a task that is not done has come."""
        entry = self.ledger.tasks.get(task)
        return None if entry is None else entry.progress

    def claim_of(self, task: TaskId) -> Claim | None:
        """By what we own a task that is not over."""
        entry = self.ledger.tasks.get(task)
        return None if entry is None else entry.progress.claim

    def room(self) -> int:
        """How many more tasks may be submitted now."""
        return max(0, self.settings.queued_max - len(self.ledger.tasks))

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: e.Event | n.Note, now: float) -> list[e.Effect]:
        match event:
            case e.Received(message=message, sender=sender):
                self._receive(message, sender, now)
            case e.Tick():
                self._tick(now)
            case e.Submitted(tasks=tasks):
                self.ledger.admit(tasks, now)
                self.custody.promise(tasks, now)
            case e.CancelAsked(tasks=tasks):
                self._cancel(tasks, now)
            case e.ForgetAsked(tasks=ended):
                self.ledger.forget(ended)
            case e.Fetched():
                self._fetched(event, now)
            case n.MemberChanged():
                self._member(event, now)
            case n.LeaderChanged(epoch=epoch):
                self.placing.follow(epoch, now)
            case _:
                self._learn(event, now)
        if self._unflushed():
            self._flush_due_s = now
        return self.ledger.out.take()

    def next_deadline(self) -> float | None:
        timers = (self._flush_due_s, self.ledger.timers.next(), self.placing.next(), self.custody.next())
        return min((at for at in timers if at is not None), default=None)

    def _learn(self, event: e.Event | n.Note, now: float) -> None:
        match event:
            case e.Started(meta=meta, wall_offset_s=offset):
                self.ledger.wall_offset_s = offset
                self.placing.probing.metas[self.me] = meta
                self._restore(now)
            case e.WallClock(wall_offset_s=offset):
                self.ledger.wall_offset_s = offset
            case n.IncarnationRaised(incarnation=incarnation):
                self.placing.incarnation = incarnation.counter
                self.placing.dispatch()
            case n.Settled():
                self._settle(now)
            case e.RosterChanged(members=members):
                self.placing.probing.members = members
                self._choose_guardian(now)
            case n.MetaLearned(node=node, meta=meta):
                self.placing.probing.metas[node] = meta
                self._choose_guardian(now)
            case n.TakeOver():
                self.succession.take_over(event, now)
            case n.Contested():
                self.succession.contested(event, now)
            case n.Replaced():
                self.succession.replaced(event)
            case e.MetaChanged(meta=meta):
                self.placing.probing.metas[self.me] = meta
            case e.Resumed():
                self.watch.quiet_until_s = now + self.settings.resume_quiet_s
                for node in sorted(self.ledger.on):
                    self.watch.ask_all(node, now)
                self.custody.confirm(now)
            case e.StopAsked():
                self.placing.stopping = True

    def _receive(self, message: m.AnyMessage, sender: NodeId, now: float) -> None:
        match message:
            case m.Grant():
                self.placing.granted(message, sender, now)
            case m.Started(items=started):
                rows = [row for row in started if not self._another_has(row[0], row[1], sender)]
                self.watch.started(rows, sender, now)
            case m.Outcomes(items=items):
                for outcome in items:
                    if not self._another_has(outcome.task, outcome.token, sender):
                        self._ended(outcome, sender, now)
            case m.Returned(items=items):
                for refused in items:
                    self._returned(refused, sender, now)
            case m.Have(items=had):
                held = [row for row in had if not self._another_has(row[0], row[1], sender)]
                self.watch.have(held, sender, now)
            case m.Cancel(tasks=tasks):
                self._cancel(tuple(task for task in tasks if task in self.ledger.tasks), now)
            case m.Renew():
                self.watch.renew(message, sender, now)
            case m.Room():
                self.placing.answered(message, sender, now)
            case _:
                self._hear_of_copies(message, sender, now)

    def _another_has(self, task: TaskId, token: Token, worker: NodeId) -> bool:
        """Whether a worker's word is for another owner now, who is told."""
        copy = None if task in self.ledger.tasks else self.copy_of(task)
        if copy is not None:
            self.succession.elsewhere(copy, worker, token)
        return copy is not None

    def _hear_of_copies(self, message: m.AnyMessage, sender: NodeId, now: float) -> None:
        match message:
            case m.Guarded():
                self.custody.guarded(message, sender, now)
            case m.Unguarded(tasks=tasks):
                self.custody.unguarded(tasks, sender)
            case m.Keeping(tasks=tasks):
                self.custody.keeping(tasks, sender)
            case m.Released():
                self.custody.released(message, sender, now)
            case m.Superseded():
                self.succession.superseded(message)
            case m.Found():
                self.succession.found(message, sender, now)
            case m.Known():
                self.succession.known(message, sender, now)

    def _member(self, note: n.MemberChanged, now: float) -> None:
        self.watch.member(note, now)
        self._choose_guardian(now)
        self.succession.member(note.node, note.status, now)
        if note.status is Status.ALIVE:
            self._fetch_from(note.node)
            self.custody.met(note.node, now)

    def _choose_guardian(self, now: float) -> None:
        """Once we know who is there."""
        if self.placing.settled:
            up = {node for node in self.watch.peers if self.watch.up(node)}
            self.custody.choose(up, self.placing.probing.metas, self.placing.probing.members, now)

    # --- start -----------------------------------------------------------------------------------

    def _restore(self, now: float) -> None:
        for submission, progress in zip(self._restored.submissions, self._restored.progress, strict=True):
            self.ledger.restore(submission, progress, now)
        self._restored = Restored()

    def _settle(self, now: float) -> None:
        self.placing.settled = True
        self._choose_guardian(now)
        self.custody.confirm(now)
        self.succession.settle(now)
        for node in sorted(self.ledger.on):
            if self.watch.alive(node):
                self.watch.ask_all(node, now)
            else:
                self.ledger.timers.set(now + self.settings.suspect_s_max, "unheard", node)
        self._fetch_from(self.me)
        self.placing.dispatch()

    # --- the end of a batch ----------------------------------------------------------------------

    def _unflushed(self) -> bool:
        out, placing, custody = self.ledger.out, self.placing, self.custody
        return out.waiting or self.ledger.counts_changed or placing.pending or custody.pending

    def _tick(self, now: float) -> None:
        for kind, key, token in self.ledger.timers.due(now):
            self._timer(kind, key, token, now)
        self._flush_due_s = None
        self.custody.flush(now)
        self.placing.flush(now)
        self.ledger.out.flush()
        if self.ledger.counts_changed:
            self.ledger.counts_changed = False
            counts = self.ledger.counts
            self.ledger.out.effects += [e.Store(Table.META, "counts", counts), n.CountsChanged(counts)]

    def _timer(self, kind: str, key: str, token: Token | None, now: float) -> None:
        match kind:
            case "watch":
                self.watch.check(NodeId(key), now)
            case "lost":
                self.watch.lost(TaskId(key), token, now)
            case "unheard":
                self.watch.unheard(NodeId(key), now)
            case "retry":
                entry = self.ledger.tasks.get(TaskId(key))
                if entry and entry.progress.state is State.RETRYING and entry.progress.token == token:
                    self.ledger.requeue(entry, now, "its pause is over")
            case "fetch":
                waiting = self.ledger.closing.get(TaskId(key))
                if waiting is not None and self.watch.alive(waiting.progress.worker):
                    self.ledger.fetch(waiting)
            case "promise":
                self.custody.promises.overdue(TaskId(key))
            case "confirmed":
                self.custody.go()
            case "release":
                if key in self.ledger.tasks:
                    self.custody.release(self.ledger.tasks[TaskId(key)], now)
            case "tell":
                self.custody.tell(TaskId(key))
            case "owed":
                self.custody.owed(TaskId(key), now)
            case "stranded":
                self.succession.stranded(NodeId(key), now)
            case "seek":
                self.succession.timed_out(int(key), now)

    # --- how attempts end ------------------------------------------------------------------------

    def _returned(self, refused: m.Refused, sender: NodeId, now: float) -> None:
        entry = self.ledger.tasks.get(refused.task)
        self.watch.unshadow(sender, refused.task, refused.token)
        if entry is None or entry.progress.token != refused.token or entry.progress.worker != sender:
            return
        self.watch.not_started(entry, now, refused.reason, refused=not refused.taken_back)

    def _ended(self, outcome: m.Outcome, sender: NodeId, now: float) -> None:
        task, token = outcome.task, outcome.token
        entry = self.ledger.tasks.get(task)
        gave_up = self.watch.unshadow(sender, task, token)
        if entry is None or entry.progress.state.final:
            kept = None if entry is None else entry.progress
            if kept is not None and kept.token == token:
                return  # its outputs are on their way: acknowledged when they are here
            self.ledger.out.acknowledge(sender, task, token)
            if (gave_up or kept is not None) and ran(outcome.exit):
                self.ledger.out.effects.append(n.Duplicate(task, token))
        elif was_on(entry.progress, sender):
            self._judge(entry, outcome, sender, now, gave_up=gave_up)
        else:
            self.ledger.out.acknowledge(sender, task, token)

    def _judge(self, entry: Entry, outcome: m.Outcome, sender: NodeId, now: float, *, gave_up: bool) -> None:
        """An attempt of a task that has no final yet has ended."""
        task, token, exit = outcome.task, outcome.token, outcome.exit
        progress = entry.progress
        current = token == progress.token and progress.state not in WAITING
        to = verdict(entry.submission, progress, exit, current=current)
        if to in (State.FAILED, State.TIMED_OUT) and not (current or gave_up):
            to = None  # word of a failure that was counted when it came first
        reason = explain(exit)
        if to is None:
            pass  # a superseded attempt that has nothing new to tell: the newer one goes on
        elif to.final:
            if progress.token is not None and progress.token != token and progress.state not in WAITING:
                self.ledger.out.end(progress.worker, task, progress.token, "superseded")
                self.watch.shadow(progress.worker, task, progress.token, now)
            self.ledger.conclude(entry, to, exit, token, sender, now, reason)
            return  # acknowledged once the outputs are here, and the guardian knows
        elif to is State.RETRYING:
            self.ledger.demands.ran(entry.row, exit.runtime_s)
            self.ledger.retry_later(entry, now, reason, failures=progress.failures + 1)
        else:
            self.ledger.requeue(entry, now, reason)
        self.ledger.out.acknowledge(sender, task, token)

    def _cancel(self, tasks: tuple[TaskId, ...], now: float) -> None:
        elsewhere: dict[NodeId, list[TaskId]] = {}
        for task in tasks:
            entry = self.ledger.tasks.get(task)
            if entry is None and owner_of(task) not in (self.me, KEYED):
                elsewhere.setdefault(owner_of(task), []).append(task)
            elif entry is None or entry.progress.state.final or entry.progress.state is State.CANCELLING:
                continue
            elif entry.sought and entry.progress.state is State.QUEUED:
                self.ledger.move(entry, State.CANCELLING, now, self.me, "cancel asked")
            elif entry.progress.state in WAITING:
                self.ledger.finish(entry, State.CANCELLED, now, "cancelled before it started")
            else:
                self._cancel_placed(entry, now)
        for owner, asked in sorted(elsewhere.items()):
            self.ledger.out.effects.append(e.Send(owner, m.Cancel(tuple(asked[:1024]))))

    def _cancel_placed(self, entry: Entry, now: float) -> None:
        progress = entry.progress
        self.ledger.move(entry, State.CANCELLING, now, progress.worker, "cancel asked")
        if progress.token is not None:
            self.ledger.out.end(progress.worker, progress.task, progress.token, "cancel")
        self.watch.arm(progress.worker, now)
        peer = self.watch.peers.get(progress.worker)
        if peer is not None and peer.status >= Status.DOWN:
            self.ledger.timers.set(now, "lost", progress.task, progress.token)

    # --- outputs ---------------------------------------------------------------------------------

    def _fetched(self, event: e.Fetched, now: float) -> None:
        entry = self.ledger.closing.get(event.task)
        if entry is None or entry.progress.fetched or entry.progress.token != event.token:
            return
        entry.fetching = False
        entry.tries += not event.ok
        lost = event.gone and entry.tries >= _FETCH_TRIES_MAX
        if event.ok or lost:
            self.ledger.fetched(entry, "its output is not on its worker any more" if lost else "")
        else:
            self.ledger.timers.set(now + self.ledger.backoff_s(entry.tries), "fetch", event.task)

    def _fetch_from(self, node: NodeId) -> None:
        """`node` is back: get what it still has of ours."""
        for entry in self.ledger.closing.values():
            if entry.progress.worker == node and not entry.progress.fetched:
                self.ledger.fetch(entry)
