"""A real node in the background: started, used and stopped by the command line alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

STARTED = ("node", "start", "-d", "--port", "0", "--bind", "127.0.0.1", "--no-mdns", "--no-tailscale")
WAIT_S = 60


class Shell:
    """Runs `openclaw` as a person does, about one state folder."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._environ = os.environ | {"OPENCLAW_MESH_STATE_DIR": str(state_dir)}

    def __call__(self, *line: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "openclaw", *line]
        return subprocess.run(
            command, env=self._environ, capture_output=True, text=True, timeout=WAIT_S, check=False
        )


@pytest.fixture
def openclaw(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path / "state")
    yield shell
    shell("node", "stop", "--grace", "0s")


def test_a_life_in_the_background(openclaw):
    started = openclaw(*STARTED, "--name", "my box", "--label", "gpu=a", "--slots", "3", "--json")
    assert started.returncode == 0, started.stderr
    ready = json.loads(started.stdout)
    assert ready["event"] == "ready"
    assert ready["node"]["name"] == "my box"

    (row,) = json.loads(openclaw("nodes", "--json").stdout)["nodes"]
    assert (row["name"], row["slots"], row["labels"]) == ("my box", 3, {"gpu": "a"})

    done = openclaw("run", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert "running on my box" in done.stderr
    assert "err\n" in done.stderr

    again = openclaw(*STARTED)
    assert again.returncode == 125
    assert "'my box' already runs" in again.stderr

    assert openclaw("node", "stop").returncode == 0
    assert openclaw("node", "status").returncode == 125


def test_what_keeps_a_node_from_starting_is_said_by_its_starter(openclaw):
    failed = openclaw(*STARTED, "--join", "oc1_garbled", "--json")
    assert failed.returncode == 125
    assert json.loads(failed.stdout)["error"]["type"] == "bad_token"
