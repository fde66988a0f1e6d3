"""Bugs in how tasks are kept twice, and how they change their owner."""

from __future__ import annotations

from typing import Any

from openclaw.effects import Store
from openclaw.exec import custody, guardian, shelf, succession, worker
from openclaw.notes import Accepted
from openclaw.records import Table
from sims.planted.base import Mutant, says
from sims.planted.worlds import orphaned


def said_and_not_kept(true: Any) -> Any:
    def keep(self: Any, copy: Any, now: float) -> None:
        true(self, copy, now)
        self._out = [
            effect
            for effect in self._out
            if not (isinstance(effect, Store) and effect.table is Table.COPIES and effect.value is not None)
        ]

    return keep


def promised_at_once(true: Any) -> Any:
    def promise(self: Any, submissions: Any, now: float) -> None:
        true(self, submissions, now)
        named = () if self.guardian is None else (self.guardian,)
        self.ledger.out.effects.append(Accepted(tuple(each.task for each in submissions), named))

    return promise


def started_untold(true: Any) -> Any:  # noqa: ARG001
    return lambda self, entry: True  # noqa: ARG005


def settled_at_once(true: Any) -> Any:  # noqa: ARG001
    return lambda self, entry: True  # noqa: ARG005


def asking_nobody(true: Any) -> Any:  # noqa: ARG001
    def seek(self: Any, now: float) -> None:
        for entry in list(self.ledger.tasks.values()):
            if entry.sought:
                entry.sought = False
                self._again(entry, now, "", died=False)

    return seek


def at_once(true: Any) -> Any:
    return lambda self, owner, until_s: true(self, owner, until_s - self.settings.guard_grace_s)


def never_yielding(true: Any) -> Any:  # noqa: ARG001
    return lambda self, entry, claim: None  # noqa: ARG005


def keeps_what_it_released(true: Any) -> Any:
    def release(self: Any, *asked: Any) -> None:
        true(self, *asked)
        self._out = [e for e in self._out if not (isinstance(e, Store) and e.table is Table.COPIES)]

    return release


def still_gone(true: Any) -> Any:
    def member(self: Any, note: Any, now: float) -> None:
        gone = dict(self._gone_until_s)
        true(self, note, now)
        self._gone_until_s = gone | self._gone_until_s

    return member


def finds_nothing(true: Any) -> Any:
    """An heir is told of nothing that this worker has."""

    def sought(self: Any, seek: Any, sender: Any) -> None:
        jobs, self._jobs = self._jobs, {}
        true(self, seek, sender)
        self._jobs = jobs

    return sought


GUARDS = (
    Mutant(
        "released and kept",
        "a copy that is said to be gone is gone",
        ("guarded is kept",),
        guardian.Guardian,
        "_release",
        keeps_what_it_released,
        orphaned,
    ),
    Mutant(
        "old news of copies",
        "a copy only grows",
        ("guarded is kept",),
        guardian,
        "_newer",
        says(False),
        orphaned,
    ),
    Mutant(
        "outputs kept once",
        "a guardian has the outputs of an end too",
        ("outputs",),
        shelf.Shelf,
        "_wants_outputs",
        says(False),
        orphaned,
    ),
    Mutant(
        "still gone",
        "an owner that is back keeps its tasks",
        ("takeovers are earned",),
        guardian.Guardian,
        "_member",
        still_gone,
        orphaned,
    ),
    Mutant(
        "finds nothing",
        "an heir is told what every worker has",
        ("not started", "once"),
        worker.Worker,
        "_sought",
        finds_nothing,
        orphaned,
    ),
    Mutant(
        "said and not kept",
        "what a guardian says that it keeps is on its disk",
        ("guarded is kept",),
        shelf.Shelf,
        "_keep",
        said_and_not_kept,
        orphaned,
    ),
    Mutant(
        "promised before it is kept",
        "an acceptance names a guardian that has the task",
        ("guarded is kept",),
        custody.Custody,
        "promise",
        promised_at_once,
        orphaned,
    ),
    Mutant(
        "started before its guardian knows",
        "an intent is at every guardian before the assignment leaves",
        ("intents are kept",),
        custody.Custody,
        "may_start",
        started_untold,
        orphaned,
    ),
    Mutant(
        "settled before its guardian knows",
        "an end is provisional until its guardian has it",
        ("ends are kept twice",),
        custody.Custody,
        "_known",
        settled_at_once,
        orphaned,
    ),
    Mutant(
        "taken over unasked",
        "whoever takes over asks everybody first",
        ("takeovers are earned", "once"),
        succession.Succession,
        "seek",
        asking_nobody,
        orphaned,
    ),
    Mutant(
        "taken over at once",
        "an owner has its grace to come back",
        ("takeovers are earned",),
        guardian.Guardian,
        "_gone",
        at_once,
        orphaned,
    ),
    Mutant(
        "never yielding",
        "the lower claim yields",
        ("lower claims yield",),
        succession.Succession,
        "give",
        never_yielding,
        orphaned,
    ),
)
