"""Every command that the docs quote is run here, as it stands there, against real nodes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.local_mesh import LocalMesh

ROOT = Path(__file__).parent.parent
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What starts nodes or needs another machine's firewall is run by other tests, in other words.
ELSEWHERE = {
    "make demo": "the demo itself, by hand and before each release",
    "make test": "this run",
    "openclaw node start": "tests/test_full_system.py, benchmarks/local_mesh.py",
    "openclaw node start --join oc1_…": "benchmarks/local_mesh.py",
    "sudo ufw allow 27460:27462/tcp && sudo ufw allow 5353/udp": "needs ufw",
}


def quoted_commands() -> list[str]:
    found = []
    for doc in DOCS:
        for block in BLOCK.findall(doc.read_text()):
            for line in block.splitlines():
                command = re.sub(r"^\w+\$\s+", "", line.strip())
                command = re.sub(r"\s+#\s.*$", "", command)
                if re.match(r"(openclaw|make|sudo|ls|python -m)\b", command):
                    found.append(command)
    return sorted(set(found))


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("laptop", "nas")) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's working folder, with what the examples speak of."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (folder / "one.log").write_text("one")
    (folder / "two.log").write_text("two")
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    (bin_dir / "openclaw").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m openclaw "$@"\n')
    (bin_dir / "openclaw").chmod(0o755)
    return folder


def test_there_are_commands_to_test() -> None:
    assert len([command for command in quoted_commands() if command.startswith("openclaw")]) >= 8


@pytest.mark.parametrize("command", [each for each in quoted_commands() if each not in ELSEWHERE])
def test_quoted_command_works(mesh: LocalMesh, folder: Path, command: str) -> None:
    node = mesh["laptop"]
    if "3kq7…" in command:
        command = command.replace("3kq7…", node.ok("run", "-d", "--", "echo", "x").strip())
    environ = {
        **node.environ,
        "OPENCLAW_MESH_STATE_DIR": str(node.state_dir),
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        command, shell=True, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
