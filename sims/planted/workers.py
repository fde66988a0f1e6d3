"""Bugs in how a worker takes and ends a task: fences, slots, outcomes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from msgspec.structs import replace

from openclaw.effects import Store
from openclaw.exec import (
    admission,
    bench,
    deliveries,
    fences,
    room,
    worker,
)
from openclaw.records import Attempt, Table
from sims.planted.base import Mutant, does_nothing, planted, says, without
from sims.planted.worlds import draining, graphic, hasty, hostile, hurried, large, small, withdrawn


def old_epochs_welcome(true: Any) -> Any:
    def refuse_all(self: Any, assign: Any, sender: Any, now: float) -> Any:
        return true(self, replace(assign, epoch=max(assign.epoch, self._epoch)), sender, now)

    return refuse_all


def any_start_will_do(true: Any) -> Any:
    def refuse_all(self: Any, assign: Any, sender: Any, now: float) -> Any:
        return true(self, replace(assign, boot=self._boot), sender, now)

    return refuse_all


def unsworn(true: Any) -> Any:
    """Says "not started", and keeps no fence."""

    def asked(self: Any, ask: Any, sender: Any) -> None:
        with planted(type(self._fences), "raise_to", does_nothing):
            true(self, ask, sender)

    return asked


def memory_without_end(true: Any) -> Any:
    def fits(self: Any, size: Any, whole: Any) -> Any:
        return true(self, size, replace(whole, memory_bytes=1 << 50))

    return fits


def last_come_first_served(true: Any) -> Any:
    def start(self: Any, now: float) -> Any:
        self._waiting._jobs = OrderedDict(reversed(self._waiting._jobs.items()))
        return true(self, now)

    return start


def attempt_unstored(true: Any) -> Any:
    return without(lambda e: isinstance(e, Store) and isinstance(e.value, Attempt))(true)


def end_unstored(true: Any) -> Any:
    return without(lambda e: isinstance(e, Store) and e.table is Table.ATTEMPTS and e.value is not None)(true)


def takes_while_it_drains(true: Any) -> Any:
    def refuse_all(self: Any, assign: Any, sender: Any, now: float) -> Any:
        self.draining, self._meta = False, replace(self._meta, draining=False)
        self._by_needs.clear()
        return true(self, assign, sender, now)

    return refuse_all


def told_once(_true: Any) -> Any:
    def overdue(_self: Any, line: Any, now: float) -> Any:
        if line.sent and next(iter(line.sent.values()))[1] + line.pause_s <= now:
            line.sent.clear()
        return []

    return overdue


def one_slot_more(true: Any) -> Any:
    return property(lambda self: replace(true.fget(self), slots=true.fget(self).slots + 1))


def gives_back_all(true: Any) -> Any:
    return lambda self, recall: true(self, replace(recall, count=10**6))


def what_waits_is_not_ended(true: Any) -> Any:
    def end(self: Any, end: Any, sender: Any) -> Any:
        waits = {job.task for job in self._waiting}
        return true(self, replace(end, items=tuple(i for i in end.items if i[0] not in waits)), sender)

    return end


def answers_at_once(true: Any) -> Any:
    def asked(self: Any, ask: Any, sender: Any) -> None:
        up, self._executor_up = self._executor_up, True
        true(self, ask, sender)
        self._executor_up = up

    return asked


def a_gpu_for_two(true: Any) -> Any:
    def enter(self: Any, job: Any, whole: Any) -> None:
        self._gpus = set()
        true(self, job, whole)

    return enter


WORKERS = (
    Mutant(
        "answers at once",
        "who is asked finds out first what it has",
        ("informed answers",),
        worker.Worker,
        "_asked",
        answers_at_once,
        hurried,
    ),
    Mutant(
        "a GPU for two", "a GPU belongs to one task", ("slots",), room.Room, "enter", a_gpu_for_two, graphic
    ),
    Mutant(
        "old epochs welcome",
        "no older epoch than the newest stored",
        ("assigned",),
        admission.Admission,
        "refuse_all",
        old_epochs_welcome,
        hasty,
    ),
    Mutant(
        "any start will do",
        "an assignment is for one start of the worker",
        ("assigned",),
        admission.Admission,
        "refuse_all",
        any_start_will_do,
        hurried,
    ),
    Mutant(
        "no fence",
        "a token starts once",
        ("a token starts once", "not started"),
        fences.Fences,
        "passes",
        says(True),
        hostile,
    ),
    Mutant(
        "sworn off and started",
        "what was sworn off never starts",
        ("not started",),
        worker.Worker,
        "_asked",
        unsworn,
        hostile,
    ),
    Mutant(
        "last come, first served",
        "first come, first served",
        ("first come, first served",),
        bench.Workbench,
        "_start",
        last_come_first_served,
    ),
    Mutant(
        "attempt unstored",
        "an attempt is stored before it starts",
        ("stored before started",),
        bench.Workbench,
        "_start",
        attempt_unstored,
    ),
    Mutant(
        "end unstored",
        "an outcome is stored before it is told",
        ("real results",),
        bench.Workbench,
        "_exited",
        end_unstored,
    ),
    Mutant(
        "one slot more",
        "what must not run twice waits for a slot, and not in the executor",
        ("once waits for its room",),
        bench.Workbench,
        "_whole",
        one_slot_more,
    ),
    Mutant(
        "memory without end",
        "no node runs more than it has memory for",
        ("slots",),
        room.Room,
        "fits",
        memory_without_end,
        large,
    ),
    Mutant(
        "takes what comes while it drains",
        "the worker has the last word",
        ("the last word",),
        admission.Admission,
        "refuse_all",
        takes_while_it_drains,
        draining,
    ),
    Mutant(
        "outcome told once",
        "an outcome is told until it is acknowledged",
        ("every task ends", "nothing left behind"),
        deliveries.Deliveries,
        "_overdue",
        told_once,
        hostile,
    ),
    Mutant(
        "what waits is not ended",
        "what was ended before it began never begins",
        ("killed when told",),
        worker.Worker,
        "_end",
        what_waits_is_not_ended,
        withdrawn,
    ),
    Mutant(
        "gives back all that waits",
        "no more is taken back than was asked for",
        ("taken back when asked",),
        worker.Worker,
        "_recalled",
        gives_back_all,
        small,
    ),
)
