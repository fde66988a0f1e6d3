"""Any program of work and trouble on a small mesh keeps every promise; Hypothesis shrinks one that does not.

Safety raises in the step that breaks it. At the end the world is calmed, and nothing may be left undone.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from openclaw.effects import CancelAsked
from openclaw.ids import NodeId, TaskId
from sims.host import Host
from sims.links import Weather
from sims.planted import MUTANTS
from sims.properties import Violated, all_properties
from sims.world import World

HOSTS = 3
PEACE_S = 60.0
hosts = st.integers(0, HOSTS - 1)
moments = st.sampled_from([0.01, 0.1, 0.5, 2.0, 8.0])


class SmallMesh(RuleBasedStateMachine):
    """Three nodes that have found each other."""

    @initialize(mode=st.sampled_from(["tcp", "hostile"]))
    def begin(self, mode: str) -> None:
        self.world = World(7, weather=Weather(mode=mode), properties=all_properties())
        self.hosts = [self.world.add_host(f"n{number}") for number in range(HOSTS)]
        self.tasks: list[tuple[Host, TaskId]] = []
        self.cuts: list[tuple[NodeId, NodeId]] = []
        for host in self.hosts:
            self.world.at(0.01, host.start)
        self.go_on(3.0)

    def go_on(self, for_s: float) -> None:
        """A world that broke a promise is not asked for more."""
        self.broken = True
        self.world.run(self.world.now + for_s)
        self.broken = False

    @rule(at=hosts, runs_s=st.lists(moments, min_size=1, max_size=3), once=st.booleans())
    def submit(self, at: int, runs_s: list[float], once: bool) -> None:
        host = self.hosts[at]
        self.tasks += [(host, task) for task in self.world.submit(host, runs_s, once=once, retries=1)]

    @rule(which=st.integers(0, 5))
    def cancel(self, which: int) -> None:
        if self.tasks:
            host, task = self.tasks[which % len(self.tasks)]
            host.post_if_running(CancelAsked((task,)))

    @rule(at=hosts, effects=st.integers(0, 20), machine=st.booleans())
    def crash(self, at: int, effects: int, machine: bool) -> None:
        self.hosts[at].crash_after(effects, 1.0, machine)

    @rule(at=hosts)
    def start(self, at: int) -> None:
        self.hosts[at].start()

    @rule(at=hosts)
    def pause(self, at: int) -> None:
        self.hosts[at].pause()

    @rule(at=hosts)
    def resume(self, at: int) -> None:
        self.hosts[at].resume()

    @rule(one=hosts, other=hosts)
    def cut(self, one: int, other: int) -> None:
        if one != other:
            self.cuts.append((self.hosts[one].id, self.hosts[other].id))
            self.world.network.cut(*self.cuts[-1])

    @rule()
    def mend(self) -> None:
        while self.cuts:
            self.world.network.mend(*self.cuts.pop())

    @rule(for_s=moments)
    def wait(self, for_s: float) -> None:
        self.go_on(for_s)

    @invariant()
    def a_moment_passes(self) -> None:
        if hasattr(self, "world"):
            self.go_on(0.005)

    def teardown(self) -> None:
        if not hasattr(self, "world") or self.broken:
            return
        self.mend()
        self.world.calm()
        until = self.world.now + 4 * PEACE_S
        self.go_on(PEACE_S)
        while self.world.now < until and _unmet(self.world):
            self.go_on(1.0)
        assert _unmet(self.world) == []


class Hasty(SmallMesh):
    """What breaks safety needs no peace to show it."""

    def teardown(self) -> None:
        pass


def _unmet(world: World) -> list[str]:
    return [complaint for prop in world.properties for complaint in prop.unmet(world)]


QUICK = settings(
    max_examples=40, stateful_step_count=20, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


def test_any_program_on_a_small_mesh_keeps_every_promise() -> None:
    run_state_machine_as_test(SmallMesh, settings=QUICK)


@pytest.mark.parametrize("name", ["attempt unstored", "without intent"])
def test_a_planted_bug_is_found_and_shrinks_to_a_short_program(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (mutant,) = [mutant for mutant in MUTANTS if mutant.name == name]
    found = settings(QUICK, phases=[Phase.generate, Phase.shrink], print_blob=False)
    with mutant.planted(), pytest.raises(Violated) as caught:
        run_state_machine_as_test(Hasty, settings=found)
    assert caught.value.name in mutant.caught_by
    program = [line for line in getattr(caught.value, "__notes__", []) if "state." in line]
    assert len("\n".join(program).splitlines()) <= 12, program
    capsys.readouterr()
