"""Skills on a real disk: where they are looked for, what the hash covers, and that a bad folder costs itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openclaw.skills.scan import scan, tree_hash


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def make(place: Path, name: str, version: str = "1", text: str = "") -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(text or f"---\nname: {name}\nversion: {version}\n---\nDo it.\n")
    return folder


def test_all_places_are_read_and_the_more_specific_wins(tmp_path: Path, home: Path) -> None:
    given, state = tmp_path / "given", tmp_path / "state"
    make(given, "both", "given")
    make(state / "skills", "both", "state")
    make(state / "skills", "of-state")
    make(home / ".agents" / "skills", "of-agents")
    make(home / ".openclaw" / "skills", "of-openclaw")
    found = {row.name: row.version for row in scan((given,), state)}
    assert found == {"both": "given", "of-state": "1", "of-agents": "1", "of-openclaw": "1"}


def test_a_given_folder_may_be_a_skill_itself_or_a_link_to_one(tmp_path: Path) -> None:
    one = make(tmp_path / "a", "one")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "other-name").symlink_to(one)
    assert [row.name for row in scan((one,), tmp_path)] == ["one"]
    assert [row.name for row in scan((tmp_path / "links",), tmp_path)] == ["one"]


def test_nothing_there_is_no_skills(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert scan((tmp_path / "missing", tmp_path / "file"), tmp_path) == ()


def test_a_folder_that_is_no_skill_costs_only_itself(tmp_path: Path) -> None:
    make(tmp_path, "good")
    make(tmp_path, "bad-head", text="no head\n")
    make(tmp_path, "bad-bytes").joinpath("SKILL.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "is-a-folder" / "SKILL.md").mkdir(parents=True)
    os.mkfifo(make(tmp_path, "with-pipe") / "pipe")
    assert [row.name for row in scan((tmp_path,), tmp_path / "state")] == ["good", "with-pipe"]


def test_the_hash_covers_names_contents_and_links(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", "s"), make(tmp_path / "2", "s")
    for folder in (one, two):
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("x")
        (folder / "link").symlink_to("sub")
    assert tree_hash(one) == tree_hash(two)
    hashes = [tree_hash(two)]
    for change in (
        lambda: (two / "sub" / "b").write_text("y"),
        lambda: (two / "sub" / "b").rename(two / "sub" / "c"),
        lambda: ((two / "link").unlink(), (two / "link").symlink_to("elsewhere")),
        lambda: (two / "extra").write_text(""),
    ):
        change()
        hashes.append(tree_hash(two))
    assert len(set(hashes)) == 5


def test_what_comes_and_goes_by_itself_is_not_in_the_hash(tmp_path: Path) -> None:
    folder = make(tmp_path, "s")
    before = tree_hash(folder)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("x")
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("x")
    assert tree_hash(folder) == before


def test_a_folder_over_the_limits_is_shown_as_not_eligible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path, "big")
    for n in range(3):
        (folder / f"f{n}").write_bytes(b"x" * 100)
    for limit in ("SKILL_TREE_FILES_MAX", "SKILL_TREE_BYTES_MAX"):
        with monkeypatch.context() as patch:
            patch.setattr(f"openclaw.skills.scan.{limit}", 3)
            (row,) = scan((tmp_path,), tmp_path / "state")
            assert not row.eligible
            assert row.missing
    (row,) = scan((tmp_path,), tmp_path / "state")
    assert row.eligible
    assert row.tree == tree_hash(folder)
