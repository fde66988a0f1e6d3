"""Finds the skills on this machine: folders with a `SKILL.md`, in the places where people keep them.

It reads and never runs; what it cannot read it passes over, so a broken folder costs that folder alone. The tree
hash covers every path and content of a skill, so that two nodes can tell whether theirs is the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from openclaw.config import (
    SKILL_FILE_BYTES_MAX,
    SKILL_TREE_BYTES_MAX,
    SKILL_TREE_FILES_MAX,
    SKILLS_MAX,
)
from openclaw.records import SkillRow
from openclaw.skills import registry

SKILL_FILE = "SKILL.md"
SHARED_FOLDERS = ("~/.agents/skills", "~/.openclaw/skills")
NOT_THE_SKILL = frozenset({".git", "__pycache__", ".DS_Store"})
READ_BYTES = 1 << 20


def scan(given: tuple[Path, ...], state_dir: Path) -> tuple[SkillRow, ...]:
    """Every skill here. Where two folders hold one name, that of the more specific place counts."""
    places = (*given, state_dir / "skills", *(Path(folder).expanduser() for folder in SHARED_FOLDERS))
    return registry.merge(found for place in places for folder in _folders(place) for found in _skill(folder))


def _folders(place: Path) -> list[Path]:
    """The skill folders in `place`, which may be one itself."""
    try:
        if (place / SKILL_FILE).is_file():
            return [place]
        return sorted(child for child in place.iterdir() if (child / SKILL_FILE).is_file())[:SKILLS_MAX]
    except OSError:
        return []


def _skill(folder: Path) -> Iterator[SkillRow]:
    try:
        with (folder / SKILL_FILE).open("rb") as file:
            head = registry.read_head(file.read(SKILL_FILE_BYTES_MAX).decode("utf-8", "replace"))
        if head is None:
            return
        tree = tree_hash(folder)
    except OSError:
        return
    missing = (
        () if tree else (f"a folder under {SKILL_TREE_BYTES_MAX >> 20} MB and {SKILL_TREE_FILES_MAX} files",)
    )
    found = registry.row(head, folder.resolve().name, tree, missing)
    if found is not None:
        yield found


def tree_hash(folder: Path) -> str:
    """SHA-256 over the paths and contents in `folder`, or "" when it is over the limits.

    A link counts as where it points to and is not followed; devices and pipes count as nothing.
    """
    digest, size = hashlib.sha256(), 0
    for files, (relative, path) in enumerate(_walk(folder), 1):
        content = _content(path, SKILL_TREE_BYTES_MAX - size)
        if files > SKILL_TREE_FILES_MAX or content is None:
            return ""
        kind, length, inner = content
        size += length
        digest.update(b"%d:%b%b%b" % (len(relative), relative, kind, inner))
    return digest.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """Files and links below `folder`, in the order of their paths' bytes; lazily, since a tree may be huge."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(set(folders) - NOT_THE_SKILL, key=os.fsencode)
        linked = [name for name in folders if os.path.islink(os.path.join(here, name))]
        for name in sorted([*linked, *(set(names) - NOT_THE_SKILL)], key=os.fsencode):
            path = Path(here, name)
            yield os.fsencode(path.relative_to(folder).as_posix()), path


def _content(path: Path, budget: int) -> tuple[bytes, int, bytes] | None:
    """(kind, bytes read, SHA-256); None when it is over `budget`."""
    if path.is_symlink():
        target = os.fsencode(os.readlink(path))
        return b"l", len(target), hashlib.sha256(target).digest()
    digest, size = hashlib.sha256(), 0
    if path.is_file():
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if size > budget:
                    return None
    return b"f", size, digest.digest()
