"""Bugs in who gets a task: grants, leases, demand."""

from __future__ import annotations

from collections import deque
from typing import Any

from msgspec.structs import replace

from openclaw.exec import (
    bench,
    leader,
    news,
    placing,
    schedule,
    worker,
)
from openclaw.ids import NO_EPOCH
from sims.planted.base import Mutant, does_nothing, planted, says
from sims.planted.worlds import crowded, hasty, hoarding, lossy, queueing, turning


def fullest_first(_true: Any) -> Any:
    def fewest(heap: list[Any], want: Any) -> Any:
        able = [entry[-1] for entry in heap if entry[-1].load / entry[-1].slots < want.depth]
        if not able:
            return None
        seat = max(able, key=lambda seat: (seat.load / seat.slots, seat.node))
        seat.load += 1
        return seat

    return fewest


def grants_counted_twice(true: Any) -> Any:
    """What is on its way to an owner is granted again when it asks again."""

    def demanded(self: Any, demand: Any, owner: Any, now: float) -> None:
        true(self, replace(demand, seen=1 << 40), owner, now)

    return demanded


def not_demanded_again(true: Any) -> Any:
    def follow(self: Any, epoch: Any, now: float) -> None:
        changed = self._ledger.demands.changed
        true(self, epoch, now)
        self._ledger.demands.changed = changed

    return follow


def leases_leak(true: Any) -> Any:
    def expire(self: Any, now: float) -> None:
        while self._leases and self._leases[0][0] <= now:
            self._leases.popleft()
        true(self, now)

    return expire


def taken_back_and_started(true: Any) -> Any:
    """Says "not started", and starts it in its turn."""

    def recalled(self: Any, recall: Any) -> None:
        with planted(bench.Workbench, "_drop_waiting", does_nothing):
            true(self, recall)

    return recalled


class Stubborn(deque[Any]):
    """Whoever is first stays first."""

    def rotate(self, n: int = 1) -> None:
        pass


def first_takes_all(true: Any) -> Any:
    return lambda self, order, room: true(self, Stubborn(order), room)


def stale_grants_used(true: Any) -> Any:
    def granted(self: Any, grant: Any, sender: Any, now: float) -> None:
        known, self._epoch = self._epoch, NO_EPOCH
        true(self, grant, sender, now)
        self._epoch = known

    return granted


def unused_kept(true: Any) -> Any:
    def granted(self: Any, grant: Any, sender: Any, now: float) -> None:
        unused = list(self._unused)
        true(self, grant, sender, now)
        self._unused = unused

    return granted


PLACING = (
    Mutant(
        "all are as urgent",
        "what is more urgent comes first",
        ("served in turn",),
        schedule,
        "_urgency",
        says(0),
        queueing,
    ),
    Mutant(
        "the first takes all",
        "owners take turns, one task each",
        ("served in turn",),
        schedule.Scheduler,
        "_round_robin",
        first_takes_all,
        queueing,
    ),
    Mutant(
        "turns forgotten",
        "whose turn it is outlasts the instant",
        ("served in turn",),
        schedule.Scheduler,
        "_served",
        does_nothing,
        queueing,
    ),
    Mutant(
        "stale grants used",
        "a grant is good for as long as its leader is",
        ("grants are used once",),
        placing.Placing,
        "granted",
        stale_grants_used,
        hasty,
    ),
    Mutant(
        "unused grants kept",
        "a place that found no task goes back",
        ("unused goes back",),
        placing.Placing,
        "granted",
        unused_kept,
        hasty,
    ),
    Mutant(
        "nobody is relieved",
        "what has waited for too long is first",
        ("grants",),
        schedule,
        "_relieve",
        says(0),
        crowded,
    ),
    Mutant(
        "nothing is taken back",
        "no slot is free for long while work waits elsewhere",
        ("grants",),
        leader,
        "recall",
        says(([], None)),
        hoarding,
    ),
    Mutant(
        "taken back and started",
        "what was taken back never starts under its token",
        ("not started",),
        worker.Worker,
        "_recalled",
        taken_back_and_started,
        hoarding,
    ),
    Mutant("fullest first", "the fewest tasks a slot", ("grants",), schedule, "_fewest", fullest_first),
    Mutant(
        "granted twice",
        "a grant on its way is not granted again",
        ("grants",),
        leader.Leader,
        "_demanded",
        grants_counted_twice,
    ),
    Mutant(
        "leases leak",
        "a grant that nobody used is free again",
        ("grants",),
        leader.Leader,
        "_expire",
        leases_leak,
        lossy,
    ),
    Mutant(
        "empty hand-over",
        "a successor knows what is on its way",
        ("grants",),
        leader.Leader,
        "_outstanding",
        says(()),
        turning,
        unseen=True,
    ),
    Mutant(
        "not demanded again",
        "a new leader hears of all that waits",
        ("a deadline", "every task ends"),
        placing.Placing,
        "follow",
        not_demanded_again,
        turning,
    ),
    Mutant(
        "taken untold",
        "a worker tells what it took of each grant",
        ("demand",),
        news.News,
        "took",
        does_nothing,
    ),
)
