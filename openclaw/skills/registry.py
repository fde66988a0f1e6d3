"""What a `SKILL.md` says of its skill, and which skill a name means on this node. Pure: text in, rows out.

Of the Agent Skills front matter only top-level `key: value` lines are read here: enough to name a skill. It is
read leniently, so a folder that other programs accept is accepted here too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openclaw.config import SKILLS_MAX
from openclaw.records import SkillRow

FENCE = "---"
NAME_CHARS_MAX = 64
VERSION_CHARS_MAX = 64


@dataclass(frozen=True, slots=True)
class Described:
    """The head of a `SKILL.md`; empty where it says nothing."""

    name: str = ""
    description: str = ""
    version: str = ""


def read_head(text: str) -> Described | None:
    """The front matter of a `SKILL.md`, or None when it has none."""
    lines = text.removeprefix("\ufeff").splitlines()
    if not lines or lines[0].rstrip() != FENCE:
        return None
    values: dict[str, str] = {}
    for line in lines[1:]:
        if line.rstrip() == FENCE:
            return Described(values.get("name", ""), values.get("description", ""), values.get("version", ""))
        key, colon, value = line.partition(":")
        # Indented lines belong to a nested value, and only a colon before a blank ends a key.
        if colon and key == key.strip() and not key.startswith(("#", "-")) and value[:1].strip() == "":
            values.setdefault(key, _scalar(value))
    return None


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    return text.partition(" #")[0].rstrip()


def row(head: Described, folder: str, tree: str, missing: tuple[str, ...] = ()) -> SkillRow | None:
    """The skill as it is advertised; None without a name that can be written after `--skill`."""
    name = head.name or folder
    if not 0 < len(name) <= NAME_CHARS_MAX or not name.isprintable() or any(c in name for c in " :/\\"):
        return None
    version = head.version if head.version.isprintable() else ""
    return SkillRow(name, version[:VERSION_CHARS_MAX], tree, eligible=not missing, missing=missing)


def merge(rows: Iterable[SkillRow]) -> tuple[SkillRow, ...]:
    """One row per name, the first of a name wins; sorted, so that an equal set is an equal blob."""
    by_name: dict[str, SkillRow] = {}
    for found in rows:
        if len(by_name) < SKILLS_MAX:
            by_name.setdefault(found.name, found)
    return tuple(by_name[name] for name in sorted(by_name))
