"""Bugs in what is kept and told of a task from end to end, and in how a mesh finds together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from openclaw.effects import StopAsked, Store
from openclaw.election import bully
from openclaw.exec import bench, deliveries, demand, ledger, outbox, timers, watch, worker
from openclaw.gossip import prober, roll, voice
from openclaw.messages import Outcomes, Status
from openclaw.notes import MemberChanged
from openclaw.records import State, Table
from sims.planted.base import Mutant, does_nothing
from sims.planted.worlds import busy, dead, dying, parted, sleepy, small


def promised_unstored(true: Any) -> Any:
    def admit(self: Any, submissions: Any, now: float) -> None:
        true(self, submissions, now)
        self.out.effects = [
            e for e in self.out.effects if not (isinstance(e, Store) and e.table is Table.TASKS)
        ]

    return admit


def fetched_is_success(true: Any) -> Any:
    def fetched(self: Any, entry: Any, error: str = "") -> None:
        entry.progress = replace(entry.progress, state=State.SUCCEEDED)
        true(self, entry, error)

    return fetched


def no_story(true: Any) -> Any:
    def advance(progress: Any, *args: Any, **changes: Any) -> Any:
        return replace(true(progress, *args, **changes), story=progress.story)

    return advance


def called_fetched(true: Any) -> Any:
    def move(self: Any, entry: Any, *args: Any, **changes: Any) -> None:
        true(self, entry, *args, **{**changes, "fetched": True} if "fetched" in changes else changes)

    return move


def uncounted_after_restart(true: Any) -> Any:
    def restore(self: Any, submission: Any, progress: Any, now: float) -> None:
        counts = dict(self._counts)
        true(self, submission, progress, now)
        self._counts = counts

    return restore


def keeps_nothing(true: Any) -> Any:
    def stop(self: Any, event: StopAsked, now: float) -> Any:
        return true(self, StopAsked(False, event.grace_s, event.leave), now)

    return stop


def news_of_a_start_ends_it(true: Any) -> Any:
    def current(self: Any, *args: Any) -> Any:
        entry = true(self, *args)
        return None if entry is not None and entry.progress.state is State.RUNNING else entry

    return current


def one_place_more(true: Any) -> Any:
    return lambda self, row, count, now: true(self, row, count + 1, now)


def any_claim_is_heeded(_true: Any) -> Any:
    def heed(self: Any, claim: Any, now: float) -> Any:
        if claim == self.leader or claim.node not in self._peers.boots:
            return []
        return self._follow(claim, "announced", now)

    return heed


def leaders_ignore_leaders(true: Any) -> Any:
    return lambda self, claim, now: [] if self.leading else true(self, claim, now)


def cleared_by_hearsay(true: Any) -> Any:
    def hear(self: Any, rumour: Any, now: float, out: Any, **how: Any) -> Any:
        row = self.rows.get(rumour.node)
        doubted = row is not None and row.suspicion is not None
        if doubted and rumour.status is Status.ALIVE and row.claim.incarnation == rumour.incarnation:
            self._hold(row, rumour)
            row.suspicion = None
            self.suspects.discard(rumour.node)
            out.append(MemberChanged(rumour.node, Status.ALIVE, rumour.incarnation))
        return true(self, rumour, now, out, **how)

    return hear


def the_dead_are_not_called(true: Any) -> Any:
    def hello(self: Any, node: Any, now: float, out: Any) -> None:
        row = self._roll.rows.get(node)
        if row is not None and row.claim.status is Status.DOWN:
            self._roll.lost.called(node, now)
        else:
            true(self, node, now, out)

    return hello


def all_in_one(_true: Any) -> Callable[..., Any]:
    return lambda _self, outcomes: [Outcomes(tuple(outcomes))] if outcomes else []


def unarmed(kind: str) -> Any:
    def wrong(true: Any) -> Any:
        def set_(self: Any, when: float, what: str, *args: Any) -> None:
            if what != kind:
                true(self, when, what, *args)

        return set_

    return wrong


def every_end_is_good(true: Any) -> Any:
    def exited(self: Any, task: Any, token: Any, exit: Any) -> Any:
        return true(self, task, token, replace(exit, code=0, ended_by=""))

    return exited


def deaths_uncounted(true: Any) -> Any:
    return lambda self, entry, now, reason, **_: true(self, entry, now, reason, died=False)


def youngest_first(_true: Any) -> Any:
    def take(self: Any, number: int, count: int, now: float) -> Any:
        row = self._live.get(number)
        tasks = [] if row is None else list(row.tasks)[::-1][:count]
        for task in tasks:
            self.remove(task, row)
            row.since_s = now
        return tasks

    return take


LIFECYCLES = (
    Mutant(
        "the youngest first",
        "of equal tasks the oldest gets the place",
        ("first in, first placed",),
        demand.Demands,
        "take",
        youngest_first,
    ),
    Mutant(
        "no goodbye",
        "who stops cleanly says so",
        ("goodbye",),
        voice.Voice,
        "farewell",
        does_nothing,
        busy,
    ),
    Mutant(
        "promised unstored",
        "what is promised is stored",
        ("accepted is durable",),
        ledger.Ledger,
        "admit",
        promised_unstored,
    ),
    Mutant(
        "fetched is success",
        "a final never changes",
        ("one final",),
        ledger.Ledger,
        "fetched",
        fetched_is_success,
        unseen=True,
    ),
    Mutant("no story", "every move of a task is in its story", ("legal moves",), ledger, "advance", no_story),
    Mutant(
        "called fetched",
        "outputs are fetched before they are called so",
        ("outputs",),
        ledger.Ledger,
        "move",
        called_fetched,
    ),
    Mutant(
        "uncounted after a restart",
        "what is counted survives a restart",
        ("counts",),
        ledger.Ledger,
        "restore",
        uncounted_after_restart,
        dying,
    ),
    Mutant(
        "keeps nothing",
        "who stops to be back soon ends nothing",
        ("killed when told",),
        worker.Worker,
        "_stop",
        keeps_nothing,
        busy,
    ),
    Mutant(
        "news of a start ends it",
        "the attempt that counts goes on",
        ("what counts goes on",),
        watch.Watch,
        "_current",
        news_of_a_start_ends_it,
    ),
    Mutant(
        "one place more",
        "an owner uses what it was granted, and no more",
        ("grants are used once",),
        demand.Demands,
        "take",
        one_place_more,
    ),
    Mutant(
        "any claim is heeded",
        "nobody follows an older leader",
        ("never an older leader",),
        bully.Bully,
        "_heed",
        any_claim_is_heeded,
        parted,
    ),
    Mutant(
        "leaders ignore leaders",
        "of two leaders that meet one yields",
        ("one leader",),
        bully.Bully,
        "_heed",
        leaders_ignore_leaders,
        parted,
    ),
    Mutant(
        "cleared by hearsay",
        "only a higher incarnation clears an accusation",
        ("claims only rise",),
        roll.Roll,
        "hear",
        cleared_by_hearsay,
    ),
    Mutant(
        "the dead are not called",
        "two halves find each other again",
        ("one view", "up is not down"),
        prober.Prober,
        "hello",
        the_dead_are_not_called,
        parted,
    ),
    Mutant(
        "all in one",
        "no message is larger than its limit",
        ("bounded messages",),
        deliveries.Deliveries,
        "_pack",
        all_in_one,
        small,
    ),
    Mutant(
        "never acknowledged",
        "an outcome that is stored is acknowledged",
        ("nothing left behind",),
        outbox.Outbox,
        "acknowledge",
        does_nothing,
    ),
    Mutant("graces never end", "a grace ends", ("a deadline",), timers.Timers, "set", unarmed("lost"), dead),
    Mutant(
        "nobody looks",
        "who is silent is asked",
        ("a deadline", "every task ends"),
        timers.Timers,
        "set",
        unarmed("watch"),
    ),
    Mutant(
        "every end is good",
        "a worker tells an end as it was",
        ("ends are witnessed",),
        bench.Workbench,
        "_exited",
        every_end_is_good,
    ),
    Mutant(
        "deaths uncounted",
        "what takes workers with it is counted",
        ("grace",),
        ledger.Ledger,
        "give_up",
        deaths_uncounted,
        dead,
    ),
    Mutant(
        "accuses as it wakes",
        "who slept accuses nobody for a while",
        ("earned verdicts",),
        prober.Prober,
        "quiet",
        does_nothing,
        sleepy,
    ),
)
