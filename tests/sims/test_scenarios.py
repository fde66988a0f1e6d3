"""The cases that have a name: all that must be there are there, each holds, and each can fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from openclaw.config import Settings
from openclaw.election.bully import Bully
from sims.catalogue import files
from sims.faults import Crash, Cut, DiskFull, FlipFlop, Happening, Loss, MassRestart, Mixed, Pause, Sleep
from sims.mutants import by_name
from sims.plan import Plan, names, variants
from sims.scenario import run
from sims.tomlfile import SCENARIOS, dumps, load, loads

SLEEP_S_MAX = 1800.0  # longer than any time that the core waits for, and shorter than a night
NODES_MAX = 24
HEALED_LONG_S = 3 * Settings().retry_backoff_s_max

replace = msgspec.structs.replace


def cheaper(plan: Plan) -> Plan:
    """The same in less time: fewer of very many nodes, and a sleep that outlasts all timers but is no night."""
    if plan.nodes > NODES_MAX:
        kept = set(names(NODES_MAX))
        there = tuple(one for one in plan.happenings if hosts_of(one) <= kept)
        assert {type(one) for one in there} == {type(one) for one in plan.happenings}
        plan = replace(plan, nodes=NODES_MAX, happenings=there)
    for one in plan.happenings:
        if isinstance(one, Sleep) and one.for_s > SLEEP_S_MAX:
            plan = sooner(plan, one.at + SLEEP_S_MAX, one.for_s - SLEEP_S_MAX)
    return plan


def sooner(plan: Plan, after_s: float, by_s: float) -> Plan:
    """All that comes later than `after_s` comes `by_s` earlier."""

    def moved(at: float) -> float:
        return at - by_s if at > after_s else at

    happenings = [
        replace(one, for_s=SLEEP_S_MAX) if isinstance(one, Sleep) else replace(one, at=moved(one.at))
        for one in plan.happenings
    ]
    expect = [replace(one, from_s=moved(one.from_s)) for one in plan.expect]
    return replace(
        plan,
        seconds=moved(plan.seconds),
        peace_s=moved(plan.peace_s),
        happenings=tuple(happenings),
        expect=tuple(expect),
    )


def hosts_of(happening: Happening) -> set[str]:
    fields = msgspec.to_builtins(happening)
    return {fields["host"]} if "host" in fields else set(fields.get("hosts", ()))


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_it_holds(path: Path) -> None:
    for plan in variants(load(path)):
        verdict = run(cheaper(plan))
        assert verdict.exit_code == 0, f"{plan.about}: {verdict.violation} {verdict.unmet}"


@pytest.mark.parametrize("path", files(), ids=lambda path: path.stem)
def test_a_file_reads_as_it_was_written(path: Path) -> None:
    assert loads(dumps(load(path))) == load(path)


# --- all that must be there ----------------------------------------------------------------------


def only(stem: str, kind: type[Happening]) -> list[Happening]:
    found = [one for one in load(SCENARIOS / f"{stem}.toml").happenings if isinstance(one, kind)]
    assert found, f"nothing of the kind in {stem}"
    return found


def cut_for(stem: str, parts: int, at_least_s: float) -> bool:
    """Every part is cut from every other for so long."""
    cuts = only(stem, Cut)
    return len(cuts) == parts * (parts - 1) // 2 and all(
        not cut.one_way and cut.for_s >= at_least_s for cut in cuts if isinstance(cut, Cut)
    )


def at_each_step(stem: str, steps: int) -> bool:
    plan = load(SCENARIOS / f"{stem}.toml")
    return plan.vary is not None and len(plan.vary.values) >= steps


def sleeps_8_h(host: str, stem: str) -> bool:
    (sleep,) = only(stem, Sleep)
    return isinstance(sleep, Sleep) and sleep.host == host and sleep.for_s >= 8 * 3600 and sleep.new_address


def loses(stem: str, rate: float, share: float) -> bool:
    (loss,) = only(stem, Loss)
    nodes = load(SCENARIOS / f"{stem}.toml").nodes
    return isinstance(loss, Loss) and loss.rate == rate and (len(loss.hosts) or nodes) == round(share * nodes)


def stalls(stem: str, hosts: int, longest_s: float) -> bool:
    spans = [one.for_s for one in only(stem, Pause) if isinstance(one, Pause)]
    return len(spans) == hosts and longest_s - 4 < max(spans) <= longest_s


def restarts_cleanly(stem: str) -> bool:
    (restart,) = only(stem, MassRestart)
    return isinstance(restart, MassRestart) and restart.clean and restart.every_s > 0


def flips_every(stem: str, period_s: float) -> bool:
    return all(one.period_s == period_s for one in only(stem, FlipFlop) if isinstance(one, FlipFlop))


ASKED_FOR: dict[str, Callable[[], bool]] = {
    "a leader that can send but not hear": lambda: all(
        isinstance(one, Cut) and one.one_way and one.to == ("n0",) for one in only("leader_deaf", Cut)
    ),
    "A-C, B-C, no A-B": lambda: cut_for("triangle", 2, 200.0),
    "split in two, healed after a minute": lambda: cut_for("split_two_minute", 2, 60.0),
    "split in three, healed after a minute": lambda: cut_for("split_three_minute", 3, 60.0),
    "split in two, healed after three backoffs": lambda: cut_for("split_two_long", 2, HEALED_LONG_S),
    "split in three, healed after three backoffs": lambda: cut_for("split_three_long", 3, HEALED_LONG_S),
    "rolling restart": lambda: restarts_cleanly("rolling_restart"),
    "1 % of nodes at 80 % loss": lambda: loses("one_percent_lossy", 0.8, 0.01),
    "one-way flip-flop of 20 s": lambda: flips_every("flip_flop", 20.0),
    "50 % loss": lambda: loses("half_lost", 0.5, 1.0),
    "32 of 100 nodes stalled up to 32 s": lambda: stalls("stalled_32_of_100", 32, 32.0),
    "a worker sleeps 8 h and has a new address": lambda: sleeps_8_h("n1", "laptop_worker"),
    "an owner sleeps 8 h and has a new address": lambda: sleeps_8_h("n0", "laptop_owner"),
    "a leader sleeps 8 h and has a new address": lambda: sleeps_8_h("n2", "laptop_leader"),
    "the top-ranked node returns": lambda: bool(only("returning_top", Crash)),
    "two elections crossing": lambda: len(only("crossing_elections", Crash)) == 2,
    "a hand-over is interrupted on its way": lambda: at_each_step("hand_over_cut", 9),
    "a hand-over's giver dies at each step": lambda: at_each_step("hand_over_outgoing", 20),
    "a hand-over's taker dies at each step": lambda: at_each_step("hand_over_incoming", 20),
    "a worker dies at each step": lambda: at_each_step("worker_dies", 15),
    "a worker loses its power at each step": lambda: at_each_step("worker_loses_power", 15),
    "an owner dies at each step": lambda: at_each_step("owner_dies", 15),
    "an owner loses its power at each step": lambda: at_each_step("owner_loses_power", 15),
    "a full disk on the leader": lambda: bool(only("leader_disk_full", DiskFull)),
    "mixed versions": lambda: len(only("mixed_versions", Mixed)) == 2,
}


@pytest.mark.parametrize("case", ASKED_FOR)
def test_there_is_a_scenario_of(case: str) -> None:
    assert ASKED_FOR[case]()


# --- and each can fail ---------------------------------------------------------------------------


def failed(stem: str, settings: dict[str, float] | None = None) -> set[str]:
    plan = load(SCENARIOS / f"{stem}.toml")
    plan = replace(plan, settings={**plan.settings, **(settings or {})})
    return {name for variant in variants(plan) for name in run(cheaper(variant)).failed}


def test_a_leader_that_nobody_follows_is_not_one_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bully, "_heed", lambda *_: [])
    assert "one leader" in failed("leader_deaf") | failed("mixed_versions")


def test_more_turns_than_are_expected_are_too_many_elections() -> None:
    assert "elections" in failed("stalls", {"rotation_s": 60.0})


def test_a_task_that_is_given_up_has_not_succeeded() -> None:
    plan = load(SCENARIOS / "worker_dies.toml")
    too_many = replace(plan, vary=None, at_least={"tasks succeeded": 3})
    assert run(too_many).failed == ("tasks succeeded",)


@pytest.mark.parametrize(
    ("bug", "stem"),
    [
        ("no witness", "triangle_later"),
        ("preempts on return", "returning_top"),
        ("leads on after sleep", "laptop_leader"),
        ("attempt unstored", "worker_dies"),
        ("--once again", "once_worker_dies"),
        ("promised unstored", "owner_loses_power"),
    ],
)
def test_a_planted_bug_fails_a_scenario(bug: str, stem: str) -> None:
    with by_name(bug).planted():
        assert failed(stem)
