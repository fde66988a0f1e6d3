"""Every limit of a node, set by its name, says no by that name; on a real node."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_mesh import LocalMesh, LocalNode, wait_until
from openclaw.errors import MeshError

LIMITS = {
    "queue_tasks": "6",
    "mesh_queue_tasks": "2",
    "argv_bytes": "1K",
    "env_bytes": "1K",
    "payload_bytes": "1500",
    "files_bytes": "10K",
    "output_bytes": "64K",
}


@pytest.fixture(scope="module")
def node() -> Iterator[LocalNode]:
    flags = [word for name, value in LIMITS.items() for word in ("--limit", f"{name}={value}")]
    with LocalMesh(("a",), "--slots", "1", *flags) as mesh:
        yield mesh["a"]


def refusal(node: LocalNode, *argv: str) -> tuple[str, str]:
    done = node.run("run", "--json", *argv)
    assert done.returncode == 125
    error = json.loads(done.stdout)["error"]
    return error["type"], error["message"]


@pytest.mark.parametrize(
    ("name", "argv"),
    [
        ("argv_bytes", ["--", "true", "x" * 1100]),
        ("env_bytes", ["--env", "A=" + "x" * 1100, "--", "true"]),
        ("payload_bytes", ["--env", "A=" + "x" * 900, "--", "true", "x" * 900]),
    ],
)
def test_what_a_task_carries(node: LocalNode, name: str, argv: list[str]) -> None:
    kind, message = refusal(node, *argv)
    assert kind == "too_large"
    assert name in message
    assert "--input" in message


def test_files_that_open_tasks_need_leave_no_room_for_more(node: LocalNode, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 6000)
    held = node.ok("run", "-d", "--input", f"{file}", "--", "sleep", "600").strip()
    file.write_bytes(b"y" * 6000)
    kind, message = refusal(node, "--input", str(file), "--", "true")
    assert kind == "full"
    assert "files_bytes" in message
    node.ok("task", "cancel", held)
    node.run("task", "wait", held)
    file.write_bytes(b"z" * 11_000)
    assert refusal(node, "--input", str(file), "--", "true")[0] == "full"


def test_output_is_cut_in_the_middle(node: LocalNode) -> None:
    task = json.loads(node.ok("run", "--json", "--", "head", "-c", "300000", "/dev/zero"))
    assert 300_000 - task["result"]["stdout_cut_bytes"] <= (64 << 10) + 4096


def waiting(node: LocalNode) -> int:
    """As everybody knows: in its owner's queue, or in a worker's."""
    tasks = node.control("status")["tasks"]
    return int(tasks["queued"] + tasks["placed"])


def test_queues_push_back_and_take_again_when_there_is_room(node: LocalNode) -> None:
    tasks = [node.ok("run", "-d", "--", "sleep", "600").strip() for _ in range(3)]
    wait_until(lambda: waiting(node) == 2, "everybody to know of the queue")
    kind, message = refusal(node, "--", "true")
    assert kind == "full"
    assert "mesh_queue_tasks" in message
    with pytest.raises(MeshError, match=r"queue_tasks is 6") as refused:
        node.control("submit", tasks=[{"argv": ["true"]}] * 4)
    assert refused.value.kind == "full"
    node.ok("task", "cancel", *tasks)
    node.run("task", "wait", *tasks)
    wait_until(lambda: waiting(node) == 0, "everybody to know of the room")
    assert node.ok("run", "-q", "--", "echo", "again") == "again\n"


def test_what_is_not_there_may_have_been_forgotten(node: LocalNode) -> None:
    done = node.run("task", "show", f"{node.id}-aaaaaaab")
    assert done.returncode == 1
    assert b"kept for 30 days and 8192 MiB" in done.stderr


def test_a_wrong_limit_is_named(node: LocalNode) -> None:
    for wrong, word in (("queue=5", "queue_tasks"), ("argv_bytes=1G", "at most"), ("keep_s=soon", "10s")):
        done = node.run("node", "start", "--json", "--limit", wrong)
        assert done.returncode == 2
        assert word in json.loads(done.stdout)["error"]["message"]
