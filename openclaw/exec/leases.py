"""Leases: how long an attempt of a task that must not overlap (`--no-overlap`) may run on its owner's last word.

Promises: nothing starts without a lease, and what runs is ended by its executor when the last one is over, also when
this node is dead. The worker counts a lease from when it asked for it; its owner counts from when it answered, and adds
a margin for the rates of their clocks: whoever granted it starts the task elsewhere only after it has ended here.
Source: Gray and Cheriton, Leases: An Efficient Fault-Tolerant Mechanism for Distributed File Cache Consistency, 1989.
"""

from __future__ import annotations

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Send
from openclaw.exec.jobs import Job, Phase
from openclaw.exec.outbox import cut
from openclaw.ids import NodeId, TaskId, Token

_RENEW_AFTER = 1 / 3  # of a lease, another one is asked for
_ASKED_MAX = 256  # questions whose answers still count


class Leases:
    """The worker's side."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._jobs: dict[TaskId, Job] = {}
        self._asked_s: dict[int, float] = {}
        self._number = 0

    def add(self, job: Job, now: float) -> None:
        """`job` waits for a lease, or runs under one that its owner may have given to our former self."""
        self._jobs[job.task] = job
        job.ask_lease_s = now

    def drop(self, task: TaskId) -> None:
        self._jobs.pop(task, None)

    def waiting(self) -> list[Job]:
        """What cannot start yet for want of one."""
        return [job for job in self._jobs.values() if job.phase is Phase.WAITING and not job.in_line]

    @staticmethod
    def enough(job: Job, now: float) -> bool:
        """Whether it may start: with time left to renew."""
        return job.lease_until_s - now > job.lease_s * _RENEW_AFTER

    def granted(self, message: m.Leased, sender: NodeId) -> list[Job]:
        """Those of our jobs that may go on for longer now."""
        asked_s = self._asked_s.get(message.number)
        if asked_s is None:
            return []
        until_s = asked_s + message.lease_s
        longer = []
        for task, token in message.items:
            job = self._jobs.get(task)
            if job is None or job.token != token or job.owner != sender or job.lease_until_s >= until_s:
                continue
            job.lease_until_s, job.lease_s = until_s, message.lease_s
            job.ask_lease_s = asked_s + message.lease_s * _RENEW_AFTER
            longer.append(job)
        return longer

    def next(self) -> float | None:
        return min((job.ask_lease_s for job in self._jobs.values()), default=None)

    def flush(self, now: float) -> list[Effect]:
        """Ask for what is due, and again if no answer comes."""
        due: dict[NodeId, list[tuple[TaskId, Token]]] = {}
        for job in self._jobs.values():
            if job.ask_lease_s <= now:
                job.ask_lease_s = now + self._settings.lease_ask_again_s
                due.setdefault(job.owner, []).append((job.task, job.token))
        effects: list[Effect] = []
        for owner, rows in due.items():
            for part in cut(rows):
                self._number += 1
                self._asked_s[self._number] = now
                effects.append(Send(owner, m.Renew(self._number, part)))
        while len(self._asked_s) > _ASKED_MAX:
            del self._asked_s[next(iter(self._asked_s))]
        return effects
