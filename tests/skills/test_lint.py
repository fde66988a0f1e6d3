"""`openclaw skill check`: what an author is told, where, and which of it is an error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from skill_fixtures import FIXTURES

from openclaw.__main__ import main

GOOD = """---
name: good
description: Does it.
metadata:
  openclaw-mesh:
    entrypoints:
      go:
        description: Goes.
        argv: ["{baseDir}/scripts/go"]
---
Say go.
"""


@pytest.fixture(autouse=True)
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENCLAW_MESH_STATE_DIR", str(tmp_path / "state"))


def make(folder: Path, text: str = GOOD) -> Path:
    (folder / "scripts").mkdir(parents=True)
    (folder / "SKILL.md").write_text(text)
    (folder / "scripts" / "go").write_text("#!/bin/sh\n")
    (folder / "scripts" / "go").chmod(0o755)
    return folder


def test_a_good_skill_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make(tmp_path / "good")
    assert main(["skill", "check", str(folder)]) == 0
    assert capsys.readouterr().out == "good: fine; entrypoints: go\n"
    assert main(["skill", "check", "--json", str(folder)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["problems"], document["missing_here"]) == (True, [], [])
    assert document["skill"]["entries"] == ["go"]


@pytest.mark.parametrize(
    ("change", "line", "words"),
    [
        (("name: good", "name: Good_one"), 2, "a-z, 0-9 and single hyphens"),
        (("name: good", "name: other"), 2, "folder has to be called 'other'"),
        (("description: Does it.", ""), 1, "no description"),
        (("description: Does it.", f"description: {'x' * 1025}"), 3, "at most 1024"),
        (("description: Does it.", f"description: x\ncompatibility: {'x' * 501}"), 4, "over 500"),
        (("scripts/go", "scripts/gone"), 4, "there is no {baseDir}/scripts/gone"),
        (("{baseDir}/scripts/go", "scripts/go"), 4, "begin it with {baseDir}/"),
        (("argv:", "arguments:"), 4, "'arguments' is not understood"),
        (("  openclaw-mesh:", "\topenclaw-mesh:"), 5, "not YAML"),
    ],
)
def test_an_error_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: tuple[str, str], line: int, words: str
) -> None:
    folder = make(tmp_path / "good", GOOD.replace(*change))
    assert main(["skill", "check", "--json", str(folder)]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    found = [each for each in problems if each["level"] == "error" and words in each["message"]]
    assert [(each["file"], each["line"]) for each in found] == [(str(folder / "SKILL.md"), line)], problems


def test_a_link_out_of_it_and_a_script_without_rights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path / "good")
    (folder / "scripts" / "go").chmod(0o644)
    (folder / "notes").symlink_to("/etc/hostname")
    assert main(["skill", "check", str(folder)]) == 1
    out = capsys.readouterr().out
    assert "not executable" in out
    assert "links that leave it" in out


@pytest.mark.parametrize(
    "name", ["no-front-matter", "description-missing", "metadata-broken-yaml", "entrypoint-pasted"]
)
def test_what_is_no_skill_is_an_error(name: str) -> None:
    assert main(["skill", "check", str(FIXTURES / name)]) == 1


def test_a_folder_without_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skill", "check", str(tmp_path)]) == 1
    assert "there is no SKILL.md" in capsys.readouterr().out


def test_what_is_missing_here_is_told_and_is_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gated = GOOD.replace("metadata:", "metadata:\n  openclaw: {requires: {bins: [wings]}}")
    assert main(["skill", "check", str(make(tmp_path / "good", gated))]) == 0
    assert "on this machine it lacks: program wings" in capsys.readouterr().out
