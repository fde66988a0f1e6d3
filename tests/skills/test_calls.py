"""A call of a skill: checked by its caller, and made a command line by the worker, whatever the caller says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec
import pytest

from openclaw.errors import MeshError
from openclaw.records import InputFile, Payload, SkillCall
from openclaw.skills.calls import call, given_texts, pick
from openclaw.skills.describe import Described
from openclaw.skills.entries import Entry, arguments, inside, read_entries, read_entry
from openclaw.skills.gating import Gate
from openclaw.skills.json5 import Json
from openclaw.skills.registry import Skill
from openclaw.skills.resolve import SkillRefused, resolved

PLACES = {"baseDir": "/skill", "python": "/py"}
CUT: dict[str, Any] = {
    "argv": [
        "{baseDir}/cut.sh",
        ["--width", "{width}"],
        ["--fast", "{?fast}"],
        "{table}",
        "--",
        "{words}",
        "{args}",
    ],
    "params": {
        "properties": {
            "table": {"type": "string"},
            "width": {"type": "integer", "maximum": 9},
            "fast": {"type": "boolean", "default": False},
            "words": {"type": "array", "items": {"type": "string"}},
            "out": {"type": "string", "default": "out.csv"},
        },
        "required": ["table"],
    },
    "inputs": ["table"],
    "outputs": ["out", "report.txt"],
    "timeout": "2m",
    "needs": {"labels": {"gpu": "a"}, "cpus": 2, "memory": "1.5G"},
}


def entry_of(raw: Json, name: str = "cut") -> Entry:
    entry, wrong = read_entry(name, raw)
    assert not wrong
    assert entry is not None
    return entry


@pytest.mark.parametrize(
    ("raw", "wrong"),
    [
        (1, "no mapping"),
        ({}, "argv has to be"),
        ({"argv": []}, "argv has to be"),
        ({"argv": "cut x"}, "argv has to be"),
        ({"argv": ["x", 1]}, "argv has to be"),
        ({"argv": ["x", []]}, "argv has to be"),
        ({"argv": ["x"], "shell": True}, "'shell' is not understood"),
        ({"argv": ["x", "{y}"]}, "no parameter 'y'"),
        ({"argv": ["x", ["-y", "{?y}"]]}, "no parameter 'y'"),
        ({"argv": ["x", "--y={y}"], "params": {"properties": {"y": {}}}}, "argument of its own"),
        ({"argv": ["{baseDir}/{y}"], "params": {"properties": {"y": {}}}}, "argument of its own"),
        ({"argv": ["{baseDir}/../x"]}, "leaves the skill's folder"),
        ({"argv": ["x"], "params": {"properties": {"args": {}}}}, "may not be called 'args'"),
        ({"argv": ["x"], "params": {"$ref": "y"}}, "'$ref' is not understood"),
        ({"argv": ["x"], "inputs": ["y"]}, "no such parameter"),
        ({"argv": ["x"], "inputs": "y"}, "lists of names"),
        ({"argv": ["x"], "outputs": ["../y"]}, "leaves the scratch folder"),
        ({"argv": ["x"], "timeout": "soon"}, "no time"),
        ({"argv": ["x"], "needs": {"magic": 1}}, "needs takes"),
        ({"argv": ["x"], "needs": {"cpus": -1}}, "needs takes"),
        ({"argv": ["x"], "needs": {"gpus": True}}, "needs takes"),
        ({"argv": ["x"], "needs": {"memory": "much"}}, "needs takes"),
        ({"argv": ["x"], "needs": {"labels": {"a": 1}}}, "needs takes"),
    ],
)
def test_an_entrypoint_that_cannot_be_used_says_why(raw: Json, wrong: str) -> None:
    entry, found = read_entry("cut", raw)
    assert entry is None
    assert any(wrong in each for each in found), found


def test_names_and_numbers_of_entrypoints_are_bounded() -> None:
    entries, wrong = read_entries({f"e{n}": {"argv": ["x"]} for n in range(40)} | {"a b": {"argv": ["x"]}})
    assert len(entries) == 32
    assert len(wrong) == 2


def test_parameters_are_whole_arguments_and_groups_fall_away() -> None:
    entry = entry_of(CUT)
    assert (entry.timeout_s, entry.labels) == (120.0, (("gpu", "a"),))
    assert entry.room == (("cpus", 2), ("memory_bytes", 3 << 29))
    least = {"table": "t.csv", "fast": False}
    assert arguments(entry, least, PLACES) == ["/skill/cut.sh", "t.csv", "--"]
    values: dict[str, Json] = {"table": "$(rm) a;b", "width": 3, "fast": True, "words": ["a b", "", "--x"]}
    assert arguments(entry, values, PLACES, ["more", "x y"]) == [
        "/skill/cut.sh", "--width", "3", "--fast", "$(rm) a;b", "--", "a b", "", "--x", "more", "x y",
    ]  # fmt: skip


def test_the_other_places_and_types() -> None:
    raw: Json = {
        "argv": ["{python}", "{baseDir}", "{params}", "{a}", "{b}", "{c}", "not {this} one"],
        "params": {"properties": {"a": {}, "b": {}, "c": {}}},
    }
    values: dict[str, Json] = {"a": True, "b": {"x": [1]}, "c": 1.5}
    whole = '{"a":true,"b":{"x":[1]},"c":1.5}'
    assert arguments(entry_of(raw), values, PLACES) == [
        "/py",
        "/skill",
        whole,
        "true",
        '{"x":[1]}',
        "1.5",
        "not {this} one",
    ]


@pytest.mark.parametrize("name", ["../x", "/x", "", ".", "a/../b", "-rf", "a\0b", "a//b"])
def test_names_that_are_not_inside(name: str) -> None:
    assert not inside(name)


# --- the caller ----------------------------------------------------------------------------------


def test_a_call_names_its_files_by_their_last_part() -> None:
    pairs = [
        ("table", "/data/t.csv"),
        ("width", "3"),
        ("words", "a"),
        ("words", "b"),
        ("out", "deep/er/o.csv"),
    ]
    entry = entry_of(CUT)
    made = call("s", entry, given_texts(entry, pairs), ["x"])
    assert made.params == {"fast": False, "out": "o.csv", "table": "t.csv", "width": 3, "words": ["a", "b"]}
    assert made.inputs == (("table", "/data/t.csv"),)
    assert made.outputs == ("deep/er/o.csv", "report.txt")
    assert made.title.startswith('s:cut table="/data/t.csv" width=3')


@pytest.mark.parametrize(
    ("pairs", "args", "wrong"),
    [
        ({}, [], "table: it is needed"),
        ({"table": "t", "width": "10"}, [], "width: 10 is over the maximum 9"),
        ({"table": "t", "width": "x"}, [], 'width: "x" is no integer'),
        ({"table": "t", "heigth": "1"}, [], "heigth: there is no such parameter; there are fast, out"),
        ({"table": "/a/-rf"}, [], "table: "),
        ({"table": "t", "out": "a/"}, [], "out: "),
        ({"table": "t", "words": "x" * 70_000}, [], "over 64 KiB"),
    ],
)
def test_what_does_not_fit_names_the_parameter(pairs: dict[str, str], args: list[str], wrong: str) -> None:
    entry = entry_of(CUT)
    with pytest.raises(MeshError, match=wrong) as error:
        call("s", entry, given_texts(entry, list(pairs.items())), args)
    assert error.value.exit_code == 2


def test_arguments_only_where_there_is_a_place_for_them() -> None:
    with pytest.raises(MeshError, match="takes no arguments"):
        call("s", entry_of({"argv": ["x"]}), {}, ["y"])


def test_which_entrypoint_is_meant() -> None:
    two: dict[str, Json] = {"a": {"argv": ["x"]}, "b": {"argv": ["x"]}}
    assert pick("s", two, "b").name == "b"
    assert pick("s", {"a": {"argv": ["x"]}}, "").name == "a"
    for entries, name, words in (
        (two, "", "say which: s:a, s:b"),
        (two, "c", "there are: s:a, s:b"),
        ({}, "", "scripts/NAME"),
    ):
        with pytest.raises(MeshError, match=words):
            pick("s", entries, name)


# --- the worker ----------------------------------------------------------------------------------


@pytest.fixture
def skill(tmp_path: Path) -> Skill:
    folder = tmp_path / "skill"
    (folder / "scripts").mkdir(parents=True)
    for name, mode in (("run.sh", 0o644), ("run", 0o755), ("run.py", 0o644), ("data", 0o644)):
        (folder / "scripts" / name).write_text("")
        (folder / "scripts" / name).chmod(mode)
    (tmp_path / "outside.sh").write_text("")
    (folder / "scripts" / "link.sh").symlink_to(tmp_path / "outside.sh")
    described = Described("s", "Does it.", gate=Gate(env=("TOKEN",)), entries=(entry_of(CUT),))
    return Skill(described, str(folder), "tree")


def payload(params: dict[str, Json], entry: str = "cut", **fields: Any) -> tuple[Payload, SkillCall]:
    called = SkillCall("s", "tree", entry, msgspec.json.encode(params).decode())
    inputs = (InputFile("t.csv", "h", 1),)
    return Payload(
        **{"argv": (), "inputs": inputs, "outputs": ("o", "report.txt"), "skill": called} | fields
    ), called


def test_the_command_line_is_made_of_the_workers_own_copy(skill: Skill) -> None:
    wanted, called = payload({"table": "t.csv", "out": "o"}, env=(("TOKEN", "theirs"),))
    made = resolved(wanted, called, skill, {"TOKEN": "ours"})
    assert made.argv == (f"{skill.folder}/cut.sh", "t.csv", "--")
    env = dict(made.env)
    assert env == {"TOKEN": "theirs", "OPENCLAW_MESH_SKILL": "s", "OPENCLAW_MESH_SKILL_DIR": skill.folder}
    assert made.timeout_s == 120.0
    assert resolved(msgspec.structs.replace(wanted, timeout_s=5.0), called, skill, {}).timeout_s == 5.0


@pytest.mark.parametrize(
    ("params", "fields", "words"),
    [
        ({"table": "/etc/passwd"}, {}, "/etc/passwd was not brought along"),
        ({"table": "t.csv", "out": "/etc/cron.d/x"}, {}, "/etc/cron.d/x is no output"),
        ({"table": "t.csv", "out": "o", "width": 99}, {}, "width: 99"),
        ({"table": "t.csv", "out": "o", "x": 1}, {}, "no such parameter"),
        (
            {"table": "t.csv", "out": "o"},
            {"env": (("LD_PRELOAD", "x"),)},
            "does not name the variable LD_PRELOAD",
        ),
        ({"table": "t.csv", "out": "o"}, {"cwd": "/"}, "scratch directory"),
        ({}, {"entry": "gone"}, "no entrypoint 'gone'"),
    ],
)
def test_the_worker_has_the_last_word(skill: Skill, params: dict[str, Json], fields: Any, words: str) -> None:
    wanted, called = payload(params, **fields)
    with pytest.raises(SkillRefused, match=words):
        resolved(wanted, called, skill, {})


def test_a_pattern_that_a_text_was_made_for_holds_nobody_up(skill: Skill) -> None:
    params = {"properties": {"word": {"type": "string", "pattern": "^(a+)+$"}}}
    patterned = entry_of({"argv": ["echo", "{word}"], "params": params}, "e")
    described = dataclasses.replace(skill.described, entries=(patterned,))
    skill = dataclasses.replace(skill, described=described)

    def made(word: str) -> tuple[str, ...]:
        return resolved(*payload({"word": word}, "e"), skill, {}).argv

    assert made("aaa") == ("echo", "aaa")
    with pytest.raises(SkillRefused, match=r"word: .* does not match"):
        made("aab")
    with pytest.raises(SkillRefused, match="that did not end"):
        made("a" * 40 + "!")


def test_another_skill_of_the_name_is_refused(skill: Skill) -> None:
    wanted, called = payload({"table": "t.csv", "out": "o"})
    other = Skill(skill.described, skill.folder, "another")
    lacking = Skill(skill.described, skill.folder, "tree", ("wings",))
    for found, words in ((None, "no skill 's'"), (other, "hash another, not tree"), (lacking, "wings")):
        with pytest.raises(SkillRefused, match=words):
            resolved(wanted, called, found, {})
    with pytest.raises(SkillRefused, match="cannot be read"):
        resolved(wanted, msgspec.structs.replace(called, params="[1"), skill, {})


@pytest.mark.parametrize(
    ("script", "first"), [("scripts/run.sh", "/bin/sh"), ("scripts/run", "run"), ("scripts/run.py", "python")]
)
def test_a_script_of_the_folder(skill: Skill, script: str, first: str) -> None:
    wanted, called = payload({}, "", argv=(script, "a b"))
    argv = resolved(wanted, called, skill, {}).argv
    assert first in argv[0]
    assert argv[-2:] == (f"{Path(skill.folder).resolve()}/{script}", "a b")


@pytest.mark.parametrize(
    "script",
    [
        "../outside.sh",
        "scripts/../../outside.sh",
        "/bin/sh",
        "scripts/link.sh",
        "scripts",
        "scripts/none",
        "scripts/data",
        "a\0b",
        "",
    ],
)
def test_a_script_never_leaves_the_folder(skill: Skill, script: str) -> None:
    wanted, called = payload({}, "", argv=(script,))
    with pytest.raises(SkillRefused, match=r"no file|not executable"):
        resolved(wanted, called, skill, {})
