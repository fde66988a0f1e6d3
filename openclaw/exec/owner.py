"""The owner: keeps the tasks that were submitted here, finds them places, and records how they end.

Promises: what it accepts is stored in the same batch and reaches one final; a token is minted once and stored
before its assignment leaves; an outcome is acknowledged only when it is on this disk.
"""

from __future__ import annotations

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import (
    CancelAsked,
    CountsChanged,
    Duplicate,
    Effect,
    Event,
    Fetch,
    Fetched,
    IncarnationRaised,
    LeaderChanged,
    MemberChanged,
    MetaChanged,
    MetaLearned,
    Note,
    Received,
    Resumed,
    Rng,
    RosterChanged,
    Send,
    Settled,
    Started,
    StopAsked,
    Store,
    Submitted,
    Tick,
    WallClock,
)
from openclaw.exec.ledger import Entry, Ledger
from openclaw.exec.outcome import explain, ran, verdict
from openclaw.exec.probing import Probing
from openclaw.exec.task import WAITING, was_on
from openclaw.exec.watch import Watch
from openclaw.ids import Epoch, NodeId, TaskId, Token, owner_of
from openclaw.messages import Status
from openclaw.records import Counts, Progress, Restored, State, Table


class Owner:
    def __init__(self, me: NodeId, boot: str, settings: Settings, rng: Rng, restored: Restored) -> None:
        self.me = me
        self.settings = settings
        self.ledger = Ledger(me, settings, rng, restored.counts)
        self.watch = Watch(self.ledger, boot)
        self._probing = Probing(rng)
        self._restored = restored
        self._incarnation = 0
        self._settled = False
        self._stopping = False
        self._leader: Epoch | None = None
        self._epoch = restored.epoch
        self._leaderless_since_s = 0.0
        self._seen = 0
        self._unused: list[m.Unused] = []
        self._told = False  # the leader believes that we want something
        self._demand_due_s = 0.0
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

    def room(self) -> int:
        """How many more tasks may be submitted now."""
        return max(0, self.settings.queued_max - len(self.ledger.tasks))

    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: Event | Note, now: float) -> list[Effect]:
        match event:
            case Received(message=message, sender=sender):
                self._receive(message, sender, now)
            case Tick():
                self._tick(now)
            case Submitted(tasks=tasks):
                self.ledger.admit(tasks, now)
            case CancelAsked(tasks=tasks):
                self._cancel(tasks, now)
            case Fetched():
                self._fetched(event, now)
            case MemberChanged():
                self.watch.member(event, now)
                if event.status is Status.ALIVE:
                    self._fetch_from(event.node)
            case LeaderChanged(epoch=epoch):
                self._follow(epoch, now)
            case _:
                self._learn(event, now)
        if self._unflushed():
            self._flush_due_s = now
        return self.ledger.out.take()

    def next_deadline(self) -> float | None:
        timer = self.ledger.timers.next()
        due = [at for at in (self._flush_due_s, timer) if at is not None]
        if self._told and self._leader is not None and self._ready:
            due.append(self._demand_due_s)
        return min(due) if due else None

    def _learn(self, event: Event | Note, now: float) -> None:
        match event:
            case Started(meta=meta, wall_offset_s=offset):
                self.ledger.wall_offset_s = offset
                self._probing.metas[self.me] = meta
                self._restore(now)
            case WallClock(wall_offset_s=offset):
                self.ledger.wall_offset_s = offset
            case IncarnationRaised(incarnation=incarnation):
                self._incarnation = incarnation.counter
                self._dispatch(now)
            case Settled():
                self._settle(now)
            case RosterChanged(members=members):
                self._probing.members = members
            case MetaLearned(node=node, meta=meta):
                self._probing.metas[node] = meta
            case MetaChanged(meta=meta):
                self._probing.metas[self.me] = meta
            case Resumed():
                self.watch.quiet_until_s = now + self.settings.resume_quiet_s
                for node in sorted(self.ledger.on):
                    self.watch.ask_all(node, now)
            case StopAsked():
                self._stopping = True

    def _receive(self, message: m.AnyMessage, sender: NodeId, now: float) -> None:
        match message:
            case m.Grant():
                self._granted(message, sender, now)
            case m.Started():
                self.watch.started(message, sender, now)
            case m.Outcomes(items=items):
                for outcome in items:
                    self._ended(outcome, sender, now)
            case m.Returned(items=items):
                for refused in items:
                    self._returned(refused, sender, now)
            case m.Have():
                self.watch.have(message, sender, now)
            case m.Cancel(tasks=tasks):
                self._cancel(tuple(task for task in tasks if owner_of(task) == self.me), now)
            case m.Room():
                if self._probing.answer(message, sender):
                    self._probed(now)

    # --- start -----------------------------------------------------------------------------------

    def _restore(self, now: float) -> None:
        for submission, progress in zip(self._restored.submissions, self._restored.progress, strict=True):
            self.ledger.restore(submission, progress, now)
        self._restored = Restored()

    def _settle(self, now: float) -> None:
        self._settled = True
        for node in sorted(self.ledger.on):
            if self.watch.alive(node):
                self.watch.ask_all(node, now)
            else:
                self.ledger.timers.set(now + self.settings.suspect_s_max, "unheard", node)
        self._fetch_from(self.me)
        self._dispatch(now)

    @property
    def _ready(self) -> bool:
        return self._settled and self._incarnation > 0 and not self._stopping

    def _dispatch(self, now: float) -> None:
        self.ledger.demands.changed = True
        if self._leader is None and self._ready:
            self.ledger.timers.set(self._leaderless_since_s + self.settings.leaderless_after_s, "probe")
        self._flush_due_s = now

    # --- demand, grant, assign -------------------------------------------------------------------

    def _follow(self, epoch: Epoch | None, now: float) -> None:
        if epoch is None:
            self._leaderless_since_s = now
        else:
            self._epoch = max(self._epoch, epoch)
            self._seen = 0
            self._unused.clear()
            self._told = False
        self._leader = epoch
        self._dispatch(now)

    def _unflushed(self) -> bool:
        ledger = self.ledger
        return ledger.out.waiting or ledger.counts_changed or ledger.demands.changed or bool(self._unused)

    def _tick(self, now: float) -> None:
        for kind, key, token in self.ledger.timers.due(now):
            self._timer(kind, key, token, now)
        self._flush_due_s = None
        self.ledger.out.flush()
        if self.ledger.counts_changed:
            self.ledger.counts_changed = False
            counts = self.ledger.counts
            self.ledger.out.effects += [Store(Table.META, "counts", counts), CountsChanged(counts)]
        self._demand(now)

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
                self._fetch(self.ledger.tasks.get(TaskId(key)))
            case "probe":
                self._probed(now)

    def _demand(self, now: float) -> None:
        """Tell the leader all that we want, when it cannot know or has not heard for a while."""
        demands = self.ledger.demands
        changed, demands.changed = demands.changed, False
        if self._leader is None or not self._ready:
            if changed and self._ready and demands.queued:
                self.ledger.timers.set(self._leaderless_since_s + self.settings.leaderless_after_s, "probe")
            return
        due = self._told and self._demand_due_s <= now
        if not (self._unused or due or (changed and (demands.queued or self._told))):
            return
        rows_max = self.settings.demand_rows_max
        unused, self._unused = self._unused[:rows_max], self._unused[rows_max:]
        message = m.Demand(self._leader, self._seen, demands.table(), tuple(unused))
        self.ledger.out.effects.append(Send(self._leader.node, message))
        self._told = demands.queued > 0
        self._demand_due_s = now + self.settings.demand_every_s

    def _granted(self, grant: m.Grant, sender: NodeId, now: float) -> None:
        """Use the places at once; what finds no task goes straight back."""
        if sender != grant.epoch.node or grant.epoch < self._epoch:
            return
        if grant.epoch == self._leader:
            self._seen = max(self._seen, grant.seq)
        for row in grant.rows:
            tasks: list[TaskId] = []
            if self._ready and self.watch.alive(row.worker):
                tasks = self.ledger.demands.take(row.row, row.count)
                self._place(tasks, row.worker, row.boot, grant.epoch, grant.seq, now)
            elif self.ledger.demands.queued:
                self.ledger.demands.changed = True
            if len(tasks) < row.count and grant.epoch == self._leader:
                self._unused.append(m.Unused(grant.seq, row.worker, row.count - len(tasks)))

    def _place(
        self, tasks: list[TaskId], worker: NodeId, boot: str, epoch: Epoch, grant: int, now: float
    ) -> None:
        ledger, place = self.ledger, (worker, boot, epoch, grant)
        for task in tasks:
            entry = ledger.tasks[task]
            attempt = entry.progress.attempt + 1
            token = Token(0, self.me, self._incarnation, attempt)
            ledger.move(
                entry, State.PLACED, now, worker, "" if grant else "leaderless",
                attempt=attempt, token=token, worker=worker, worker_boot=boot, epoch=epoch,
                started=0.0, intent=entry.submission.once,
            )  # fmt: skip
            entry.heard_s = now
            entry.known = False
            ledger.out.assign(place, entry.submission, token)
        if tasks:
            self.watch.arm(worker, now)

    def _probed(self, now: float) -> None:
        """While nobody leads: use the answers of the last round of probes, begin the next."""
        demands = self.ledger.demands
        best = self._probing.best()
        if self._leader is not None or not self._ready:
            return
        if self._leaderless_since_s + self.settings.leaderless_after_s > now:
            return
        if best is not None:
            node, room = best
            self._place(demands.take(self._probing.row, room.free), node, room.boot, self._epoch, 0, now)
        if demands.queued:
            alive = sorted(node for node in self.watch.peers if self.watch.alive(node))
            self.ledger.out.effects += self._probing.ask(demands.rows(), alive)
            self.ledger.timers.set(now + 2 * self.settings.probe_timeout_s, "probe")

    # --- how attempts end ------------------------------------------------------------------------

    def _returned(self, refused: m.Refused, sender: NodeId, now: float) -> None:
        entry = self.ledger.tasks.get(refused.task)
        self.watch.unshadow(sender, refused.task, refused.token)
        if entry is None or entry.progress.token != refused.token or entry.progress.worker != sender:
            return
        self.watch.not_started(entry, now, refused.reason)

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
                self.ledger.out.effects.append(Duplicate(task, token))
        elif was_on(entry.progress, sender):
            self._judge(entry, outcome, sender, now)
        else:
            self.ledger.out.acknowledge(sender, task, token)

    def _judge(self, entry: Entry, outcome: m.Outcome, sender: NodeId, now: float) -> None:
        """An attempt of a task that has no final yet has ended."""
        task, token, exit = outcome.task, outcome.token, outcome.exit
        progress = entry.progress
        current = token == progress.token and progress.state not in WAITING
        to = verdict(entry.submission, progress, exit, current=current)
        reason = explain(exit)
        if to is None:
            pass  # a superseded attempt that was ended: the newer one goes on
        elif to.final:
            if progress.token is not None and progress.token != token and progress.state not in WAITING:
                self.ledger.out.end(progress.worker, task, progress.token, "superseded")
                self.watch.shadow(progress.worker, task, progress.token, now)
            if not self.ledger.conclude(entry, to, exit, token, sender, now, reason):
                return  # acknowledged once the outputs are here
        elif to is State.RETRYING:
            entry.row.ran(exit.runtime_s)
            self.ledger.retry_later(entry, now, reason, failures=progress.failures + 1)
        else:
            self.ledger.requeue(entry, now, reason)
        self.ledger.out.acknowledge(sender, task, token)

    def _cancel(self, tasks: tuple[TaskId, ...], now: float) -> None:
        elsewhere: dict[NodeId, list[TaskId]] = {}
        for task in tasks:
            entry = self.ledger.tasks.get(task)
            if owner_of(task) != self.me:
                elsewhere.setdefault(owner_of(task), []).append(task)
            elif entry is None or entry.progress.state.final or entry.progress.state is State.CANCELLING:
                continue
            elif entry.progress.state in WAITING:
                self.ledger.finish(entry, State.CANCELLED, now, "cancelled before it started")
            else:
                self._cancel_placed(entry, now)
        for owner, asked in sorted(elsewhere.items()):
            self.ledger.out.effects.append(Send(owner, m.Cancel(tuple(asked[:1024]))))

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

    def _fetched(self, event: Fetched, now: float) -> None:
        entry = self.ledger.tasks.get(event.task)
        if entry is None or not entry.progress.state.final or entry.progress.token != event.token:
            return
        if event.ok:
            self.ledger.out.acknowledge(entry.progress.worker, event.task, event.token)
            self.ledger.fetched(entry)
        else:
            entry.tries += 1
            self.ledger.timers.set(now + self.ledger.backoff_s(entry.tries), "fetch", event.task)

    def _fetch(self, entry: Entry | None) -> None:
        progress = entry.progress if entry is not None else None
        if progress is None or progress.token is None or progress.exit is None or not progress.state.final:
            return
        if self.watch.alive(progress.worker):
            fetch = Fetch(progress.task, progress.token, progress.worker, progress.exit)
            self.ledger.out.effects.append(fetch)

    def _fetch_from(self, node: NodeId) -> None:
        """`node` is back: get what it still has of ours."""
        for entry in list(self.ledger.tasks.values()):
            if entry.progress.state.final and entry.progress.worker == node:
                self._fetch(entry)
