"""Reads every import of the package and fails on a wrong arrow: the purity line is a fact, not an intention."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "openclaw"

NOUNS = {"ids", "records", "messages", "effects", "notes", "config", "errors"}
CORE_ROOMS = {"gossip", "election", "exec"}
PURE_SKILLS = {"calls", "describe", "entries", "gating", "json5", "registry", "schema"}
PURE_STDLIB = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "operator",
    "re",
    "typing",
}
PURE = PURE_STDLIB | {"msgspec"}
UPPER = {"runtime", "client", "api", "aio", "joblib", "cli"}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def pure(path: Path) -> bool:
    name = room(path)
    return name in NOUNS | CORE_ROOMS | {"node"} or (name == "skills" and path.stem in PURE_SKILLS)


def imports(path: Path) -> set[str]:
    """Every module that a file imports at run time, wherever in the file; `TYPE_CHECKING` blocks count too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            found.add(node.module)
            if node.module == "openclaw":
                rooms = {room(each) for each in ROOT.rglob("*.py")}
                found |= {f"openclaw.{alias.name}" for alias in node.names if alias.name in rooms}
    return found


def rooms_imported(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("openclaw.")}


FILES = sorted(ROOT.rglob("*.py"))
PURE_FILES = [path for path in FILES if pure(path)]


def test_the_core_is_there() -> None:
    assert {room(path) for path in PURE_FILES} >= NOUNS | CORE_ROOMS | {"node"}


@pytest.mark.parametrize("path", PURE_FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_clock_chance_or_input_above_the_purity_line(path: Path) -> None:
    foreign = {name.split(".")[0] for name in imports(path)} - PURE - {"openclaw"}
    assert not foreign
    calls_await = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Await | ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith)
    ]
    assert not calls_await


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_arrow_points_down(path: Path) -> None:
    here, wanted = room(path), rooms_imported(path)
    match here:
        case noun if noun in NOUNS:
            allowed = NOUNS
        case core if core in CORE_ROOMS:
            allowed = NOUNS | {core}
        case "node":
            allowed = NOUNS | CORE_ROOMS
        case "runtime":
            allowed = {room(each) for each in FILES} - UPPER - {"__main__"} | {"runtime"}
        case "cli" | "client" | "api" | "aio" | "joblib" | "__init__" | "__main__":
            allowed = {room(each) for each in FILES}
        case _:
            allowed = {room(each) for each in FILES} - UPPER - CORE_ROOMS - {"node", "__main__"}
    assert wanted <= allowed, f"{here} may not import {sorted(wanted - allowed)}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_file_says_why_it_exists(path: Path) -> None:
    text = path.read_text()
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_the_simulator_never_drives_the_runtime() -> None:
    sims = ROOT.parent / "sims"
    for path in sorted(sims.rglob("*.py")):
        assert not {name for name in imports(path) if name.startswith("openclaw.runtime")}, path
