"""What a mesh of real machines must live through, on real nodes: cables cut, power lost, roaming, sleep."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from host_mesh import HostMesh, HostNode, until

from benchmarks.local_mesh import Failed, wait_until

Make = Callable[[int], HostMesh]
SLEPT_S = 60.0


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Lays a LAN; whatever runs on it is ended with the test."""
    with ExitStack() as stack:
        yield lambda count: stack.enter_context(HostMesh(tmp_path, count))


def names(nodes: list[HostNode]) -> set[str]:
    return {node.name for node in nodes}


def test_three_hosts_find_each_other_by_mdns_alone_and_run_from_each(make: Make) -> None:
    mesh = make(3).start()
    for node in mesh.nodes:
        assert {node.runs("--node", name) for name in names(mesh.nodes)} == names(mesh.nodes)
        rows = [node.row(name) for name in sorted(names(mesh.nodes))]
        assert [row["addresses"] for row in rows] == [[f"10.77.0.{n}:27460"] for n in (1, 2, 3)]


def test_without_mdns_a_token_without_addresses_leads_nowhere(make: Make) -> None:
    mesh = make(2)
    one, two = mesh.nodes
    one.start()
    two.host.block_mdns()
    token = mesh.token()
    with pytest.raises(Failed, match="could be reached"):
        two.start(join=token)
    two.host.unblock()
    two.start(join=token)
    mesh.agree(mesh.nodes)


def test_a_cable_is_cut_silently_and_the_others_go_on(make: Make) -> None:
    mesh = make(3).start()
    leader = mesh.agree(mesh.nodes)
    lost = next(node for node in mesh.nodes if node.name == leader)
    others = [node for node in mesh.nodes if node is not lost]
    lost.host.cut()
    mesh.agree(others)
    for node in others:
        assert node.runs() in names(others)
    mesh.agree([lost])
    assert lost.runs() == lost.name
    lost.host.restore()
    mesh.agree(mesh.nodes)


def test_a_machine_dies_and_its_task_runs_elsewhere(make: Make) -> None:
    mesh = make(3).start()
    owner, dying, other = mesh.nodes
    ledger = owner.state_dir.parent / "ledger"
    # It ends at once where it starts anew, and never where it started first.
    line = f"echo started >> {ledger}; [ $(wc -l < {ledger}) -gt 1 ] || sleep 600"
    owner.ok("node", "drain")
    other.ok("node", "drain")
    task = owner.ok("run", "-d", "--shell", line).strip()
    wait_until(ledger.exists, "the task to start")
    other.ok("node", "resume")
    dying.crash()
    mesh.agree([owner, other])
    assert owner.run("task", "wait", task, timeout_s=60).returncode == 0
    doc = owner.json("task", "show", task)
    assert (doc["state"], doc["node"]["name"], doc["attempt"]) == ("succeeded", other.name, 2)
    dying.start()
    mesh.agree(mesh.nodes)


def test_a_cut_half_heals_into_one_view(make: Make) -> None:
    mesh = make(4).start()
    near, far = mesh.nodes[:2], mesh.nodes[2:]
    mesh.lan.split([node.host for node in far])
    leaders = {mesh.agree(near), mesh.agree(far)}
    assert len(leaders) == 2
    for half in (near, far):
        for node in half:
            assert node.runs() in names(half)
    mesh.lan.heal()
    mesh.agree(mesh.nodes)
    assert {near[0].runs("--node", node.name) for node in far} == names(far)
    ran = len(mesh.nodes) + len(far)
    until(
        lambda: {node.control("status")["tasks"]["succeeded"] for node in mesh.nodes} == {ran},
        "all to count the same tasks",
        mesh.nodes,
    )


def test_a_host_that_nobody_can_dial_is_a_full_member(make: Make) -> None:
    mesh = make(3)
    mesh.nodes[2].host.block_incoming()
    mesh.start()
    one, two, hidden = mesh.nodes
    assert [node.runs("--node", hidden.name) for node in (one, two)] == [hidden.name] * 2
    assert {hidden.runs("--node", node.name) for node in mesh.nodes} == names(mesh.nodes)
    big = hidden.ok("run", "-q", "--node", one.name, "--", "seq", "100000")
    assert big.splitlines()[-1] == "100000"
    source = hidden.state_dir.parent / "input.txt"
    source.write_text("from behind the firewall\n")
    assert one.ok("run", "-q", "--node", hidden.name, "--input", str(source), "--", "cat", "input.txt") == (
        hidden.ok("run", "-q", "--node", one.name, "--input", str(source), "--", "cat", "input.txt")
    )


def test_a_host_that_changes_its_address_is_found_again(make: Make) -> None:
    mesh = make(3).start()
    one, roaming, three = mesh.nodes
    roaming.host.change_address("10.77.0.77")
    until(
        lambda: all(node.row(roaming.name)["addresses"] == ["10.77.0.77:27460"] for node in mesh.nodes),
        "the new address",
        mesh.nodes,
    )
    mesh.agree(mesh.nodes)
    assert [node.runs("--node", roaming.name) for node in (one, three)] == [roaming.name] * 2
    assert roaming.runs("--node", one.name) == one.name


def test_all_lose_power_and_come_back_at_once(make: Make) -> None:
    mesh = make(3).start()
    first = mesh.nodes[0]
    kept = first.ok("run", "-d", "--", "echo", "kept").strip()
    assert first.run("task", "wait", kept).returncode == 0
    for node in mesh.nodes:
        node.crash()
    for node in mesh.nodes:
        node.spawn()
    for node in mesh.nodes:
        node.started()
    mesh.agree(mesh.nodes)
    for node in mesh.nodes:
        assert node.ok("task", "logs", kept) == "kept\n"
        assert node.runs() in names(mesh.nodes)


@pytest.mark.slow
def test_a_node_that_was_stopped_for_a_minute_accuses_nobody(make: Make) -> None:
    mesh = make(3).start()
    sleeper, *others = mesh.nodes
    sleeper.host.signal(signal.SIGSTOP)
    asleep = time.monotonic()
    mesh.agree(others)
    time.sleep(max(0.0, SLEPT_S - (time.monotonic() - asleep)))
    sleeper.host.signal(signal.SIGCONT)
    mesh.agree(mesh.nodes)
    assert {sleeper.runs("--node", name) for name in names(mesh.nodes)} == names(mesh.nodes)
    for node in mesh.nodes:
        lines = [line for line in node.json("events")["events"] if line["kind"] == "member"]
        accused = {line["node"]["name"] for line in lines if line["state"] in ("suspect", "down")}
        assert accused <= {sleeper.name}, lines


def test_tailscale_alone_brings_moved_hosts_together_again(make: Make, tmp_path: Path) -> None:
    """Both move while they are off, to a tailnet without mDNS: only its command-line tool knows them."""
    mesh = make(2)
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    tool = bin_dir / "tailscale"
    shutil.copy(Path(__file__).parent / "tailscale.sh", tool)
    tool.chmod(0o755)
    for node in mesh.nodes:
        node.environ["PATH"] = f"{bin_dir}:{node.environ['PATH']}"
        node.environ["FAKE_TS_JSON"] = str(tmp_path / f"{node.name}.json")
    one, two = mesh.nodes
    mesh.start("--no-mdns", addresses=True)
    for node in mesh.nodes:
        node.stop()
    for node, number in ((one, 1), (two, 2)):
        node.host.change_address(f"100.77.0.{number}")
    write_status(tmp_path / "h1.json", "100.77.0.1", "100.77.0.2")
    write_status(tmp_path / "h2.json", "100.77.0.2", "100.77.0.1")
    for node in mesh.nodes:
        node.start("--no-mdns")
    mesh.agree(mesh.nodes)
    assert one.row(two.name)["path"] == "tailscale"
    assert one.runs("--node", two.name) == two.name


def write_status(path: Path, own: str, other: str) -> None:
    person = {"UserID": 1, "Online": True}
    path.write_text(
        json.dumps(
            {
                "BackendState": "Running",
                "Self": {**person, "HostName": "own", "TailscaleIPs": [own]},
                "Peer": {"k": {**person, "HostName": "other", "TailscaleIPs": [other], "Tags": None}},
            }
        )
    )
