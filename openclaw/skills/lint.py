"""Whether a folder is a good skill: by the open format, by what other programs want of it, and by ours.

An error keeps it from being used somewhere; a warning is worth mending. Nothing is run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from openclaw.config import SKILL_FILE_BYTES_MAX
from openclaw.skills.describe import DESCRIPTION_CHARS_MAX, MANIFESTS, OURS, Described
from openclaw.skills.entries import BASE_DIR, Entry
from openclaw.skills.frontmatter import Head, read_head
from openclaw.skills.gating import missing
from openclaw.skills.machine import ThisMachine
from openclaw.skills.scan import read, skill_file

BASE_KEYS = ("name", "description", "license", "compatibility", "metadata", "allowed-tools")
THEIR_KEYS = (
    "homepage", "user-invocable", "disable-model-invocation", "command-dispatch", "command-tool", "command-arg-mode",
    "version",
)  # fmt: skip
NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
COMPATIBILITY_CHARS_MAX = 500
BODY_LINES_MAX = 500


class Problem(NamedTuple):
    """`level` is "error" or "warning"; `line` 0 means the file or folder as a whole."""

    level: str
    file: str
    line: int
    text: str


class Checked(NamedTuple):
    """`described` is None where it is no skill at all; `missing` is what it lacks on this machine."""

    described: Described | None
    tree: str
    missing: tuple[str, ...]
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not any(problem.level == "error" for problem in self.problems)


def check(folder: Path, state_dir: Path) -> Checked:
    """All that is to be said of the skill in `folder`."""
    file = skill_file(folder)
    if file is None:
        nothing = Problem("error", str(folder), 0, "there is no SKILL.md, so this is no skill")
        return Checked(None, "", (), (nothing,))
    found = read(folder.resolve())
    text = file.read_bytes()[:SKILL_FILE_BYTES_MAX].decode("utf-8", "replace")
    head = read_head(text) or Head()
    described = found.described
    problems = [
        Problem(_level(each.text, described), each.file, each.line, each.text) for each in found.warnings
    ]
    problems += [
        Problem(level, str(file), head.lines.get(key, 1), said)
        for level, key, said in _open_format(head, folder)
    ]
    problems += [Problem("warning", str(file), 0, said) for said in _body(text, file)]
    lacks: tuple[str, ...] = ()
    if described is not None:
        lacks = missing(described.gate, ThisMachine(state_dir))
        line = head.lines.get("metadata", 1)
        problems += [
            Problem(level, str(file), line, f"entrypoint {entry.name}: {said}")
            for entry in described.entries
            for level, said in _entry(entry, folder)
        ]
    return Checked(described, found.tree, lacks, tuple(dict.fromkeys(problems)))


def _level(text: str, described: Described | None) -> str:
    """What the reading forgives is worth mending; what costs the skill, its hash or an entrypoint is wrong."""
    costly = ("entrypoint ", "it needs ", "not YAML", "cannot be read", "is not JSON")
    return "error" if described is None or any(mark in text for mark in costly) else "warning"


def _open_format(head: Head, folder: Path) -> list[tuple[str, str, str]]:
    """(level, key, text) of what the open format asks and a lenient reading does not."""
    found: list[tuple[str, str, str]] = []
    name, about = str(head.values.get("name") or ""), str(head.values.get("compatibility") or "")
    if head.lines and not (NAME.fullmatch(name) and len(name) <= 64):
        found.append(("error", "name", f"a name is 1 to 64 of a-z, 0-9 and single hyphens, not {name!r}"))
    if name and name != folder.resolve().name:
        found.append(("error", "name", f"the folder has to be called {name!r} as well"))
    if len(str(head.values.get("description") or "")) > DESCRIPTION_CHARS_MAX:
        found.append(
            ("error", "description", f"a description has at most {DESCRIPTION_CHARS_MAX} characters")
        )
    if len(about) > COMPATIBILITY_CHARS_MAX:
        found.append(("error", "compatibility", f"over {COMPATIBILITY_CHARS_MAX} characters"))
    if not isinstance(head.values.get("allowed-tools", ""), str):
        found.append(("warning", "allowed-tools", "is a text with blanks between the tools"))
    found += [
        ("warning", key, f"{key!r} is no key of the format; own ones belong under metadata")
        for key in head.lines
        if key not in (*BASE_KEYS, *THEIR_KEYS)
    ]
    metadata = head.values.get("metadata")
    foreign = (
        {key: value for key, value in metadata.items() if key not in (*MANIFESTS, OURS)}
        if isinstance(metadata, dict)
        else {}
    )
    found += [
        ("warning", "metadata", f"{key!r} is no text, and a strict reader wants texts under metadata")
        for key, value in foreign.items()
        if not isinstance(value, str)
    ]
    return found


def _body(text: str, file: Path) -> list[str]:
    body = text.split("\n---", 1)[-1].strip("-\n ")
    found = [] if body else ["there is no text below the front matter that says how to use it"]
    if body.count("\n") > BODY_LINES_MAX:
        found.append(f"over {BODY_LINES_MAX} lines; move details into references/")
    return found + (
        [f"the file is called {file.name}, and has to be SKILL.md"] if file.name != "SKILL.md" else []
    )


def _entry(entry: Entry, folder: Path) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    texts = [text for part in entry.argv for text in ((part,) if isinstance(part, str) else part)]
    for position, text in enumerate(texts):
        if text.startswith(f"{{{BASE_DIR}}}/"):
            path = folder / text.removeprefix(f"{{{BASE_DIR}}}/")
            if not path.exists():
                found.append(("error", f"there is no {text}"))
            elif position == 0 and not os.access(path, os.X_OK):
                found.append(("error", f"{text} is not executable: chmod +x it"))
    if "/" in texts[0] and not texts[0].startswith(("{", "/")):
        found.append(
            ("error", f"{texts[0]} is looked for in the scratch directory; begin it with {{{BASE_DIR}}}/")
        )
    if not entry.description:
        found.append(("warning", "it has no description"))
    return found + [
        ("warning", f"the parameter {n!r} has no description")
        for n, part in entry.properties().items()
        if "description" not in part
    ]
