"""The simulator repeats itself, keeps the runtime's contract, and finds what was broken on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from openclaw.effects import Effect, Store
from openclaw.election.bully import Bully
from openclaw.ids import Epoch, TaskId
from openclaw.node import Node
from openclaw.notes import LeaderChanged
from openclaw.records import EpochRow, State, Table
from sims.disk import Disk
from sims.host import Host
from sims.network import Weather
from sims.plan import draw
from sims.properties import EveryTaskEnds, OneLeader, Violated, all_properties
from sims.scenario import run
from sims.world import World

ROOT = Path(__file__).parents[2]


def mesh(count: int, seed: int = 1, weather: Weather | None = None) -> tuple[World, list[Host]]:
    """A mesh that has found itself."""
    world = World(seed, weather=weather, properties=all_properties())
    hosts = [world.add_host(f"n{number}") for number in range(count)]
    for host in hosts:
        world.at(0.01, host.start)
    world.run(3.0)
    assert unmet(world) == []
    return world, hosts


def unmet(world: World) -> list[str]:
    return [complaint for prop in world.properties for complaint in prop.unmet(world)]


def state(host: Host, task: TaskId) -> State:
    row = host.disk.progress(task)
    assert row is not None
    return row.state


def terms(hosts: Sequence[Host]) -> set[int]:
    return {host.disk.epoch.term for host in hosts}


def test_a_seed_repeats_to_the_hash_in_another_process_with_another_hash_seed() -> None:
    verdict = run(draw(3, 4, 30.0))
    script = "from sims.plan import draw; from sims.scenario import run; print(run(draw(3, 4, 30.0)).digest)"
    there = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "4711", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout.strip() == verdict.digest
    assert run(draw(4, 4, 30.0)).digest != verdict.digest


@pytest.mark.parametrize("seed", range(1, 9))
def test_chaos_ends_in_peace(seed: int) -> None:
    verdict = run(draw(seed, 5, 60.0))
    assert verdict.violation is None, verdict.story
    assert verdict.unmet == []


def test_the_command_line_says_what_held() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "sims", "run", "--seed", "2", "--nodes", "3", "--seconds", "20"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "seed 2: held" in ran.stdout
    assert "duplicate starts" in ran.stdout


def test_work_is_shared_out_and_done() -> None:
    world, hosts = mesh(3)
    tasks = world.submit(hosts[0], [1.0] * 6)
    world.run(10.0)
    assert {state(hosts[0], task) for task in tasks} == {State.SUCCEEDED}
    assert sorted(start.host for start in world.starts) == ["n0", "n0", "n1", "n1", "n2", "n2"]


def test_an_idle_mesh_holds_one_election_and_says_little() -> None:
    world, hosts = mesh(5)
    before = world.trace.sent_bytes
    world.run(303.0)
    assert terms(hosts) == {1}
    assert (world.trace.sent_bytes - before) / 300 / len(hosts) < 1500


@pytest.mark.parametrize("machine", [False, True])
def test_the_leader_dies_and_one_of_the_others_leads(machine: bool) -> None:
    world, hosts = mesh(5)
    leader = next(host for host in hosts if host.node is not None and host.node.election.leading)
    leader.crash(machine=machine)
    world.run(10.0)
    assert OneLeader().unmet(world) == []
    assert terms([host for host in hosts if host is not leader]) == {2}
    assert world.trace.sent["Elect"] + world.trace.sent["ElectAnswer"] <= 8 * len(hosts)


def test_two_nodes_that_do_not_see_each_other_do_not_make_the_election_loop() -> None:
    world, hosts = mesh(3)
    leader = next(host for host in hosts if host.node is not None and host.node.election.leading)
    other = next(host for host in hosts if host is not leader)
    world.network.cut(leader.id, other.id)
    world.network.cut(other.id, leader.id)
    world.run(300.0)
    assert OneLeader().unmet(world) == []
    assert terms(hosts) == {1}


def test_a_node_that_sends_but_does_not_hear_does_not_make_the_others_loop() -> None:
    world, hosts = mesh(5)
    deaf = hosts[0]
    for host in hosts[1:]:
        world.network.cut(host.id, deaf.id)
    world.run(120.0)
    assert max(terms(hosts)) <= 3
    for host in hosts[1:]:
        world.network.mend(host.id, deaf.id)
    world.run(150.0)
    assert unmet(world) == []


def test_halves_that_were_split_have_a_leader_each_and_then_one() -> None:
    world, hosts = mesh(6)
    halves = hosts[:3], hosts[3:]
    pairs = [(a.id, b.id) for a in halves[0] for b in halves[1]]
    for a, b in pairs:
        world.network.cut(a, b)
        world.network.cut(b, a)
    world.run(30.0)
    leaders = [host for host in hosts if host.node is not None and host.node.election.leading]
    assert [sum(leader in half for leader in leaders) for half in halves] == [1, 1]
    for a, b in pairs:
        world.network.mend(a, b)
        world.network.mend(b, a)
    world.run(60.0)
    assert unmet(world) == []


@pytest.mark.parametrize("effects", range(0, 40, 3))
def test_a_crash_between_any_two_effects_of_the_owner_loses_nothing(effects: int) -> None:
    world, hosts = mesh(3)
    hosts[0].crash_after(effects, down_s=1.0)
    world.submit(hosts[0], [0.5] * 4)
    world.run(40.0)
    assert hosts[0].starts == 2, "it did not crash"
    assert unmet(world) == []


def test_what_was_not_committed_is_lost_with_the_crash_and_nobody_was_told() -> None:
    world, hosts = mesh(2)
    hosts[0].crash_after(0, down_s=1.0)
    (task,) = world.submit(hosts[0], [0.5])
    world.run(20.0)
    assert hosts[0].disk.submission(task) is None
    accepted = next(prop for prop in world.properties if isinstance(prop, EveryTaskEnds)).accepted
    assert task not in accepted


def test_running_commands_survive_their_node_and_are_adopted() -> None:
    world, hosts = mesh(2)
    (task,) = world.submit(hosts[0], [60.0])
    world.run(33.0)  # it has earned three seconds of grace
    worker = next(host for host in hosts if host.name == world.starts[0].host)
    worker.crash()
    world.after(1.0, worker.start)
    world.run(80.0)
    assert state(hosts[0], task) is State.SUCCEEDED
    assert len(world.starts) == 1


def test_a_message_that_is_lost_stays_lost_and_tasks_still_end() -> None:
    world, hosts = mesh(3)
    world.network.weather = Weather(mode="hostile", loss=0.1)
    for host in hosts:
        world.submit(host, [0.3] * 5)
    world.run(60.0)
    assert world.network.dropped > 0
    accepted = next(prop for prop in world.properties if isinstance(prop, EveryTaskEnds))
    assert len(accepted.accepted) == 15
    assert accepted.unmet(world) == []


# --- broken on purpose: every property must be able to fail --------------------------------------


def drop_rows(monkeypatch: pytest.MonkeyPatch, table: Table) -> None:
    commit = Disk.commit

    def forgetful(disk: Disk, stores: Sequence[Store]) -> None:
        commit(disk, [store for store in stores if store.table is not table])

    monkeypatch.setattr(Disk, "commit", forgetful)


def test_a_promise_without_its_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    world, hosts = mesh(2)
    drop_rows(monkeypatch, Table.TASKS)
    world.submit(hosts[0], [0.5])
    with pytest.raises(Violated, match=r"accepted is durable|intent first"):
        world.run(10.0)


def test_an_assignment_without_its_intent_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Node.handle

    def hasty(node: Node, event: object, now: float) -> list[Effect]:
        effects = handle(node, event, now)  # type: ignore[arg-type]
        return [e for e in effects if not (isinstance(e, Store) and getattr(e.value, "token", None))]

    world, hosts = mesh(2)
    monkeypatch.setattr(Node, "handle", hasty)
    world.submit(hosts[0], [0.5])
    with pytest.raises(Violated, match=r"intent first|counts"):
        world.run(10.0)


def test_an_epoch_that_is_said_before_it_is_stored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    follow = Bully._follow

    def careless(bully: Bully, epoch: Epoch, reason: str, now: float) -> list[Effect]:
        effects = follow(bully, epoch, reason, now)
        return [e for e in effects if not (isinstance(e, Store) and isinstance(e.value, EpochRow))]

    monkeypatch.setattr(Bully, "_follow", careless)
    with pytest.raises(Violated, match=r"stored (before said|epochs)"):
        mesh(3)


def test_a_node_that_goes_back_to_an_older_leader_is_found() -> None:
    """As when the disk of a node is an old copy."""
    world, hosts = mesh(3)
    leader, follower, _ = sorted(hosts, key=lambda host: host.node is None or not host.node.election.leading)
    old = leader.disk.epoch
    leader.crash()
    world.run(6.0)
    follower.crash()
    follower.disk.commit([Store(Table.META, "epoch", EpochRow(old))])
    follower.start()
    monitor = next(prop for prop in world.properties if prop.name == "never an older leader")
    with pytest.raises(Violated, match="never an older leader"):
        monitor.performed(follower, LeaderChanged(old))


def test_a_token_that_starts_twice_is_found() -> None:
    world, hosts = mesh(2)
    world.submit(hosts[0], [0.2])
    world.run(10.0)
    started = world.starts[0]
    with pytest.raises(Violated, match="a token starts once"):
        world.witness(started, world.host(started.host))


def test_a_leader_that_is_not_followed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bully, "_heed", lambda *_: [])
    world = World(1, properties=all_properties())
    for number in range(3):
        world.add_host(f"n{number}").start()
    world.run(10.0)
    assert OneLeader().unmet(world) != []
