"""What dies where: the steps of a task's life, the roles for whom each matters, and the cells that come of it.

A step is a fault point that one role passes (`openclaw.faultpoints`). Its own role dies there by its own hand; any
other role is killed by whoever passes it, so the instant is the same for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    OWNER = "owner"  # where the task is submitted
    GUARDIAN = "guardian"
    LEADER = "leader"
    WORKER = "worker"
    EXECUTOR = "executor"  # the worker's


OWNER, GUARDIAN, LEADER, WORKER, EXECUTOR = Role


@dataclass(frozen=True, slots=True)
class Step:
    """`held`: the commands of the tasks wait until whoever died is back, else they end by themselves."""

    name: str
    point: str
    at: Role
    held: bool = True
    passes: int = 1


STEPS = (
    Step("submission received", "received.Submitted", OWNER),
    Step("record to be stored", "storing.tasks", OWNER),
    Step("record stored", "stored.tasks", OWNER),
    Step("copy sent", "sent.Guard.queued", OWNER),
    Step("copy received", "received.Guard.queued", GUARDIAN),
    Step("copy stored", "stored.copies.queued", GUARDIAN),
    Step("copy acknowledged", "sent.Guarded", GUARDIAN),
    Step("acceptance answered", "answered.submit", OWNER),
    Step("demand sent", "sent.Demand", OWNER),
    Step("demand received", "received.Demand", LEADER),
    Step("grant sent", "sent.Grant", LEADER),
    Step("grant received", "received.Grant", OWNER),
    Step("intent to be stored", "storing.progress.placed", OWNER),
    Step("intent stored", "stored.progress.placed", OWNER),
    Step("intent copied", "stored.copies.placed", GUARDIAN),
    Step("assign sent", "sent.Assign", OWNER),
    Step("assign received", "received.Assign", WORKER),
    Step("attempt to be stored", "storing.attempts.running", WORKER),
    Step("attempt stored", "stored.attempts.running", WORKER),
    Step("run handed over", "performed.Run", WORKER),
    Step("run asked for", "executor.asked", EXECUTOR),
    Step("run recorded", "executor.recorded", EXECUTOR),
    Step("run started", "executor.spawned", EXECUTOR),
    Step("start reported", "sent.Started", WORKER),
    Step("start stored", "stored.progress.running", OWNER),
    Step("end to be recorded", "executor.ending", EXECUTOR, held=False),
    Step("end recorded", "executor.ended", EXECUTOR, held=False),
    Step("outcome to be stored", "storing.attempts.final", WORKER, held=False),
    Step("outcome stored", "stored.attempts.final", WORKER, held=False),
    Step("outcome sent", "sent.Outcomes", WORKER, held=False),
    Step("outcome received", "received.Outcomes", OWNER, held=False),
    Step("final to be stored", "storing.progress.final", OWNER, held=False),
    Step("final stored", "stored.progress.final", OWNER, held=False),
    Step("end told", "sent.Guard.final", OWNER, held=False),
    Step("end copied", "stored.results.final", GUARDIAN, held=False),
    Step("outcome acknowledged", "sent.OutcomesStored", OWNER, held=False),
    Step("outcome forgotten", "stored.attempts.gone", WORKER, held=False),
)
STEP = {step.name: step for step in STEPS}

# At whose steps else a role dies in `CELLS`: where most is under way to or from it. `EVERYWHERE` has all of its span.
ALSO = {
    OWNER: ("copy stored", "grant sent", "attempt stored", "run started", "outcome stored", "end copied"),
    GUARDIAN: ("copy sent", "acceptance answered", "assign sent", "final stored"),
    LEADER: ("acceptance answered", "grant received"),
    WORKER: ("grant sent", "assign sent", "run started", "end recorded", "final stored"),
    EXECUTOR: ("attempt stored", "run handed over", "start reported"),
}

# Before and after these a role has nothing to do with the task: its death would be that of any other node.
SPANS = {
    OWNER: ("submission received", "outcome forgotten"),
    GUARDIAN: ("record stored", "outcome acknowledged"),
    LEADER: ("acceptance answered", "grant received"),
    WORKER: ("grant sent", "outcome forgotten"),
    EXECUTOR: ("attempt stored", "outcome stored"),
}

TAKEN_OVER = Step("taken over", "sent.Seek", GUARDIAN)


@dataclass(frozen=True, slots=True)
class Death:
    step: Step
    victims: tuple[Role, ...]

    def __str__(self) -> str:
        return f"{'+'.join(self.victims)} at {self.step.name}"


@dataclass(frozen=True, slots=True)
class Cell:
    """Deaths in a row, each at another node's point."""

    deaths: tuple[Death, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.deaths))

    @property
    def victims(self) -> tuple[Role, ...]:
        return tuple(victim for death in self.deaths for victim in death.victims)

    @property
    def held(self) -> bool:
        return all(death.step.held for death in self.deaths)


def _cells(*, everywhere: bool) -> Iterator[Cell]:
    names = [step.name for step in STEPS]
    for role, (first, last) in SPANS.items():
        for step in STEPS[names.index(first) : names.index(last) + 1]:
            if everywhere or step.at is role or step.name in ALSO[role]:
                yield Cell((Death(step, (role,)),))


def _in_a_row() -> Iterator[Cell]:
    """The new owner dies as soon as it has asked around, at each step at which it has the first owner's tasks."""
    for name in ("acceptance answered", "assign sent", "start stored"):
        yield Cell((Death(STEP[name], (OWNER,)), Death(TAKEN_OVER, (GUARDIAN,))))
    for name in ("grant sent", "attempt stored"):
        yield Cell((Death(STEP[name], (LEADER, WORKER)),))
    yield Cell((Death(STEP["copy stored"], (GUARDIAN,)), Death(STEP["start stored"], (OWNER,))))
    yield Cell((Death(STEP["grant sent"], (LEADER,)), Death(STEP["assign sent"], (OWNER,))))
    yield Cell((Death(STEP["run started"], (WORKER, EXECUTOR)),))
    yield Cell((Death(STEP["start stored"], (OWNER, WORKER)),))


CELLS = (*_cells(everywhere=False), *_in_a_row())
EVERYWHERE = (*_cells(everywhere=True), *_in_a_row())
