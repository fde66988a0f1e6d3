"""Whatever a simulated machine can suffer does what its description says, and a world outlives it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import msgspec
import pytest

from openclaw.effects import Effect, Event, Measured, MetaChanged, Resumed, Send, Store
from openclaw.ids import NodeId, TaskId
from openclaw.messages import AnyMessage, Ping
from openclaw.records import Number, State, Table
from sims.clock import Clock
from sims.disk import Disk, Full
from sims.faults import (
    Churn,
    ClockJump,
    Clone,
    Crash,
    DiskFull,
    DiskStall,
    Drain,
    Drift,
    ExecutorCrash,
    Forget,
    Happening,
    MassRestart,
    Pause,
    Restore,
    Sleep,
    Slow,
)
from sims.host import Host
from sims.properties import Property
from sims.world import World


class Witness(Property):
    """Everything that happens, to look at afterwards."""

    def __init__(self) -> None:
        self.commits: list[tuple[float, str]] = []
        self.sends: list[tuple[float, str]] = []
        self.pings: Counter[str] = Counter()
        self.events: list[tuple[float, str, Event]] = []
        self.delivered_to: list[tuple[str, NodeId]] = []

    def delivered(self, host: Host, sender: NodeId, message: AnyMessage) -> None:  # noqa: ARG002
        self.delivered_to.append((host.name, sender))

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        self.events.append((host.world.now, host.name, event))

    def committing(self, host: Host, stores: Sequence[Store]) -> None:  # noqa: ARG002
        self.commits.append((host.world.now, host.name))

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Send):
            self.pings[host.name] += isinstance(effect.message, Ping)
            self.sends.append((host.world.now, host.name))

    def of(self, name: str, since: float, until: float) -> int:
        """How much this host said in between."""
        return sum(who == name and since <= at < until for at, who in self.sends)


def mesh(count: int = 3, seed: int = 1) -> tuple[World, list[Host], Witness]:
    witness = Witness()
    world = World(seed, properties=(witness,))
    hosts = [world.add_host(f"n{number}") for number in range(count)]
    for host in hosts:
        host.start()
    world.run(3.0)
    assert of_one_mind(world)
    return world, hosts, witness


def of_one_mind(world: World) -> bool:
    nodes = [host.node for host in world.hosts.values() if host.node is not None]
    leaders = {node.election.leader for node in nodes}
    all_alive = all(len(node.membership.alive()) == len(world.hosts) for node in nodes)
    return len(leaders) == 1 and None not in leaders and all_alive


def marks(world: World, words: str) -> list[str]:
    return [line for line in world.trace.last() if words in line]


def state(host: Host, task: TaskId) -> State | None:
    row = host.disk.progress(task)
    return None if row is None else row.state


# --- plain data ----------------------------------------------------------------------------------


VALUES: dict[str, object] = {
    "at": 3.0, "host": "n0", "effects": 3, "machine": True, "down_s": 1e6, "keep": True, "for_s": 1e6,
    "hosts": ("n0",), "sources": ("n0",), "to": ("n1", "n2"), "one_way": True, "pairs": (("n0", "n1"),),
    "period_s": 5.0, "rate": 0.7, "lag_s": 0.5, "every_s": 1e5, "by_s": -5.0, "age_s": 1e5, "runs_s": (1.0,),
}  # fmt: skip
KINDS = get_args(Happening)


def example(kind: type[Happening]) -> Happening:
    return kind(**{name: VALUES[name] for name in kind.__struct_fields__ if name in VALUES})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_every_happening_reads_as_it_prints(kind: type[Happening]) -> None:
    happening = example(kind)
    assert msgspec.json.decode(msgspec.json.encode(happening), type=Happening) == happening


@pytest.mark.parametrize("kind", KINDS)
def test_a_calmed_world_is_at_peace_again_whatever_happened(kind: type[Happening]) -> None:
    world, hosts, _ = mesh()
    example(kind).apply(world)
    world.run(20.0)
    world.calm()
    world.run(60.0)
    assert all(host.awake for host in hosts)
    assert of_one_mind(world)


# --- crashes -------------------------------------------------------------------------------------


def test_a_power_cut_in_the_middle_of_effects_takes_the_commands_along() -> None:
    world, hosts, _ = mesh()
    tasks = world.submit(hosts[1], [30.0] * 6)
    world.run(4.0)
    assert len(hosts[0].executor.running) == 2
    Crash(4.0, "n0", 3, machine=True, down_s=2.0).apply(world)
    world.run(5.5)
    assert len(hosts[0].executor.running) == 0
    assert not hosts[0].powered
    world.run(150.0)
    assert {state(hosts[1], task) for task in tasks} == {State.SUCCEEDED}


def test_a_commit_that_a_crash_interrupts_has_happened_or_not() -> None:
    outcomes = set()
    for seed in range(12):
        world, hosts, _ = mesh(2, seed)
        (task,) = world.submit(hosts[0], [0.5])
        world.run(world.now + 0.0003)  # the fsync has begun and not ended
        hosts[0].crash()
        outcomes.add(hosts[0].disk.submission(task) is not None)
    assert outcomes == {True, False}


def test_an_executor_that_crashes_takes_its_commands_along_and_another_follows() -> None:
    world, hosts, _ = mesh()
    tasks = world.submit(hosts[1], [20.0] * 6)
    world.run(5.0)
    ExecutorCrash(5.0, "n0").apply(world)
    assert len(hosts[0].executor.running) == 0
    world.run(120.0)
    assert hosts[0].starts == 1
    assert {state(hosts[1], task) for task in tasks} == {State.SUCCEEDED}
    assert any(start.host == "n0" and start.at > 5.0 for start in world.starts)


def test_churn_and_a_mass_restart_bring_everybody_back() -> None:
    world, hosts, _ = mesh(5)
    Churn(3.0, every_s=1.0, down_s=1.5, for_s=20.0).apply(world)
    world.run(30.0)
    assert sum(host.starts for host in hosts) > 15
    world.run(45.0)
    before = [host.starts for host in hosts]
    MassRestart(45.0, down_s=0.5, every_s=2.0, clean=True).apply(world)
    world.run(90.0)
    assert [host.starts for host in hosts] == [count + 1 for count in before]
    assert of_one_mind(world)


# --- standing still ------------------------------------------------------------------------------


def test_a_paused_process_says_nothing_and_then_knows_how_long_it_stood() -> None:
    world, hosts, witness = mesh()
    Pause(3.0, "n0", 10.0).apply(world)
    world.run(13.0)
    assert witness.of("n0", 3.001, 13.0) == 0
    world.run(30.0)
    assert [event.lag_s for _, name, event in witness.events if name == "n0" and isinstance(event, Measured)]
    assert hosts[0].disk.number("incarnation") > 1, (
        "it noticed that it did not run, and vouched for itself anew"
    )
    assert of_one_mind(world)


def test_a_pause_in_the_middle_of_a_commit_holds_back_what_follows() -> None:
    world, hosts, witness = mesh(2)
    (task,) = world.submit(hosts[0], [0.5])
    world.run(world.now + 0.0002)
    hosts[0].pause()
    paused = world.now
    world.run(world.now + 5.0)
    assert witness.of("n0", paused, world.now) == 0
    hosts[0].resume()
    world.run(world.now + 10.0)
    assert state(hosts[0], task) is State.SUCCEEDED


def test_a_closed_lid_stops_the_commands_too_and_they_go_on_when_it_opens() -> None:
    world, hosts, _ = mesh(1)
    tasks = world.submit(hosts[0], [20.0] * 2)
    world.run(5.0)
    Sleep(5.0, "n0", 60.0).apply(world)
    world.run(64.9)
    assert len(hosts[0].executor.running) == 2, "they stand still"
    world.run(82.9)
    assert len(hosts[0].executor.running) == 2
    world.run(84.0)
    assert len(hosts[0].executor.running) == 0
    assert {state(hosts[0], task) for task in tasks} == {State.SUCCEEDED}
    assert len(world.starts) == 2


def test_a_laptop_that_wakes_elsewhere_publishes_its_new_address() -> None:
    world, hosts, witness = mesh()
    before = hosts[0].meta.addresses
    Sleep(3.0, "n0", 600.0, new_address=True).apply(world)
    world.run(623.0)
    changed = [event for _, name, event in witness.events if name == "n0" and isinstance(event, MetaChanged)]
    assert len(changed) == 1
    assert of_one_mind(world)
    for host in hosts[1:]:
        assert host.node is not None
        meta = host.node.membership.meta_of(hosts[0].id)
        assert meta is not None
        assert meta.addresses != before
        assert meta.addresses == hosts[0].meta.addresses


def test_the_core_of_a_sleeper_finds_the_gap_itself() -> None:
    world, hosts, _ = mesh()
    gaps: list[float] = []
    assert hosts[0].node is not None
    machine = hosts[0].node.membership
    handle = machine.handle

    def spy(event: Event, now: float) -> list[Effect]:
        if isinstance(event, Resumed):
            gaps.append(event.gap_s)
        return handle(event, now)

    machine.handle = spy  # type: ignore[method-assign, assignment]
    Sleep(3.0, "n0", 100.0).apply(world)
    world.run(110.0)
    assert gaps == [pytest.approx(100.0, abs=1.0)]


def test_a_slow_node_is_late_and_says_so() -> None:
    world, _, witness = mesh()
    Slow(3.0, "n0", 0.4, 20.0).apply(world)
    world.run(40.0)
    lags = [event.lag_s for _, name, event in witness.events if name == "n0" and isinstance(event, Measured)]
    assert len(lags) > 5
    assert 0.1 < max(lags) <= 0.4
    assert witness.of("n0", 4.0, 22.0) < 0.8 * witness.of("n1", 4.0, 22.0)
    assert not world.host("n0").lag_s


# --- disks ---------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_process_and_it_comes_back_when_there_is_room() -> None:
    world, hosts, _ = mesh()
    before = hosts[0].disk.copy()
    DiskFull(3.0, "n0", 20.0).apply(world)
    tasks = world.submit(hosts[0], [0.5] * 4)
    world.run(22.0)
    assert hosts[0].starts > 3, "it was started again and again"
    assert marks(world, "its disk is full")
    assert hosts[0].disk.number("incarnation") >= before.number("incarnation")
    world.run(60.0)
    assert hosts[0].awake
    assert of_one_mind(world)
    rows = [state(hosts[0], task) for task in tasks]
    assert set(rows) in ({None}, {State.SUCCEEDED}), "all of the batch is on the disk, or nothing"


def test_nothing_that_a_refused_commit_should_follow_is_performed() -> None:
    world, hosts, witness = mesh(2)
    hosts[0].disk.full = 1
    hosts[0]._disk_chance = lambda: 0.5
    commits = [name for _, name in witness.commits].count("n0")
    world.submit(hosts[0], [0.5])
    world.run(world.now + 0.5)
    assert [name for _, name in witness.commits].count("n0") == commits
    assert world.starts == []
    assert not hosts[0].running
    with pytest.raises(Full):
        hosts[0].commit([Store(Table.META, "incarnation", Number(9))])
    assert hosts[0].disk.number("incarnation") != 9


def test_a_disk_that_hangs_holds_back_every_commit_and_all_that_follows() -> None:
    world, hosts, witness = mesh()
    (task,) = world.submit(hosts[0], [0.5])
    DiskStall(3.0, "n0", 5.0).apply(world)
    world.run(8.0)
    assert [at for at, name in witness.commits if name == "n0" and 3.0 <= at < 8.0] == []
    assert hosts[0].disk.submission(task) is None
    world.run(20.0)
    assert state(hosts[0], task) is State.SUCCEEDED


def test_a_restored_backup_lacks_what_came_after_it_and_nothing_else() -> None:
    world, hosts, _ = mesh()
    (early,) = world.submit(hosts[0], [0.2])
    world.run(6.0)
    counter = hosts[0].disk.number("incarnation")
    Restore(6.0, "n0", 5.0).apply(world)
    hosts[0].crash()
    hosts[0].start()
    world.run(8.0)
    assert hosts[0].disk.number("incarnation") == counter + 1
    (late,) = world.submit(hosts[0], [0.2])
    world.run(10.9)
    assert state(hosts[0], late) is State.SUCCEEDED
    world.run(11.5)
    assert hosts[0].disk.submission(late) is None
    assert state(hosts[0], early) is State.SUCCEEDED
    assert hosts[0].disk.number("incarnation") == counter
    world.run(40.0)
    assert hosts[0].disk.number("incarnation") > counter + 1, "its peers told it of its own past"
    assert of_one_mind(world)


def test_a_copy_of_a_disk_shares_nothing_with_it() -> None:
    disk = Disk()
    disk.commit([Store(Table.META, "incarnation", Number(1))])
    copy = disk.copy()
    disk.commit([Store(Table.META, "incarnation", Number(2))])
    assert copy.number("incarnation") == 1
    disk.revert(copy)
    copy.commit([Store(Table.META, "incarnation", Number(3))])
    assert disk.number("incarnation") == 1


def test_two_machines_with_one_key_both_notice_it() -> None:
    world, hosts, witness = mesh()
    Clone(3.0, "n0", 20.0).apply(world)
    (clone,) = world.clones[hosts[0].id]
    world.run(15.0)
    assert clone.running
    assert hosts[0].rivals == {"n0'.1"}
    assert clone.rivals == {"n0.1"}
    heard_by = {name for name, _ in witness.delivered_to}
    assert "n0'" in heard_by
    world.run(23.5)
    assert clone.node is None
    world.calm()
    world.run(60.0)
    assert clone.node is None, "what was switched off stays off"
    assert of_one_mind(world)


# --- clocks --------------------------------------------------------------------------------------


def test_a_clock_that_drifts_never_jumps() -> None:
    clock = Clock(1000.0)
    before = clock.read(10.0)
    clock.drift(1.5, 10.0)
    assert clock.read(10.0) == before == 1010.0
    assert clock.read(20.0) == 1025.0
    assert clock.when(1025.0) == 20.0
    with pytest.raises(ValueError, match="does not go on"):
        clock.drift(0.0, 20.0)


def test_a_fast_node_does_everything_more_often() -> None:
    world, _, witness = mesh()
    Drift(3.0, "n0", 2.0).apply(world)
    world.run(103.0)
    assert 1.8 < witness.pings["n0"] / witness.pings["n1"] < 2.2
    assert of_one_mind(world)


def test_a_set_wall_clock_moves_no_deadline_and_is_read_at_the_next_start() -> None:
    world, hosts, _ = mesh()
    terms = [host.disk.epoch.term for host in hosts]
    wall = hosts[0].wall
    ClockJump(3.0, "n0", -7200.0).apply(world)
    assert hosts[0].wall == pytest.approx(wall)
    world.run(30.0)
    assert [host.disk.epoch.term for host in hosts] == terms
    hosts[0].crash()
    hosts[0].start()
    assert hosts[0].wall == pytest.approx(world.wall - 7200.0)
    world.run(60.0)
    assert of_one_mind(world)


# --- people --------------------------------------------------------------------------------------


def test_a_drained_node_takes_no_tasks_until_it_may() -> None:
    world, hosts, _ = mesh()
    Drain(3.0, "n0", 20.0).apply(world)
    world.run(5.0)
    world.submit(hosts[1], [0.5] * 8)
    world.run(20.0)
    assert {start.host for start in world.starts} == {"n1", "n2"}
    world.run(25.0)
    world.submit(hosts[1], [0.5] * 12)
    world.run(40.0)
    assert "n0" in {start.host for start in world.starts}


def test_what_is_over_is_deleted_and_the_rest_is_kept() -> None:
    world, hosts, _ = mesh()
    over, open_ = world.submit(hosts[1], [0.1, 60.0])
    world.run(10.0)
    Forget(10.0, "n1").apply(world)
    world.run(12.0)
    assert {row.task for row in hosts[1].disk.tasks()} == {open_}
    assert hosts[1].disk.submission(over) is None
    later = world.submit(hosts[1], [0.1])
    world.run(20.0)
    Forget(20.0, "n1").apply(world)
    world.run(22.0)
    assert hosts[1].disk.progress(later[0]) is None
