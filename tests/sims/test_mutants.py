"""Every planted bug is caught by a property that it names, in a world that holds without it."""

from __future__ import annotations

import pytest

from openclaw.gossip.roll import Roll
from sims.mutants import Caught, by_name, failed, hunt, table
from sims.planted import MUTANTS, Mutant
from sims.planted.unit_tests import passed, room
from sims.properties import all_properties
from sims.scenario import run

SEEDS = range(1, 41)
NAMES = [mutant.name for mutant in MUTANTS]
UNSEEN = [mutant for mutant in MUTANTS if mutant.unseen]
rows: list[Caught] = []


@pytest.mark.parametrize("name", NAMES)
def test_it_is_caught_by_a_property_that_it_names(name: str) -> None:
    row = hunt(by_name(name), SEEDS, enough=1)
    rows.append(row)
    assert row.first is not None, f"{name} survived {row.seeds} worlds; others failed: {dict(row.others)}"
    assert run(by_name(name).world(row.first)).failed == (), "its world fails without it"


def test_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print("\n" + table(rows))
    assert len(rows) == len(NAMES)


def test_no_two_have_a_name_or_break_a_rule_in_common() -> None:
    assert len(set(NAMES)) == len(NAMES) >= 20
    assert len({mutant.breaks for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.owner, mutant.target, mutant.wrong) for mutant in MUTANTS}) == len(MUTANTS)


def test_each_names_properties_that_there_are() -> None:
    known = {prop.name for prop in all_properties()}
    assert {name for mutant in MUTANTS for name in mutant.caught_by} <= known


@pytest.mark.parametrize("mutant", MUTANTS, ids=NAMES)
def test_the_true_function_is_back_afterwards(mutant: Mutant) -> None:
    true = vars(mutant.owner)[mutant.target]
    with mutant.planted():
        assert vars(mutant.owner)[mutant.target] is not true
    assert vars(mutant.owner)[mutant.target] is true


def test_five_at_least_pass_every_unit_test_of_the_core() -> None:
    assert len(UNSEEN) >= 5


@pytest.mark.parametrize("mutant", UNSEEN[:5], ids=[mutant.name for mutant in UNSEEN[:5]])
def test_what_is_called_unseen_passes_the_unit_tests_of_its_room(mutant: Mutant) -> None:
    """All rooms: `python -m sims mutants --unit-tests`."""
    assert passed(mutant.name, (room(mutant),))


def test_what_is_seen_does_not() -> None:
    assert not passed("incarnation forgotten", ("tests/sims/test_mutants.py::test_the_true_node_is_there",))


def test_the_true_node_is_there() -> None:
    """What the test above runs with a bug planted."""
    mutant = by_name("incarnation forgotten")
    assert vars(mutant.owner)[mutant.target].__qualname__ == "Node.__init__"


def test_a_bug_that_breaks_nothing_survives_and_is_called_so() -> None:
    harmless = Mutant("harmless", "nothing", ("one view",), Roll, "answered", lambda true: true)
    assert failed(harmless, 1) == ()
