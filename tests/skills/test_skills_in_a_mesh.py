"""Skills of two real nodes: what each is told of the other's, and what comes of a change while they run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.local_mesh import LocalMesh, LocalNode, wait_until
from openclaw.errors import MeshError

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
    wait_until(lambda: skills(here) == skills(there), "both to show the same")
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


# --- calls ---------------------------------------------------------------------------------------

COUNT = """metadata:
  openclaw: {primaryEnv: TOKEN}
  openclaw-mesh:
    entrypoints:
      count:
        argv: ["/bin/sh", "{baseDir}/scripts/count.sh", "{text}", "{out}"]
        params:
          properties:
            text: {type: string}
            times: {type: integer, maximum: 3}
            out: {type: string, default: count.txt}
          required: [text]
        inputs: [text]
        outputs: [out]"""
SCRIPT = 'wc -l < "$1" > "$2"; echo "$TOKEN ${OPENCLAW_MESH_SKILL} $(pwd | grep -c scratch)"\n'


@pytest.fixture(scope="module")
def shop(mesh: LocalMesh) -> LocalNode:
    """A node that runs skills and nothing else."""
    token = mesh["here"].json("node", "invite", "--capabilities", "skill")["token"]
    node = LocalNode("shop", mesh.folder / "shop", mesh["here"].environ)
    mesh.nodes["shop"] = node
    node.start("--policy", "skills", join=token)
    folder = install(node, "lines", COUNT)
    (folder / "scripts").mkdir()
    (folder / "scripts" / "count.sh").write_text(SCRIPT)
    node.control("skills", refresh=True)
    mesh.settle()
    tree = holders(node, "lines")["shop"]["tree"]
    for each in mesh.nodes.values():
        wait_until(lambda n=each: holders(n, "lines").get("shop", {}).get("tree") == tree, "the shop's skill")
    return node


@pytest.fixture
def node(mesh: LocalMesh, shop: LocalNode) -> LocalNode:  # noqa: ARG001 - the skill is there then
    return mesh["here"]


def test_a_call_goes_out_with_its_file_and_comes_back_with_another(node: LocalNode, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("1\n2\n3\n")
    line = (
        "--skill",
        "lines",
        "-p",
        f"text={tmp_path}/in.txt",
        "-p",
        f"out={tmp_path}/out.txt",
        "--env",
        "TOKEN=t",
    )
    assert node.ok("run", "-q", *line) == "t lines 1\n"
    assert (tmp_path / "out.txt").read_text().strip() == "3"
    document = node.json("run", *line)
    assert (document["kind"], document["skill"], document["node"]["name"]) == ("skill", "lines:count", "shop")


def test_a_script_of_the_folder_and_none_beside_it(node: LocalNode) -> None:
    done = node.run("run", "-q", "--skill", "lines", "--", "scripts/count.sh", "/dev/null", "/dev/null")
    assert (done.returncode, done.stdout) == (0, b" lines 1\n")
    done = node.run("run", "--skill", "lines", "--", "scripts/../../../store/data.mdb")
    assert done.returncode == 125
    assert b"no file" in done.stderr


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (("-p", "text=/nowhere"), 2, "text: there is no file /nowhere"),
        (("-p", "text=/dev/null", "-p", "times=4"), 2, "times: 4 is over the maximum 3"),
        ((), 2, "text: it is needed"),
        (("-p", "text=x", "--env", "LD_PRELOAD=x"), 2, "LD_PRELOAD"),
        (("-p", "text=x", "--cwd", "/"), 2, "scratch directory"),
        (("-p", "text=x", "--node", "there"), 2, "no file x"),
    ],
)
def test_what_does_not_fit_is_refused_here(
    node: LocalNode, line: tuple[str, ...], code: int, words: str
) -> None:
    done = node.run("run", "--skill", "lines:count", *line)
    assert done.returncode == code
    assert words in done.stderr.decode()


def test_map_calls_a_skill_for_each_line_and_brings_back_the_files(node: LocalNode, tmp_path: Path) -> None:
    for count in (3, 1, 2):
        (tmp_path / f"in{count}").write_text("x\n" * count)
    wanted = ("-p", f"text={tmp_path}/in{{}}", "-p", f"out={tmp_path}/out{{}}", "--env", "TOKEN=t")
    line = ("map", "-q", "--skill", "lines:count", *wanted)
    assert node.ok(*line, "-", stdin="3\n1\n2\n") == "t lines 1\n" * 3
    assert [(tmp_path / f"out{count}").read_text().strip() for count in (1, 2, 3)] == ["1", "2", "3"]
    keyed = node.ok(*line, "--key", "k", "--json", "-", stdin="1\n2\n").splitlines()
    assert [json.loads(each)["skill"] for each in keyed] == ["lines:count"] * 2
    again = node.ok(*line, "--key", "k", "--json", "-", stdin="1\n2\n").splitlines()
    assert [json.loads(each)["id"] for each in again] == [json.loads(each)["id"] for each in keyed]


@pytest.mark.parametrize(
    ("line", "stdin", "code", "words"),
    [
        (
            ("--skill", "lines:count", "-p", "text={}"),
            "/nowhere\n",
            2,
            "line 1: lines:count: text: there is no",
        ),
        (
            ("--skill", "lines", "-p", "text={}"),
            "/etc/passwd\n/etc/hosts\n",
            2,
            "line 2: it would write count.txt",
        ),
        (("--skill", "lines", "-p", "times={}"), "7\n", 2, "line 1: lines:count: "),
        (("-p", "text=x"), "x\n", 2, "-p is for a skill"),
        (("--skill", "alchemy", "-p", "a={}"), "x\n", 125, "has a skill 'alchemy'"),
    ],
)
def test_what_map_cannot_call_is_said_with_its_line(
    node: LocalNode, line: tuple[str, ...], stdin: str, code: int, words: str
) -> None:
    done = node.run("map", *line, "-", stdin=stdin)
    assert done.returncode == code
    assert words in done.stderr.decode()


def test_who_may_only_run_skills_runs_no_command_in_the_clothes_of_one(
    shop: LocalNode,
) -> None:
    """The owner of this request checks nothing: it is asked over its own socket for what no command line sends."""
    done = shop.run("run", "--", "true")
    assert b"does not allow 'shell'" in done.stderr
    task = {"kind": "skill", "argv": ["/bin/sh", "-c", "true"], "skill": None}
    with pytest.raises(MeshError, match="names its skill"):
        shop.control("submit", tasks=[task], wait=False)
    tree = holders(shop, "lines")["shop"]["tree"]
    call = {"name": "lines", "tree": tree, "entry": "count", "params": {"text": "/etc/passwd"}}
    done_task = shop.control("submit", tasks=[{"kind": "skill", "skill": call}], wait=False)["ids"][0]
    wait_until(lambda: shop.control("task_show", id=done_task)["task"]["state"] == "failed", "the refusal")
    assert "/etc/passwd was not brought along" in shop.control("task_show", id=done_task)["task"]["error"]
