"""A node inside a program: it starts whole or not at all, says what the command line says, and ends in bounded time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import mesh_handlers
import pytest

import openclaw
from openclaw.client import Client
from openclaw.errors import MeshError

ALONE = {"port": 0, "bind": ["127.0.0.1"], "mdns": False, "tailscale": False, "slots": 1}
PATIENCE_S = 30


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openclaw.Node]:
    node = openclaw.Node(tmp_path_factory.mktemp("node"), name="inside", **ALONE)
    node.register_task_handler("before", mesh_handlers.double)
    with node:
        yield node


def test_handlers_may_be_registered_before_and_after_the_start(node: openclaw.Node) -> None:
    assert node.submit_task("before", 2).result(PATIENCE_S) == 4
    node.register_task_handler("after", mesh_handlers.pair)
    assert node.submit_task("after", 2).result(PATIENCE_S) == [2, "nothing", {}]
    assert node.submit_task("before", 3).result(PATIENCE_S) == 6
    assert node.submit_task(openclaw.Command(["echo", "hi"])).result(PATIENCE_S).stdout == b"hi\n"


def test_a_handler_that_no_other_process_can_find_is_refused(node: openclaw.Node) -> None:
    with pytest.raises(MeshError, match="top level"):
        node.register_task_handler("lambda", lambda: None)


def test_it_says_what_the_command_line_says(node: openclaw.Node) -> None:
    def told(*argv: str) -> dict[str, object]:
        words = [sys.executable, "-m", "openclaw", *argv, "--state-dir", str(node.state_dir), "--json"]
        return dict(json.loads(subprocess.run(words, capture_output=True, check=True).stdout))

    status = told("status")
    assert node.get_cluster_status() == status
    assert node.get_scheduler_status() == {**status["scheduler"], "leader": status["leader"]}  # type: ignore[dict-item]
    assert node.get_skill_status() == told("skill", "list")
    (row,) = told("nodes")["nodes"]  # type: ignore[misc]
    assert node.get_available_skills() == sorted(row["skills"])
    info = node.get_node_info()
    assert info == {
        "id": row["id"], "name": "inside", "hostname": row["hostname"], "platform": row["platform"],
        "architecture": row["arch"], "ip": "127.0.0.1", "tailscale_ip": None,
    }  # fmt: skip
    metrics = node.get_system_metrics()
    assert set(metrics) == {"cpu_usage", "memory_usage", "disk_usage", "running_tasks"}
    assert all(0 <= metrics[name] <= 100 for name in ("cpu_usage", "memory_usage", "disk_usage"))


def test_what_cannot_start_leaves_nothing_behind(tmp_path: Path) -> None:
    broken = openclaw.Node(tmp_path, handlers=["nothing_of_this_name"], **ALONE)
    before = threading.active_count()
    with pytest.raises(MeshError, match="No module named"):
        broken.start()
    assert threading.active_count() == before
    with pytest.raises(MeshError, match="no node runs here"):
        Client(tmp_path)
    with openclaw.Node(tmp_path, **ALONE) as whole:  # its lock, ports and store are free
        assert whole.get_cluster_status()["nodes"]["total"] == 1
        with pytest.raises(MeshError):
            openclaw.Node(tmp_path, **ALONE).start()
        assert whole.get_cluster_status()["nodes"]["total"] == 1


def test_a_stop_is_bounded_and_what_waits_for_a_task_hears_of_it(tmp_path: Path) -> None:
    node = openclaw.Node(tmp_path, **ALONE)
    node.register_task_handler("waits", mesh_handlers.waits)
    node.start()
    future = node.submit_task("waits", str(tmp_path / "ready"), str(tmp_path / "never"))
    node.stop(grace_s=0.1)
    with pytest.raises(openclaw.Unavailable, match="its node was stopped"):
        future.result(0)
    node.stop()
    with pytest.raises(RuntimeError, match="make another"):
        node.start()


def test_a_setting_that_there_is_not_is_named() -> None:
    with pytest.raises(TypeError, match="no setting 'prot'"):
        openclaw.Node(prot=1)
