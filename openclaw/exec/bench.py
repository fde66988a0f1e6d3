"""What a worker has: its jobs, who waits for room, what runs, and what may be done with one of them.

Promises: what starts is on disk first; no more runs at once than there are slots, memory and GPUs for, first come,
first served; an outcome stays until its owner has it.
"""

from __future__ import annotations

from openclaw import effects as e
from openclaw import messages as m
from openclaw.config import Settings
from openclaw.exec.admission import Admission
from openclaw.exec.deliveries import Deliveries
from openclaw.exec.fences import Fences
from openclaw.exec.jobs import HOLDING, Job, Phase
from openclaw.exec.leases import Leases
from openclaw.exec.news import News
from openclaw.exec.quick import Quick
from openclaw.exec.room import Line, Room
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Status
from openclaw.records import REFUSED, Attempt, Exit, Restored, Size, Table

_NOTHING = Size(0)
HELD_UP = "what was before it takes long"


class Workbench:
    """The jobs of one worker. `Worker` decides; what it decides is done here."""

    def __init__(self, me: NodeId, boot: str, settings: Settings, rng: e.Rng, restored: Restored) -> None:
        self.settings = settings
        self._admission = Admission(me, boot, settings, restored.epoch)
        self._fences = Fences(settings.fences_max)
        self._deliveries = Deliveries(settings)
        self._news = News(me, boot, settings, rng)
        self._jobs: dict[TaskId, Job] = {}
        self._waiting = Line()
        self._room = Room()
        self._quick = Quick(settings)
        self._leases = Leases(settings)
        self._peers: dict[NodeId, tuple[Status, str]] = {me: (Status.ALIVE, boot)}
        self._executor_up = False
        self._executor_life = 0
        self._deferred: list[tuple[m.Ask | m.Seek, NodeId]] = []
        self._stop_by_s: float | None = None
        self._retell_due_s: float | None = None
        self._flush_due_s: float | None = None
        for attempt in restored.attempts:
            self._restore(attempt)

    @property
    def running(self) -> int:
        return self._room.running

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def held(self) -> list[tuple[TaskId, Token, NodeId]]:
        """Every attempt that this node has, with its owner: for people who ask where a task is."""
        return [(job.task, job.token, job.owner) for job in self._jobs.values()]

    @property
    def _whole(self) -> Size:
        """What there is to run on, taken or not."""
        return self._admission.size if self._executor_up else _NOTHING

    def _alive(self, node: NodeId) -> bool:
        return node in self._peers and self._peers[node][0] is Status.ALIVE

    def _restore(self, attempt: Attempt) -> None:
        phase = Phase.UNKNOWN if attempt.exit is None else Phase.ENDED
        job = Job(
            attempt.task, attempt.token, attempt.owner, phase, size=attempt.size, gpus=attempt.gpus,
            takeover=attempt.takeover, submitter=attempt.submitter, no_overlap=attempt.no_overlap,
        )  # fmt: skip
        self._jobs[attempt.task] = job
        self._fences.raise_to(attempt.task, attempt.token)
        if attempt.exit is not None:
            self._deliveries.add(attempt.owner, m.Outcome(attempt.task, attempt.token, attempt.exit))

    # --- who waits -------------------------------------------------------------------------------

    def _queue(self, job: Job, *, front: bool = False) -> None:
        job.in_line = True
        self._waiting.add(job, front=front)

    def _tell(self, job: Job) -> None:
        self._news.have(job.owner, job.task, job.token, HOLDING[job.phase])

    def _drop_waiting(self, job: Job) -> None:
        if job.in_line:
            self._waiting.remove(job)
        self._leases.drop(job.task)
        del self._jobs[job.task]

    def _again(self, job: Job) -> list[e.Effect]:
        """What we asked for in this life never started: it is first in the queue, under its token."""
        self._room.leave(job)
        job.phase = Phase.WAITING
        self._queue(job, front=True)
        return [e.Store(Table.ATTEMPTS, job.task, None)]

    # --- what runs -------------------------------------------------------------------------------

    def _start(self, now: float) -> list[e.Effect]:
        """Who is first and does not fit yet holds back the others, or the small would starve the large."""
        effects: list[e.Effect] = []
        whole, life = self._whole, self._executor_life
        while self._stop_by_s is None:
            job = self._waiting.first()
            if job is None or not self._room.fits(job.size, self._quick.room(job, whole)):
                break
            self._waiting.remove(job)
            job.in_line = False
            if job.no_overlap and not self._leases.enough(job, now):
                continue  # back in line with its next one
            job.phase = Phase.RUNNING
            self._room.enter(job, whole)
            effects.append(e.Store(Table.ATTEMPTS, job.task, job.row()))
            effects.append(
                e.Run(
                    task=job.task,
                    token=job.token,
                    owner=job.owner,
                    payload=job.payload,
                    epoch=job.epoch,
                    life=life,
                    gpus=job.gpus,
                    slots=job.size.slots,
                    until_s=job.lease_until_s,
                )
            )
            if job.volatile:
                job.payload = b""  # never asked for again under this token
        return effects

    def _started(self, task: TaskId, token: Token, started: float) -> None:
        job = self._jobs.get(task)
        if job is not None and job.token == token and job.phase is Phase.RUNNING:
            job.payload = b""
            self._news.started(job.owner, task, token, started)

    def _handed_back(self, task: TaskId, token: Token) -> list[e.Effect]:
        """It waits here again, where the leader can have it taken to another node."""
        self._quick.held_up = True
        job = self._jobs.get(task)
        if job is None or job.token != token or job.phase is not Phase.RUNNING or job.ending:
            return []
        if job.payload:
            return self._again(job)
        self._room.leave(job)  # a former self of this node sent it there: its payload is not here any more
        self._news.returned(job.owner, task, token, HELD_UP)
        return self._forget(job)

    def _exited(self, task: TaskId, token: Token, exit: Exit) -> list[e.Effect]:
        job = self._jobs.get(task)
        if job is None or job.token != token:
            return [e.Forget(task, token)]
        if job.phase not in (Phase.RUNNING, Phase.UNKNOWN, Phase.MAYBE):
            return []
        if job.phase is Phase.RUNNING:
            self._room.leave(job)
        self._leases.drop(task)
        self._quick.held_up = False
        if exit.ended_by == REFUSED:
            self._news.returned(job.owner, task, token, exit.error)
            return self._forget(job)
        job.phase, job.payload = Phase.ENDED, b""
        self._news.ended(job.owner, task, token)
        if not self._admission.member(job.owner):
            return self._forget(job)
        self._deliveries.add(job.owner, m.Outcome(task, token, exit))
        return [e.Store(Table.ATTEMPTS, task, job.row(exit))]

    def _acknowledged(self, task: TaskId, token: Token, sender: NodeId) -> list[e.Effect]:
        job = self._jobs.get(task)
        if job is None or job.token != token or job.owner != sender:
            return []
        return self._forget(job) if job.phase in (Phase.ENDED, Phase.MAYBE) else []

    def _forget(self, job: Job) -> list[e.Effect]:
        self._deliveries.acknowledged(job.owner, job.task)
        self._leases.drop(job.task)
        del self._jobs[job.task]
        return [e.Store(Table.ATTEMPTS, job.task, None), e.Forget(job.task, job.token)]

    def _kill(self, job: Job, reason: str, grace_s: float) -> list[e.Effect]:
        """End what runs, once; its exit is the confirmation."""
        if job.ending:
            return []
        job.ending = reason
        return [e.Kill(job.task, job.token, reason, grace_s)]

    def _adopt(self, job: Job, now: float) -> list[e.Effect]:
        if job.no_overlap:
            self._leases.add(job, now)
        if job.phase is not Phase.RUNNING:
            self._room.enter(job, self._whole)
        job.phase, job.payload = Phase.RUNNING, b""
        self._tell(job)
        reason, job.ending = job.ending, ""
        return self._kill(job, reason, self.settings.kill_grace_s) if reason else []
