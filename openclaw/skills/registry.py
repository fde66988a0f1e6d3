"""Which skill a name means, on this node and in the mesh, and what is told to others of it. Pure.

Two nodes may have different skills under one name: they are told apart by the hash of their folder, and a task is
bound to the one whose parameters were checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from openclaw.config import (
    SKILL_MISSING_MAX,
    SKILL_REASON_CHARS_MAX,
    SKILL_ROWS_BYTES_MAX,
    SKILLS_MAX,
)
from openclaw.ids import NodeId
from openclaw.records import SkillRow
from openclaw.skills.describe import Described

DESCRIPTION_CHARS_MAX = 160


@dataclass(frozen=True, slots=True)
class Skill:
    """One on this node. `tree` is the hash of its folder, "" when that is over the limits."""

    described: Described
    folder: str
    tree: str
    missing: tuple[str, ...] = ()
    lacking: tuple[tuple[str, tuple[str, ...]], ...] = ()  # entrypoints that cannot run here, and why

    @property
    def name(self) -> str:
        return self.described.name


def row(skill: Skill) -> SkillRow:
    """The skill as it is advertised: never its contents, never a variable's value."""
    described = skill.described
    of_entries = tuple(f"{name}: {reason}" for name, reasons in skill.lacking for reason in reasons)
    missing = [
        _cut(reason, SKILL_REASON_CHARS_MAX) for reason in (skill.missing or of_entries)[:SKILL_MISSING_MAX]
    ]
    return SkillRow(
        described.name,
        described.version,
        skill.tree,
        described.category,
        eligible=not skill.missing,
        missing=tuple(missing),
        description=_cut(" ".join(described.description.split()), DESCRIPTION_CHARS_MAX),
        entries=tuple(entry.name for entry in described.entries if entry.name not in dict(skill.lacking)),
    )


def _cut(text: str, chars_max: int) -> str:
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def merge(found: Iterable[Skill]) -> tuple[tuple[Skill, ...], list[str]]:
    """One skill a name, the first of a name wins, sorted by name; and what was passed over for that."""
    by_name: dict[str, Skill] = {}
    passed: list[str] = []
    for skill in found:
        first = by_name.get(skill.name)
        if first is not None:
            if first.tree != skill.tree:
                passed.append(f"{skill.folder}: another skill {skill.name!r} is used, of {first.folder}")
        elif len(by_name) < SKILLS_MAX:
            by_name[skill.name] = skill
        else:
            passed.append(f"{skill.folder}: passed over, a node offers at most {SKILLS_MAX} skills")
    return tuple(by_name[name] for name in sorted(by_name)), passed


def fit(rows: Iterable[SkillRow], bytes_max: int = SKILL_ROWS_BYTES_MAX) -> tuple[SkillRow, ...]:
    """As many as fit into what a node may tell of itself; those that it can run before the others."""
    kept: list[SkillRow] = []
    for each in sorted(rows, key=lambda each: (not each.eligible, each.name)):
        bytes_max -= len(msgspec.msgpack.encode(each))
        if bytes_max < 0:
            break
        kept.append(each)
    return tuple(sorted(kept, key=lambda each: each.name))


def choose(holders: Iterable[tuple[NodeId, SkillRow]], me: NodeId) -> SkillRow | None:
    """The one that a call means: ours if we can run it, else the one that most nodes can run."""
    able = [(node, each) for node, each in holders if each.eligible]
    for node, each in able:
        if node == me:
            return each
    trees = [each.tree for _, each in able]
    return max(
        (each for _, each in able),
        key=lambda each: (trees.count(each.tree), each.version, each.tree),
        default=None,
    )
