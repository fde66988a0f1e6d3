"""The worker: decides what runs on this node, and keeps each outcome until its owner has it.

Promises: nothing starts that the fences, the epoch, the roster or our own policy forbid; whatever is refused or sworn
off never starts under that token. What of it waits and runs, and in what order, is `bench`'s.
"""

from __future__ import annotations

from collections.abc import Mapping

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.exec.admission import DISK_LOW
from openclaw.exec.bench import Workbench
from openclaw.exec.jobs import HOLDING, Job, Phase
from openclaw.exec.room import Taken
from openclaw.ids import Claim, NodeId, TaskId, Token
from openclaw.messages import Holding, Status
from openclaw.records import Held, Kind, Member, Table

_STOP_MARGIN_S = 2.0
_ASKS_DEFERRED_MAX = 1024
TAKEN_BACK = "another node has nothing to do"


class Worker(Workbench):
    # --- the door --------------------------------------------------------------------------------

    def handle(self, event: e.Event | n.Note, now: float) -> list[e.Effect]:
        effects: list[e.Effect] = []
        match event:
            case e.Received(message=message, sender=sender):
                effects = self._receive(message, sender, now)
            case e.Tick():
                return self._flush(now)
            case e.ProcessStarted(task=task, token=token, started=started):
                self._started(task, token, started)
            case e.HandedBack(task=task, token=token):
                effects = self._handed_back(task, token)
            case e.ProcessExited(task=task, token=token, exit=exit):
                effects = self._exited(task, token, exit)
            case n.MemberChanged(node=node, status=status, incarnation=incarnation):
                self._member(node, status, incarnation.boot)
            case e.ExecutorUp(held=held, life=life):
                self._executor_life = life
                effects = self._reconcile(held, now)
            case e.ExecutorDown():
                self._executor_up = False
            case e.RosterChanged(members=members):
                effects = self._roster(members)
            case e.StopAsked():
                effects = self._stop(event, now)
            case n.LeaderChanged(epoch=epoch):
                self._admission.follow(epoch, now)
                self._news.follow(epoch, now)
            case e.Started(meta=meta) | e.MetaChanged(meta=meta):
                self._admission.offer(meta)
            case e.Measured(disk_low=low):
                if low is self._admission.disk_low:
                    return []
                self._admission.disk_low = low
                self._hand_back(DISK_LOW if low else "")
            case n.MetaLearned(node=node, meta=meta):
                self._admission.learn(node, meta)
                return []
            case e.DrainAsked(draining=draining):
                self._admission.draining = draining
                self._hand_back("draining" if draining else "")
            case _:
                return []
        self._flush_due_s = now
        return effects

    def next_deadline(self) -> float | None:
        timers = (
            self._flush_due_s,
            self._deliveries.next(self._alive),
            self._news.next(),
            self._leases.next(),
            self._stop_by_s,
            self._retell_due_s,
        )
        return min((at for at in timers if at is not None), default=None)

    def _receive(self, message: m.AnyMessage, sender: NodeId, now: float) -> list[e.Effect]:
        match message:
            case m.Assign():
                return self._assigned(message, sender, now)
            case m.OutcomesStored(items=items):
                return [effect for task, token in items for effect in self._acknowledged(task, token, sender)]
            case m.Ask():
                self._asked(message, sender)
            case m.End():
                return self._end(message, sender)
            case m.Recall() if self._admission.leads(sender, message.epoch):
                self._recalled(message)
            case m.Adopt():
                return self._adopted(message, sender)
            case m.Leased():
                return self._leased(message, sender)
            case m.Seek():
                self._sought(message, sender)
            case m.Probe(seq=seq):
                load = self._room.taken.slots + self._waiting.taken.slots
                free = max(0, self._whole.slots - load) if self._admission.open else 0
                self._news.room(sender, seq, load, free)
        return []

    # --- what is given to us ---------------------------------------------------------------------

    def _assigned(self, assign: m.Assign, sender: NodeId, now: float) -> list[e.Effect]:
        effects: list[e.Effect] = []
        self._news.took(sender, assign, len(assign.items))
        refusal = self._admission.refuse_all(assign, sender, now)
        for item in assign.items:
            job = self._jobs.get(item.task)
            if job is not None and job.token == item.token:
                self._tell(job)
                continue
            if not self._fences.passes(item.task, item.token):
                self._news.have(sender, item.task, item.token, Holding.NOT_STARTED)
                continue
            reason = refusal or self._admission.refuse(item, sender) or self._no_place(job)
            self._fences.raise_to(item.task, item.token)
            if reason:
                self._news.returned(sender, item.task, item.token, reason)
                continue
            if job is not None and job.phase is Phase.MAYBE:
                effects += self._forget(job)  # its owner has moved on
            older = job
            job = Job(
                item.task, item.token, sender, Phase.WAITING, item.payload, assign.epoch,
                takeover=item.token.takeover, submitter=item.submitter,
            )  # fmt: skip
            job.needs, job.size = item.needs, item.needs.size
            job.once, job.runtime_s = item.once, item.runtime_s
            job.volatile = item.needs.kind is Kind.HANDLER
            self._jobs[item.task] = job
            if item.no_overlap:
                if older is not None and older.in_line:
                    self._waiting.remove(older)  # it has a lease, and this one has none yet
                job.no_overlap = True
                self._leases.add(job, now)
            else:
                self._queue(job)
        return effects

    def _no_place(self, older: Job | None) -> str:
        """Why there is no place for a task, of which we may have an `older` attempt."""
        if older is not None and older.phase not in (Phase.WAITING, Phase.MAYBE):
            self._tell(older)
            return "an older attempt is still here"
        if len(self._waiting) >= self._admission.queue_max:
            return "its queue is full"
        return ""

    def _hand_back(self, reason: str) -> None:
        """Everything that waits goes back to its owner, if there is a `reason`."""
        for job in [*self._waiting, *self._leases.waiting()] if reason else ():
            self._drop_waiting(job)
            self._news.returned(job.owner, job.task, job.token, reason)

    def _recalled(self, recall: m.Recall) -> None:
        """What came last goes back first, if it could run where there is nothing to do."""
        could = [job for job in self._waiting if self._admission.could(recall.idle, job.needs)]
        back = could[-recall.count :]
        for job in back:
            self._drop_waiting(job)
            self._news.returned(job.owner, job.task, job.token, TAKEN_BACK, taken_back=True)

    def _leased(self, message: m.Leased, sender: NodeId) -> list[e.Effect]:
        effects: list[e.Effect] = []
        for job in self._leases.granted(message, sender):
            if job.phase is Phase.RUNNING:
                effects.append(e.Extend(job.task, job.token, job.lease_until_s))
            elif not job.in_line:
                self._queue(job)
        return effects

    # --- what owners ask -------------------------------------------------------------------------

    def _asked(self, ask: m.Ask, sender: NodeId) -> None:
        if not self._executor_up:
            if len(self._deferred) < _ASKS_DEFERRED_MAX:
                self._deferred.append((ask, sender))
            return
        for task, token in ask.items:
            job = self._jobs.get(task)
            if not self._may_speak(job, token, sender):
                continue
            if job is not None and job.token == token:
                self._tell(job)
            else:
                self._fences.raise_to(task, token)
                self._news.have(sender, task, token, Holding.NOT_STARTED)

    def _end(self, end: m.End, sender: NodeId) -> list[e.Effect]:
        effects: list[e.Effect] = []
        for task, token in end.items:
            job = self._jobs.get(task)
            if not self._may_speak(job, token, sender):
                continue
            if job is None or job.token != token:
                self._fences.raise_to(task, token)
                self._news.have(sender, task, token, Holding.NOT_STARTED)
            elif job.phase is Phase.WAITING:
                self._drop_waiting(job)
                self._news.have(sender, task, token, Holding.NOT_STARTED)
            elif job.phase is Phase.RUNNING:
                effects += self._kill(job, end.reason, self.settings.kill_grace_s)
            elif job.phase is Phase.UNKNOWN:
                job.ending = end.reason  # as soon as the executor says that it runs
            else:
                self._tell(job)
        return effects

    @staticmethod
    def _may_speak(job: Job | None, token: Token, sender: NodeId) -> bool:
        """Whether an attempt is `sender`'s to speak of: the one that has it, or for others who minted it."""
        return (job.owner if job is not None and job.token == token else token.owner) == sender

    def _adopted(self, adopt: m.Adopt, sender: NodeId) -> list[e.Effect]:
        """Attempts change their owner, to one with a higher claim."""
        effects: list[e.Effect] = []
        for task, token, takeover in adopt.items:
            job = self._jobs.get(task)
            claim = Claim(takeover, sender)
            if job is None or job.token != token:
                self._fences.raise_to(task, token)
                self._news.have(sender, task, token, Holding.NOT_STARTED)
                continue
            if claim < job.claim:
                continue
            if claim > job.claim:
                outcome = self._deliveries.acknowledged(job.owner, task)
                job.submitter = job.submitter or job.owner
                job.owner, job.takeover = sender, takeover
                if outcome is not None:
                    self._deliveries.add(sender, outcome)
                if job.phase is not Phase.WAITING:
                    exit = None if outcome is None else outcome.exit
                    effects.append(e.Store(Table.ATTEMPTS, task, job.row(exit)))
            self._tell(job)
        return effects

    def _sought(self, seek: m.Seek, sender: NodeId) -> None:
        """A task's new owner asks. What we do not have of it is sworn off, under every older claim."""
        if not self._executor_up:
            if len(self._deferred) < _ASKS_DEFERRED_MAX:
                self._deferred.append((seek, sender))
            return
        found = []
        for task in seek.tasks:
            job = self._jobs.get(task)
            if job is not None:
                found.append((task, job.token, HOLDING[job.phase]))
            self._fences.raise_to(task, Token(seek.takeover, sender, 0, 0))
        self._news.found(sender, m.Found(seek.seq, tuple(found)))

    # --- the executor, the others, and our own end -----------------------------------------------

    def _reconcile(self, held: tuple[Held, ...], now: float) -> list[e.Effect]:
        """The executor has told all that it holds: settle every attempt that we were not sure of."""
        self._executor_up = True
        effects: list[e.Effect] = []
        known: set[TaskId] = set()
        for one in held:
            job = self._jobs.get(one.task)
            if job is None or job.token != one.token:
                stray = e.Forget(one.task, one.token) if one.exit is not None else None
                effects.append(stray or e.Kill(one.task, one.token, "superseded", self.settings.kill_grace_s))
                continue
            known.add(one.task)
            if one.exit is not None:
                effects += self._exited(one.task, one.token, one.exit)
            elif job.phase is not Phase.ENDED:
                effects += self._adopt(job, now)
        for task, job in self._jobs.items():
            if task in known:
                continue
            if job.phase is Phase.RUNNING and job.payload and not job.ending:
                effects += self._again(job)
            elif job.phase in (Phase.RUNNING, Phase.UNKNOWN):
                if job.phase is Phase.RUNNING:
                    self._room.leave(job)
                job.phase = Phase.MAYBE
                self._retell_due_s = now
        deferred, self._deferred = self._deferred, []
        for question, sender in deferred:
            if isinstance(question, m.Ask):
                self._asked(question, sender)
            else:
                self._sought(question, sender)
        return effects

    def _member(self, node: NodeId, status: Status, boot: str) -> None:
        before = self._peers.get(node)
        self._peers[node] = (status, boot)
        if status >= Status.DOWN:
            return
        if before is None or before[0] >= Status.DOWN or before[1] != boot:
            self._deliveries.back(node)
            for job in self._jobs.values():
                if job.owner == node and job.phase in (Phase.RUNNING, Phase.MAYBE):
                    self._tell(job)

    def _roster(self, members: Mapping[NodeId, Member]) -> list[e.Effect]:
        """What a revoked node submitted ends here."""
        self._admission.roster(members)
        effects: list[e.Effect] = []
        for job in list(self._jobs.values()):
            member = members.get(job.submitter or job.owner)
            if member is None or not member.revoked:
                continue
            if job.phase is Phase.WAITING:
                self._drop_waiting(job)
            elif job.phase is Phase.RUNNING:
                effects += self._kill(job, "cancel", self.settings.kill_grace_s)
            else:
                effects += self._forget(job)
        return effects

    def _stop(self, event: e.StopAsked, now: float) -> list[e.Effect]:
        self._admission.stopping = True
        self._hand_back("stopping")
        if event.keep:
            return [*self._flush(now), e.Stopped(keep=True)]
        self._stop_by_s = now + event.grace_s + self.settings.kill_grace_s + _STOP_MARGIN_S
        running = [job for job in self._jobs.values() if job.phase is Phase.RUNNING]
        return [kill for job in running for kill in self._kill(job, "stop", event.grace_s)]

    def _retell(self, now: float) -> None:
        """What nobody can know the end of is told until its owner has taken note."""
        unsure = [job for job in self._jobs.values() if job.phase is Phase.MAYBE]
        for job in unsure:
            self._tell(job)
        self._retell_due_s = now + self.settings.ask_every_s if unsure else None

    def _flush(self, now: float) -> list[e.Effect]:
        self._flush_due_s = None
        if self._retell_due_s is not None and self._retell_due_s <= now:
            self._retell(now)
        effects = self._start(now)
        running = min(self._room.running, self._whole.slots)  # the others wait, if in the executor
        load = n.LoadChanged(running, len(self._waiting) + self._room.running - running)
        taken = Taken()
        taken.add(self._room.taken.size)
        taken.add(self._waiting.taken.size)
        draining = not self._admission.open
        effects += self._news.flush(now, load, taken.size, self._whole.slots, draining=draining)
        effects += self._deliveries.flush(now, self._alive)
        effects += self._leases.flush(now)
        if self._stop_by_s is not None and (self._room.running == 0 or self._stop_by_s <= now):
            self._stop_by_s = None
            self._admission.stopping = True
            effects.append(e.Stopped(keep=False))
        return effects
