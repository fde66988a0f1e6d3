"""Skills of two real nodes: what each is told of the other's, and what comes of a change while they run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.local_mesh import LocalMesh, LocalNode, wait_until

Doc = dict[str, Any]


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("here", "there")) as mesh:
        yield mesh


def install(node: LocalNode, name: str, metadata: str = "", version: str = "1") -> Path:
    """A skill in the node's own folder, known to the node itself when this returns."""
    folder = node.state_dir / "skills" / name
    folder.mkdir(parents=True, exist_ok=True)
    head = f"name: {name}\ndescription: Does {name}.\nversion: '{version}'\n{metadata}"
    (folder / "SKILL.md").write_text(f"---\n{head}\n---\n")
    node.control("skills", refresh=True)
    return folder


def skills(node: LocalNode) -> dict[str, Doc]:
    return {each["name"]: each for each in node.control("skills")["skills"]}


def holders(node: LocalNode, name: str) -> dict[str, Doc]:
    return {each["name"]: each for each in skills(node).get(name, {"nodes": []})["nodes"]}


def test_everyone_sees_everything_and_versions_are_told_apart(mesh: LocalMesh) -> None:
    here, there = mesh["here"], mesh["there"]
    install(here, "both")
    install(there, "both", version="2")
    install(there, "gated", "metadata: {openclaw: {requires: {bins: [wings]}}}")
    wait_until(lambda: len(holders(here, "both")) == 2 and "gated" in skills(here), "the skills to spread")
    found = holders(here, "both")
    assert {name: node["version"] for name, node in found.items()} == {"here": "1", "there": "2"}
    assert found["here"]["tree"] != found["there"]["tree"]
    assert holders(here, "gated")["there"]["missing"] == ["program wings"]
    assert skills(here) == skills(there)
    lines = {line.split()[0]: line for line in here.ok("skill", "list").splitlines() if line}
    assert f"{found['here']['tree'][:8]}: here" in lines["both"]
    assert f"{found['there']['tree'][:8]}: there" in lines["both"]
    assert "(there: no program wings)" in lines["gated"]


def test_a_change_is_noticed_and_a_removal_too(mesh: LocalMesh) -> None:
    here, there = mesh["here"], mesh["there"]
    folder = install(there, "passing")
    wait_until(lambda: "passing" in skills(here), "the new skill")
    before = holders(here, "passing")["there"]["tree"]
    (folder / "notes").write_text("more")
    there.control("skills", refresh=True)
    wait_until(lambda: holders(here, "passing")["there"]["tree"] != before, "the changed skill")
    for path in folder.iterdir():
        path.unlink()
    wait_until(lambda: "passing" not in skills(here), "it to be gone, noticed by the node itself")


def test_warnings_name_file_and_line(mesh: LocalMesh) -> None:
    node = mesh["here"]
    folder = install(node, "strange", "metadata: {openclaw: {os: [macos]}}")
    found = node.json("skill", "list", "--refresh")["warnings"]
    warning = next(each for each in found if "strange" in each["file"])
    assert (warning["file"], warning["line"]) == (str(folder / "SKILL.md"), 5)


def test_a_skill_that_nobody_has(mesh: LocalMesh) -> None:
    done = mesh["here"].run("skill", "show", "alchemy")
    assert done.returncode == 125
    assert b"no node of this mesh has a skill 'alchemy'" in done.stderr
