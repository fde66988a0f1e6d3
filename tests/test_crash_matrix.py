"""The crash matrix (`benchmarks/crashes`): every role dies by SIGKILL at every step at which that matters, three times.

In the first round whoever died is back at once, in the second as the others give it up, in the third when all is over
without it. A kill that missed its point fails its cell, as does a task that has not one end that every node knows.
The thousands of runs are for `python -m benchmarks.crashes --rounds N --seed S`.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from benchmarks.crashes.__main__ import table
from benchmarks.crashes.cells import CELLS, STEPS, Cell, Role
from benchmarks.crashes.matrix import play_all
from benchmarks.crashes.run import Report

ROUNDS = 3
SEED = 1
MESHES = 4


@dataclass
class Played:
    reports: list[Report]
    left: list[str]


@pytest.fixture(scope="module")
def played(request: pytest.FixtureRequest) -> Played:
    """All cells that were asked for, side by side: most of a run is waiting."""
    wanted = {item.callspec.params.get("cell") for item in request.session.items if hasattr(item, "callspec")}
    cells = [cell for cell in CELLS if cell in wanted]
    result = Played(*play_all(cells, ROUNDS, SEED, MESHES, lambda _report: None))
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print("", table(result.reports), sep="\n")
    return result


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_death_loses_and_doubles_nothing(cell: Cell, played: Played) -> None:
    reports = [report for report in played.reports if report.cell == cell]
    problems = [
        f"back {report.returns}: {problem}" for report in reports for problem in report.problems
    ] + played.left
    assert not problems, "\n".join(problems)
    assert len(reports) == ROUNDS


def test_every_role_dies_at_each_step_that_is_its_own() -> None:
    single = {(cell.deaths[0].step.name, cell.victims[0]) for cell in CELLS if len(cell.victims) == 1}
    assert {(step.name, step.at) for step in STEPS} <= single
    assert {role for _, role in single} == set(Role)
