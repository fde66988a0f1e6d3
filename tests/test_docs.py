"""Every command that the docs quote is run here, as it stands there: against real nodes, or in the simulator.

What sims/README.md says is held against what there is: every command, option, row, file and folder, and its TOML.
"""

from __future__ import annotations

import argparse
import base64
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.local_mesh import LocalMesh
from sims.__main__ import COMMANDS
from sims.plan import variants
from sims.scenario import run
from sims.tomlfile import loads

ROOT = Path(__file__).parent.parent
SIMULATOR = ROOT / "sims"
DOCS = [ROOT / "README.md", SIMULATOR / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```", re.MULTILINE | re.DOTALL)

# What starts nodes or needs another machine's firewall is run by other tests, in other words.
ELSEWHERE = {
    "make demo": "the demo itself, by hand and before each release",
    "make test": "this run",
    "make soak": "tests/test_soak.py, a minute of it",
    "openclaw node start": "tests/test_full_system.py, benchmarks/local_mesh.py",
    "openclaw node start --join oc1_…": "benchmarks/local_mesh.py",
    "openclaw node start --skills-dir examples/skills": "the nodes of this file are started so",
    "sudo ufw allow 27460:27462/tcp && sudo ufw allow 5353/udp": "needs ufw",
}


def quoted_commands() -> list[str]:
    found = []
    for doc in DOCS:
        for block in BLOCK.findall(doc.read_text()):
            for line in block.splitlines():
                command = re.sub(r"^\w+\$\s+", "", line.strip())
                command = re.sub(r"\s+#\s.*$", "", command)
                if re.match(r"(openclaw|make|sudo|ls|python -m)(\s|$)", command):
                    found.append(command)
    return sorted(set(found))


# A picture of one pixel.
PHOTO = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
)
EXTRAS = {"table-query": "duckdb", "table-model": "sklearn", "media:": "PIL"}

COMMANDS_QUOTED = [command for command in quoted_commands() if command not in ELSEWHERE]
SIMULATED = [command for command in COMMANDS_QUOTED if command.startswith("python -m sims")]


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("laptop", "nas"), "--skills-dir", str(ROOT / "examples" / "skills")) as mesh:
        yield mesh


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person's working folder, with what the examples speak of."""
    folder = tmp_path_factory.mktemp("folder")
    (folder / "data.csv").write_text("a,b\n1,2\n")
    (folder / "one.log").write_text("one")
    (folder / "two.log").write_text("two")
    (folder / "notes.txt").write_text("The mesh and the node and the mesh.\n")
    (folder / "photo.png").write_bytes(PHOTO)
    (folder / "examples").symlink_to(ROOT / "examples")
    bin_dir = folder / "bin"
    bin_dir.mkdir()
    (bin_dir / "openclaw").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m openclaw "$@"\n')
    (bin_dir / "openclaw").chmod(0o755)
    return folder


def test_there_are_commands_to_test() -> None:
    assert len([command for command in quoted_commands() if command.startswith("openclaw")]) >= 8


@pytest.mark.parametrize("command", [each for each in COMMANDS_QUOTED if each not in SIMULATED])
def test_quoted_command_works(mesh: LocalMesh, folder: Path, command: str) -> None:
    for skill, module in EXTRAS.items():
        if f"--skill {skill}" in command and find_spec(module) is None:
            pytest.skip(f"without {module}: pip install 'openclaw-mesh[skills]'")
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


def test_the_files_that_are_shown_are_the_files() -> None:
    page = (ROOT / "docs" / "skills.md").read_text()
    shown = re.findall(r"^<!-- (\S+) -->\n```\w+\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    for name, text in shown:
        assert text == (ROOT / name).read_text()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


# --- the simulator -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Like the project's folder, as far as the simulator's examples read or write there."""
    folder = tmp_path_factory.mktemp("simulator")
    (folder / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "simulation.md", folder / "docs")
    (folder / "sims").mkdir()
    (folder / "sims" / "scenarios").symlink_to(SIMULATOR / "scenarios")
    return folder


def test_quoted_simulations_work(elsewhere: Path) -> None:
    """In the order in which the page has them: a later one may read what an earlier one wrote."""
    assert {command.split()[3] for command in SIMULATED} == set(COMMANDS)
    page = (SIMULATOR / "README.md").read_text()
    for command in sorted(SIMULATED, key=page.index):
        words = f'"{sys.executable}" {command.removeprefix("python ")}'
        done = subprocess.run(
            words, shell=True, cwd=elsewhere, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def options_of(command: str) -> set[str]:
    commands = argparse.ArgumentParser().add_subparsers()
    import_module(COMMANDS[command][0]).add_parser(commands)
    actions = commands.choices[command]._actions
    return {name for action in actions for name in action.option_strings if name.startswith("--")} - {
        "--help"
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_the_simulator_is_explained(command: str) -> None:
    section = (SIMULATOR / "README.md").read_text().partition("## Commands")[2].partition("## Scenarios")[0]
    told = next(part for part in section.split("\n### ") if command in part.partition(":")[0].split(", "))
    assert {name for name in options_of(command) if name not in told} == set()


def test_every_file_of_the_simulator_is_explained() -> None:
    table = (
        (SIMULATOR / "README.md").read_text().partition("## Where things are")[2].partition("## To add")[0]
    )
    told = {name.rstrip("/") for name in re.findall(r"`([\w.]+(?:\.py|/))`", table)}
    there = {path.name for path in SIMULATOR.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert told == there - {"__pycache__"}


def test_the_scenario_that_is_shown_can_be_run() -> None:
    (text,) = re.findall(
        r"^```toml\n(.*?)^```", (SIMULATOR / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    for plan in variants(loads(text)):
        assert run(plan).failed == ()
