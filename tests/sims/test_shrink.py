"""What fails is cut down to what matters, written down, and fails in the same way when it is read again."""

from __future__ import annotations

from collections.abc import Sequence
from operator import le
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sims import shrink, single
from sims.__main__ import main
from sims.faults import Crash, Cut, Work
from sims.links import Weather
from sims.mutants import by_name
from sims.plan import Plan, draw
from sims.scenario import run
from sims.shrink import Failing, ddmin, size
from sims.tomlfile import dumps, load, loads


@given(st.lists(st.integers(0, 40), max_size=30), st.sets(st.integers(0, 40), max_size=4))
def test_ddmin_leaves_what_is_needed_and_nothing_else(items: list[int], needed: set[int]) -> None:
    present = needed & set(items)

    def fails(some: Sequence[int]) -> bool:
        return present <= set(some)

    assert sorted(ddmin(items, fails)) == sorted(present)


def test_a_plan_loses_all_that_does_not_matter() -> None:
    plan = Plan(
        seed=1,
        nodes=5,
        seconds=60.0,
        peace_s=30.0,
        link=Weather(mode="hostile"),
        slots=(1, 4),
        happenings=(
            Work(1.0, "n0", (0.5, 0.25)),
            Cut(2.0, ("n1",), ("n2",), one_way=False, for_s=3.0),
            Crash(5.123, "n4", 3, machine=False, down_s=1.0),
            Work(6.0, "n3", (2.0,), once=True),
        ),
    )

    def fails(smaller: Plan) -> bool:
        return any(isinstance(happening, Crash) for happening in smaller.happenings)

    small = shrink.shrink(plan, fails)
    assert [type(happening) for happening in small.happenings] == [Crash]
    assert small.nodes == 1
    assert small.link == Weather()
    assert small.slots == (2,)
    assert small.seconds < 60.0


@pytest.fixture
def bugs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(shrink, "BUGS", tmp_path)
    return tmp_path


def test_a_planted_bug_becomes_a_small_file_that_fails_alike(
    bugs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mutant = by_name("attempt unstored")
    with mutant.planted():
        whole = draw(1, 4, 30.0)
        failed = run(whole).failed
        assert failed
        assert main(["shrink", "--seed", "1", "--nodes", "4", "--seconds", "30", "--name", "small"]) == 1
        small = load(bugs / "small.toml")
        assert run(small).failed == failed
        assert len(small.happenings) <= 2 < len(whole.happenings)
        assert main(["run", str(bugs / "small.toml")]) == 1
    out = capsys.readouterr().out
    assert size(small) in out
    assert failed[0] in out
    assert run(small).failed == ()
    assert "found by seed 1" in small.about


def test_a_seed_that_holds_is_not_shrunk(bugs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["shrink", "--seed", "2", "--nodes", "2", "--seconds", "10"]) == 0
    assert "nothing to shrink" in capsys.readouterr().out
    assert list(bugs.iterdir()) == []


def test_the_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Plan] = []
    monkeypatch.setattr(shrink, "RUNS_MAX", 3)
    monkeypatch.setattr(shrink, "run", lambda plan: runs.append(plan) or run(plan))
    fails = Failing("no such property")
    plan = Plan(seed=1, nodes=1, seconds=1.0, peace_s=1.0)
    assert [fails(plan) for _ in range(5)] == [False] * 5
    assert len(runs) == 3


@pytest.mark.parametrize("seed", range(1, 30))
def test_a_plan_reads_as_it_was_written(seed: int) -> None:
    plan = draw(seed)
    assert loads(dumps(plan)) == plan


def test_nothing_is_asked_of_a_drawn_world_that_no_machine_of_it_has() -> None:
    for seed in range(1, 200):
        plan = draw(seed, 2)
        per_machine = (plan.slots, plan.memory_bytes, plan.gpus)
        machines = [[each[n % len(each)] for each in per_machine] for n in range(plan.nodes)]
        for work in plan.happenings:
            if isinstance(work, Work):
                asked = (work.cpus, work.memory_bytes, work.gpus)
                assert any(all(map(le, asked, machine)) for machine in machines), seed


def test_again_is_the_command_that_repeats_it() -> None:
    options = type("Options", (), {"file": None, "nodes": 3, "seconds": 20.0})()
    assert single.again(7, options) == "python -m sims run --seed 7 --nodes 3 --seconds 20"  # type: ignore[arg-type]
