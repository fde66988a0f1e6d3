"""A disk that fills up under a running node: nothing more is taken, and nothing that was taken is lost.

The store alone on a full disk is in `test_store.py`; here it is a whole node, its executor and its tasks.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_mesh import WAIT_S, LocalMesh, LocalNode, wait_until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or sys.platform != "linux", reason="mounting a small disk needs root on Linux"
)
DISK_BYTES = 160 << 20
FILL_BYTES = 1 << 20


@pytest.fixture
def node(tmp_path: Path) -> Iterator[LocalNode]:
    """A node whose state folder is a small disk."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody mount")
    mesh = LocalMesh(())
    try:
        mesh.nodes["small"] = LocalNode("small", disk, mesh.environ)
        yield mesh.nodes["small"].start()
    finally:
        mesh.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(node: LocalNode, leave_bytes: int) -> Path:
    """Until no more than so much is left."""
    ballast = node.state_dir / "ballast"
    with ballast.open("wb", buffering=0) as file:
        while (
            free := os.statvfs(node.state_dir).f_bavail * os.statvfs(node.state_dir).f_frsize
        ) > leave_bytes:
            try:
                file.write(bytes(min(FILL_BYTES, free - leave_bytes)))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
    return ballast


def test_a_nearly_full_disk_takes_no_more_and_keeps_what_it_has(node: LocalNode, tmp_path: Path) -> None:
    go = tmp_path / "go"
    waits = f"while [ ! -e {go} ]; do sleep 0.05; done; echo kept"
    running = node.ok("run", "-d", "--shell", waits).strip()
    wait_until(lambda: node.control("nodes")["nodes"][0]["running"] == 1, "the task to run")
    kept = node.state_dir / "files" / "00" / ("0" * 64)  # something that another node's task once needed
    kept.parent.mkdir(exist_ok=True)
    kept.write_bytes(b"x" * 100_000)
    os.utime(kept, (0, 0))
    ballast = fill(node, 32 << 20)
    done = node.run("run", "--json", "--", "true")
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["type"]) == (125, "disk_full")
    assert "MiB left" in error["message"]
    assert not kept.exists(), "refused before what nobody needs was dropped"
    wait_until(lambda: node.control("node_status")["self"]["running"] == 1, "the other one to run on")
    assert any("MiB left" in warning for warning in node.control("status")["warnings"])
    go.touch()
    assert node.run("task", "wait", running).returncode == 0
    assert node.ok("task", "logs", running) == "kept\n"
    ballast.unlink()
    assert node.ok("run", "-q", "--", "echo", "again") == "again\n"


def test_a_node_that_can_write_nothing_ends_and_says_why(node: LocalNode) -> None:
    """A failed commit is the end of a node: nothing that it could not store is ever said."""
    task = node.ok("run", "-d", "--", "sleep", "600").strip()
    wait_until(lambda: node.control("nodes")["nodes"][0]["running"] == 1, "the task to run")
    ballast = fill(node, 0)
    node.run("task", "cancel", task)
    assert node.process is not None
    assert node.process.stdout is not None
    assert node.process.wait(WAIT_S) == 125
    error = json.loads(node.process.stdout.read())["error"]  # node.log is on the full disk
    assert error["type"] == "disk_full"
    assert "df -h" in error["message"]
    assert "Traceback" not in node.log()
    ballast.unlink()
    node.start()
    # The store may still have had free pages of its own when it was cancelled.
    assert node.json("task", "show", task)["state"] in ("running", "cancelling", "cancelled")
    node.ok("task", "cancel", task)
    assert node.run("task", "wait", task).returncode == 130


def test_a_full_disk_loses_no_task(node: LocalNode, tmp_path: Path) -> None:
    """What ends while nothing can be written is known when there is room again, if need be after a restart."""
    go = tmp_path / "go"
    ended = node.ok("run", "-d", "--", "true").strip()
    assert node.run("task", "wait", ended).returncode == 0
    running = node.ok("run", "-d", "--shell", f"while [ ! -e {go} ]; do sleep 0.05; done; exit 7").strip()
    wait_until(lambda: node.control("nodes")["nodes"][0]["running"] == 1, "the task to run")
    ballast = fill(node, 0)
    go.touch()
    refused = node.run("run", "--", "true")
    assert refused.returncode == 125
    assert b"Traceback" not in refused.stderr
    ballast.unlink()
    assert node.process is not None
    if node.process.poll() is not None:
        node.start()
    assert node.run("task", "wait", running).returncode == 7
    assert node.run("task", "wait", ended).returncode == 0
    assert node.ok("run", "-q", "--", "echo", "again") == "again\n"
