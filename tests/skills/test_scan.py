"""Skills on a real disk: where they are looked for, what the hash covers, and that a bad folder costs itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from openclaw.skills import scan as scan_module
from openclaw.skills.registry import Skill
from openclaw.skills.scan import Catalog, Scanner, tree_hash


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(scan_module, "BUILTIN", tmp_path / "builtin")
    return tmp_path / "home"


def make(place: Path, name: str, version: str = "1", text: str = "") -> Path:
    folder = place / name
    folder.mkdir(parents=True)
    head = f"---\nname: {name}\ndescription: Does it.\nversion: {version}\n---\nDo it.\n"
    (folder / "SKILL.md").write_text(text or head)
    return folder


def scan(*given: Path, state: Path = Path("/nowhere")) -> Catalog:
    return Scanner(given, state).scan()


def names(catalog: Catalog) -> list[str]:
    return [skill.name for skill in catalog.skills]


def the(catalog: Catalog, name: str) -> Skill:
    found = catalog.find(name)
    assert found is not None
    return found


def test_all_places_are_read_and_the_more_specific_wins(tmp_path: Path, home: Path) -> None:
    places = [
        tmp_path / "given",
        tmp_path / "state" / "skills",
        home / ".agents" / "skills",
        home / ".openclaw" / "skills",
        tmp_path / "builtin",
    ]
    for n, place in enumerate(places):
        for m in range(n + 1):
            make(place, f"s{m}", str(n))
    catalog = scan(tmp_path / "given", state=tmp_path / "state")
    assert {skill.name: skill.described.version for skill in catalog.skills} == {
        f"s{n}": str(n) for n in range(5)
    }
    assert sum("another skill" in warning.text for warning in catalog.warnings) == 10


def test_a_given_folder_may_be_a_skill_itself_or_a_link_to_one(tmp_path: Path) -> None:
    one = make(tmp_path / "a", "one")
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "other-name").symlink_to(one)
    assert names(scan(one)) == ["one"]
    assert names(scan(tmp_path / "links")) == ["one"]
    assert names(scan(tmp_path / "links", one)) == ["one"]


def test_folders_are_looked_into_but_not_for_ever(tmp_path: Path) -> None:
    make(tmp_path / "1" / "2" / "3" / "4" / "5", "deep")
    make(tmp_path / "1" / "2" / "3" / "4" / "5" / "6" / "7", "too-deep")
    make(tmp_path / "node_modules", "not-ours")
    make(make(tmp_path, "outer") / "inner", "in-a-skill")
    (tmp_path / "1" / "loop").symlink_to(tmp_path)
    (tmp_path / "1" / "self").symlink_to("self")
    assert names(scan(tmp_path)) == ["deep", "outer"]


def test_nothing_there_is_no_skills(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert scan(tmp_path / "missing", tmp_path / "file") == Catalog()


def test_a_folder_that_is_no_skill_costs_only_itself(tmp_path: Path) -> None:
    make(tmp_path, "good")
    bad = make(tmp_path, "bad-head", text="no head\n")
    make(tmp_path, "bad-bytes").joinpath("SKILL.md").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "is-a-folder" / "SKILL.md").mkdir(parents=True)
    os.mkfifo(make(tmp_path, "with-pipe") / "pipe")
    catalog = scan(tmp_path)
    assert names(catalog) == ["good", "with-pipe"]
    assert [(w.file, w.line) for w in catalog.warnings if "bad-head" in w.file] == [
        (str(bad / "SKILL.md"), 1)
    ]


def test_a_folder_may_be_gone_while_it_is_read(tmp_path: Path) -> None:
    (warning,) = scan_module.read(tmp_path / "gone").warnings
    assert "cannot be read" in warning.text


def test_the_hash_covers_names_contents_rights_and_links(tmp_path: Path) -> None:
    one, two = make(tmp_path / "1", "s"), make(tmp_path / "2", "s")
    for folder in (one, two):
        (folder / "sub").mkdir()
        (folder / "sub" / "b").write_text("x")
        (folder / "link").symlink_to("sub")
    assert tree_hash(one) == tree_hash(two)
    hashes = [tree_hash(two)]
    for change in (
        lambda: (two / "sub" / "b").write_text("y"),
        lambda: (two / "sub" / "b").chmod(0o755),
        lambda: (two / "sub" / "b").rename(two / "sub" / "c"),
        lambda: ((two / "link").unlink(), (two / "link").symlink_to("SKILL.md")),
        lambda: (two / "extra").write_text(""),
    ):
        change()
        hashes.append(tree_hash(two))
    assert len(set(hashes)) == 6
    assert all(tree and not problem for tree, problem in hashes)


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
            (skill,) = scan(tmp_path).skills
            assert skill.missing
            assert skill.tree == ""
    (skill,) = scan(tmp_path).skills
    assert not skill.missing
    assert skill.tree == tree_hash(folder)[0]


def test_a_gigabyte_in_a_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (make(tmp_path, "huge") / "a-film").open("wb") as file:
        file.truncate(1 << 30)
    opened: list[str] = []
    real_open = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *a, **k: (opened.append(path.name), real_open(path, *a, **k))[1]
    )
    (skill,) = scan(tmp_path).skills
    assert "under 64 MB" in skill.missing[0]
    assert set(opened) <= {"SKILL.md", "skills.json", "openclaw.json"}


def test_a_link_out_of_the_folder_is_never_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    make(tmp_path / "skills", "leaky").joinpath("notes").symlink_to(tmp_path / "secret")
    make(tmp_path / "skills", "dangling").joinpath("notes").symlink_to("/nowhere/at/all")
    make(tmp_path / "skills", "looping").joinpath("notes").symlink_to("notes")
    catalog = scan(tmp_path / "skills")
    assert [skill.name for skill in catalog.skills if not skill.missing] == []
    assert "links that leave it (notes does)" in the(catalog, "leaky").missing[0]


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = make(tmp_path, "one"), make(tmp_path, "two")
    reads: list[str] = []
    real_read = scan_module.read
    monkeypatch.setattr(scan_module, "read", lambda folder: (reads.append(folder.name), real_read(folder))[1])
    scanner = Scanner((tmp_path,), tmp_path)
    first = scanner.scan()
    assert scanner.scan() == first
    (one / "extra").write_text("x")
    second = scanner.scan()
    assert reads == ["one", "two", "one"]
    assert the(second, "one").tree != the(first, "one").tree
    assert the(second, "two") == the(first, "two")


def test_a_gate_opens_when_what_was_missing_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = "---\nname: g\ndescription: x\nmetadata: {openclaw: {requires: {bins: [wings]}}}\n---\n"
    make(tmp_path / "skills", "g", text=head)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    scanner = Scanner((tmp_path / "skills",), tmp_path)
    assert the(scanner.scan(), "g").missing == ("program wings",)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "wings").write_text("")
    assert the(scanner.scan(), "g").missing == ("program wings",)
    (tmp_path / "bin" / "wings").chmod(0o755)
    assert the(scanner.scan(), "g").missing == ()


def test_the_configuration_is_theirs_under_ours(tmp_path: Path, home: Path) -> None:
    gated = "---\nname: g\ndescription: x\nmetadata: {openclaw: {requires: {config: [a.b], env: [T]}}}\n---\n"
    make(tmp_path / "skills", "g", text=gated)
    scanner = Scanner((tmp_path / "skills",), tmp_path)
    assert the(scanner.scan(), "g").missing == ("variable T", "configuration a.b")
    (home / ".openclaw").mkdir(parents=True)
    theirs = home / ".openclaw" / "openclaw.json"
    theirs.write_text("{a: {b: 1}, skills: {entries: {g: {env: {T: 'x'}}}}} // theirs")
    assert the(scanner.scan(), "g").missing == ()
    (tmp_path / "skills.json").write_text("{skills: {entries: {g: {enabled: false}}}}")
    assert "switched off" in the(scanner.scan(), "g").missing[0]
    (tmp_path / "skills.json").write_text("{\n  skills: what\n}")
    catalog = scanner.scan()
    assert the(catalog, "g").missing == ()
    assert [(w.file, w.line) for w in catalog.warnings] == [(str(tmp_path / "skills.json"), 2)]
