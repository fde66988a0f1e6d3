"""Bugs in how an owner keeps a task: retries, grace, intents, tokens."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from openclaw.exec import (
    ledger,
    outbox,
    owner,
    timers,
    watch,
)
from openclaw.ids import owner_of
from sims.planted.base import Mutant, Wrong
from sims.planted.worlds import dying, hasty, hostile


def as_if_not_once(true: Any) -> Any:
    def give_up(self: Any, entry: Any, *args: Any, **kwargs: Any) -> None:
        kept, entry.submission = entry.submission, replace(entry.submission, once=False)
        true(self, entry, *args, **kwargs)
        entry.submission = kept

    return give_up


def no_grace_for_once(true: Any) -> Any:
    return lambda self, entry, peer: 0.0 if entry.submission.once else true(self, entry, peer)


def no_grace_for_what_ran(true: Any) -> Any:
    return lambda self, entry, peer: (
        true(self, entry, peer) if entry.submission.once or peer.back_soon else 0.0
    )


def acknowledged_before_fetched(true: Any) -> Any:
    def conclude(self: Any, entry: Any, to: Any, exit: Any, token: Any, worker: Any, *args: Any) -> None:
        true(self, entry, to, exit, token, worker, *args)
        self.out.acknowledge(worker, entry.progress.task, token)

    return conclude


def one_retry_more(true: Any) -> Any:
    def verdict(submission: Any, progress: Any, exit: Any, *, current: bool) -> Any:
        return true(replace(submission, retries=submission.retries + 1), progress, exit, current=current)

    return verdict


def unsaid(reason: str) -> Wrong:
    """Workers are not told to end an attempt for this reason."""

    def wrong(true: Any) -> Any:
        def end(self: Any, worker: Any, task: Any, token: Any, why: str) -> None:
            if why != reason:
                true(self, worker, task, token, why)

        return end

    return wrong


def retried_never(true: Any) -> Any:
    def set_(self: Any, when: float, kind: str, *args: Any) -> None:
        if kind != "retry":
            true(self, when, kind, *args)

    return set_


def tokens_of_one_start(true: Any) -> Any:
    """Attempts are counted anew in every start."""

    def restore(self: Any, submission: Any, progress: Any, now: float) -> None:
        true(self, submission, replace(progress, attempt=0), now)

    return restore


def told_twice_counted_twice(true: Any) -> Any:
    return lambda self, *args, **_: true(self, *args, gave_up=True)


def without_intent(true: Any) -> Any:
    def move(self: Any, entry: Any, *args: Any, **changes: Any) -> None:
        true(self, entry, *args, **{**changes, "intent": False} if "intent" in changes else changes)

    return move


def cancelled_here_alone(true: Any) -> Any:
    def cancel(self: Any, tasks: Any, now: float) -> None:
        true(self, tuple(task for task in tasks if owner_of(task) == self.me), now)

    return cancel


def any_return_will_do(true: Any) -> Any:
    """What a worker gives back is taken for the attempt that it has now."""

    def returned(self: Any, refused: Any, sender: Any, now: float) -> None:
        entry = self.ledger.tasks.get(refused.task)
        if entry is not None and entry.progress.worker == sender and entry.progress.token is not None:
            refused = replace(refused, token=entry.progress.token)
        true(self, refused, sender, now)

    return returned


OWNERS = (
    Mutant(
        "any return will do",
        "an old return is not of the new attempt",
        ("given up for cause",),
        owner.Owner,
        "_returned",
        any_return_will_do,
        hasty,
    ),
    Mutant(
        "--once again",
        "--once never starts twice",
        ("retries", "once"),
        ledger.Ledger,
        "give_up",
        as_if_not_once,
        dying,
    ),
    Mutant(
        "no grace for --once",
        "--once waits for its worker to come back",
        ("grace",),
        watch.Watch,
        "_grace_s",
        no_grace_for_once,
        dying,
    ),
    Mutant(
        "no grace for what ran",
        "what ran long is given time",
        ("grace",),
        watch.Watch,
        "_grace_s",
        no_grace_for_what_ran,
    ),
    Mutant(
        "acknowledged before fetched",
        "an outcome is acknowledged when all of it is here",
        ("outcomes are kept",),
        ledger.Ledger,
        "conclude",
        acknowledged_before_fetched,
    ),
    Mutant("one retry more", "--retries counts", ("retries",), owner, "verdict", one_retry_more),
    Mutant(
        "told twice, counted twice",
        "a failure counts once",
        ("retries",),
        owner.Owner,
        "_judge",
        told_twice_counted_twice,
        hostile,
    ),
    Mutant(
        "cancelled in silence",
        "a cancellation reaches the worker",
        ("cancel",),
        outbox.Outbox,
        "end",
        unsaid("cancel"),
    ),
    Mutant(
        "cancelled by its owner alone",
        "a cancellation may be asked for anywhere",
        ("cancel",),
        owner.Owner,
        "_cancel",
        cancelled_here_alone,
    ),
    Mutant(
        "copies run on",
        "a copy that was given up is ended",
        ("copies are ended",),
        outbox.Outbox,
        "end",
        unsaid("superseded"),
    ),
    Mutant(
        "never retried",
        "a task that waits has a deadline",
        ("a deadline", "every task ends"),
        timers.Timers,
        "set",
        retried_never,
    ),
    Mutant(
        "attempts counted anew",
        "a token is minted once",
        ("new tokens",),
        ledger.Ledger,
        "restore",
        tokens_of_one_start,
        dying,
        unseen=True,
    ),
    Mutant(
        "without intent",
        "the intent of --once is stored first",
        ("intent first",),
        ledger.Ledger,
        "move",
        without_intent,
    ),
)
