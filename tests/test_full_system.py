"""The four scenarios that the system before us claimed to pass, for real, on real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_mesh import OPENCLAW, LocalMesh, wait_until


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("a", "b", "c"), "--slots", "4") as mesh:
        yield mesh


def test_a_nodes_life() -> None:
    with LocalMesh(("solo",)) as mesh:
        node = mesh["solo"]
        assert set(node.ready) >= {"event", "node", "mesh", "addresses", "state_dir"}
        status = node.json("status")
        assert status["node"]["name"] == "solo"
        assert status["leader"]["id"] == node.id
        assert status["nodes"] == {"total": 1, "alive": 1, "suspect": 0, "down": 0}
        assert node.ok("run", "-q", "--", "echo", "alone") == "alone\n"
        assert node.stop() == 0
        after = node.run("status", "--json")
        assert after.returncode == 125
        assert json.loads(after.stdout)["ok"] is False


def test_a_workers_facts_and_metrics(mesh: LocalMesh) -> None:
    def measured() -> bool:
        rows = mesh["b"].json("nodes")["nodes"]
        return all(row["metrics"] and row["metrics"]["memory_percent"] > 0 for row in rows)

    wait_until(measured, "metrics of every node")
    for row in mesh["b"].json("nodes")["nodes"]:
        assert row["platform"] in ("linux", "darwin")
        assert row["hostname"]
        assert row["arch"]
        assert row["slots"] == 4
        assert 0 <= row["metrics"]["cpu_percent"] <= 100
        assert 0 < row["metrics"]["memory_percent"] <= 100
        assert 0 < row["metrics"]["disk_percent"] <= 100


def test_five_tasks_submitted_and_run(mesh: LocalMesh) -> None:
    ids = [
        mesh["a"].ok("run", "-d", "--", sys.executable, "-c", f"print({n} * {n})").strip() for n in range(5)
    ]
    assert len(set(ids)) == 5
    for n, task in enumerate(ids):
        assert mesh["c"].run("task", "wait", task).returncode == 0
        doc = mesh["b"].json("task", "show", task)
        assert doc["state"] == "succeeded"
        assert doc["exit_code"] == 0
        assert [move["state"] for move in doc["story"]][-1] == "succeeded"
        assert mesh["c"].ok("task", "logs", task) == f"{n * n}\n"


@pytest.mark.parametrize("submitter", ["a", "b", "c"])
def test_ten_of_ten_placed_from_each_node(mesh: LocalMesh, submitter: str) -> None:
    lines = "\n".join(f"line {n}" for n in range(10))
    before = mesh[submitter].json("status")["tasks"]["succeeded"]
    out = mesh[submitter].ok("map", "-", "--", "echo", "{}", stdin=lines)
    assert out.splitlines() == lines.splitlines()
    wait_until(
        lambda: mesh[submitter].json("status")["tasks"]["succeeded"] >= before + 10, "ten more in the counts"
    )


def test_tasks_go_where_the_fewest_are(mesh: LocalMesh) -> None:
    """Nine tasks that wait for each other on three nodes of four slots: three on each."""
    ids = [mesh["a"].ok("run", "-d", "--", "sleep", "60").strip() for _ in range(9)]

    def running() -> bool:
        rows = mesh["a"].control("nodes")["nodes"]
        return sum(row["running"] for row in rows) == 9

    try:
        wait_until(running, "nine running tasks in the heartbeats")
        assert {row["name"]: row["running"] for row in mesh["a"].control("nodes")["nodes"]} == {
            "a": 3,
            "b": 3,
            "c": 3,
        }
    finally:
        mesh["b"].ok("task", "cancel", *ids)
    for task in ids:
        assert mesh["a"].run("task", "wait", task).returncode == 130


def test_where_it_would_run_and_why_not_elsewhere(mesh: LocalMesh) -> None:
    could = json.loads(mesh["b"].ok("explain", "--json", "--", "true"))
    assert {row["name"]: row["eligible"] for row in could["nodes"]} == {"a": True, "b": True, "c": True}
    assert could["chosen"] in ("a", "b", "c")
    line = "run --dry-run --json --node c --need cpus=4 -- true"

    def chosen() -> bool:  # a task of before may still stand in the last heartbeat
        return bool(json.loads(mesh["b"].ok(*line.split()))["chosen"] == "c")

    wait_until(chosen, "c to have all of its slots free")
    only = json.loads(mesh["b"].ok(*line.split()))
    (why,) = next(row["reasons"] for row in only["nodes"] if row["name"] == "a")
    assert "asked for" in why
    never = mesh["b"].run("run", "--dry-run", "--json", "--need", "gpus=64", "--", "true")
    assert never.returncode == 125
    assert all("64 GPUs" in row["reasons"][0] for row in json.loads(never.stdout)["nodes"])
    waits = mesh["a"].ok("run", "-d", "--wait", "--need", "gpus=64", "--", "true").strip()
    document = mesh["c"].json("explain", waits)
    assert document["chosen"] is None
    assert "no node that is here can run it" in document["waiting"]
    mesh["b"].ok("task", "cancel", waits)


def test_once_on_every_node_and_once_more(mesh: LocalMesh) -> None:
    every = mesh["a"].run("run", "--all", "--json", "--", "sh", "-c", "echo $OPENCLAW_MESH_NODE")
    assert every.returncode == 0
    documents = json.loads(every.stdout)
    assert sorted(task["node"]["name"] for task in documents) == ["a", "b", "c"]
    lines = every.stderr.decode().splitlines()
    assert sorted(line for line in lines if len(line) == 1) == ["a", "b", "c"]
    some = mesh["a"].run("run", "--all", "-q", "--", "sh", "-c", 'test "$OPENCLAW_MESH_NODE" != b')
    assert some.returncode == 1
    again = mesh["c"].ok("task", "retry", documents[0]["id"]).strip()
    assert mesh["b"].run("task", "wait", again).returncode == 0
    assert mesh["b"].json("task", "show", again)["argv"] == documents[0]["argv"]


def test_a_gpu_belongs_to_one_task_and_nothing_outgrows_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the tool of the GPU's maker; nobody can have more of them than it sees."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf '0\\n1\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with LocalMesh(("solo",), "--slots", "4") as mesh:
        node = mesh["solo"]
        wait_until(lambda: node.json("nodes")["nodes"][0]["gpus"] == 2, "its GPUs to be found")
        line = 'echo "$CUDA_VISIBLE_DEVICES" > $0; while [ ! -e gate ]; do sleep 0.05; done'
        need = {"needs": {"gpus": 1}, "cwd": str(tmp_path)}
        tasks = [{"argv": ["sh", "-c", line, f"seen{n}"], **need} for n in range(3)]
        ids = node.control("submit", tasks=tasks)["ids"]
        wait_until(lambda: all((tmp_path / f"seen{n}").exists() for n in range(2)), "two of them to run")
        assert "not the memory or the GPUs" in node.json("explain", ids[2])["waiting"]
        free = node.ok("run", "-q", "--", "sh", "-c", "echo ${CUDA_VISIBLE_DEVICES-none}")
        assert free == "none\n"
        (tmp_path / "gate").touch()
        for task in ids:
            assert node.run("task", "wait", task).returncode == 0
        seen = [(tmp_path / f"seen{n}").read_text().strip() for n in range(3)]
        assert sorted(seen[:2]) == ["0", "1"]
        assert seen[2] in seen[:2]
        never = node.run("run", "--need", "memory=900T", "--", "true")
        assert never.returncode == 125
        assert b"of the 921,600 GiB memory that it needs" in never.stderr


def test_a_map_under_a_key_goes_on_where_its_client_was_killed(mesh: LocalMesh, tmp_path: Path) -> None:
    ledger, lines = tmp_path / "ledger", tmp_path / "lines"
    lines.write_text("".join(f"{n}\n" for n in range(400)))
    line = (
        f"echo $0 >> {ledger}; while [ $0 -ge 20 ] && [ ! -e {tmp_path}/gate ]; do sleep 0.1; done; echo $0"
    )
    command = ("map", "--key", "once more", str(lines), "--", "sh", "-c", line, "{}")
    argv = [*OPENCLAW, "--state-dir", str(mesh["a"].state_dir), *command]
    with subprocess.Popen(argv, env=mesh.environ, stdout=subprocess.DEVNULL) as client:
        wait_until(lambda: ledger.exists() and len(ledger.read_text().split()) > 25, "some of it to run")
        client.kill()
    (tmp_path / "gate").touch()
    assert mesh["a"].ok(*command, timeout_s=120).split() == [str(n) for n in range(400)]
    assert sorted(map(int, ledger.read_text().split())) == list(range(400))  # none was lost, none ran twice
    assert mesh["b"].ok(*command, timeout_s=120).split() == [str(n) for n in range(400)]
    assert len(ledger.read_text().split()) == 400
