"""Finds the skills on this machine: folders with a `SKILL.md`, in the places where people keep them.

It reads and never runs. What cannot be read costs that folder alone and is told with file and line. The tree hash
covers every path and content of a skill, so that two nodes can tell whether theirs is the same; it is computed
again only where something in the folder changed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from openclaw.config import (
    SKILL_DEPTH_MAX,
    SKILL_FILE_BYTES_MAX,
    SKILL_FOLDERS_MAX,
    SKILL_TREE_BYTES_MAX,
    SKILL_TREE_FILES_MAX,
    SKILL_WARNINGS_MAX,
    SKILLS_MAX,
)
from openclaw.skills.describe import Described, Told, describe
from openclaw.skills.frontmatter import read_head
from openclaw.skills.gating import lacking, missing
from openclaw.skills.machine import ThisMachine
from openclaw.skills.registry import Skill, merge

SKILL_FILES = ("SKILL.md", "skill.md")
SHARED_FOLDERS = ("~/.agents/skills", "~/.openclaw/skills")
BUILTIN = Path(__file__).parent / "builtin"
NOT_THE_SKILL = frozenset({".git", "__pycache__", ".DS_Store"})
NOT_LOOKED_INTO = NOT_THE_SKILL | {"node_modules", ".venv"}
READ_BYTES = 1 << 20


class Warning(NamedTuple):
    """`line` 0 means the file as a whole."""

    file: str
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Catalog:
    """All that is offered here, sorted by name, and what its authors should know."""

    skills: tuple[Skill, ...] = ()
    warnings: tuple[Warning, ...] = ()

    def find(self, name: str) -> Skill | None:
        return next((skill for skill in self.skills if skill.name == name), None)


class _Read(NamedTuple):
    """What was read of one folder, good as long as its fingerprint is."""

    fingerprint: bytes
    described: Described | None
    tree: str
    problem: str
    warnings: tuple[Warning, ...]


class Scanner:
    """Looks again at each `scan`, and reads again only what has changed since."""

    def __init__(self, given: tuple[Path, ...], state_dir: Path) -> None:
        shared = (Path(folder).expanduser() for folder in SHARED_FOLDERS)
        self._places = (*given, state_dir / "skills", *shared, BUILTIN)
        self._state_dir = state_dir
        self._read: dict[Path, _Read] = {}

    def scan(self) -> Catalog:
        """Where two folders hold one name, that of the more specific place counts."""
        machine = ThisMachine(self._state_dir)
        warnings = [Warning(*each) for each in machine.warnings]
        seen: dict[Path, _Read] = {}
        found: list[Skill] = []
        for folder in (folder for place in self._places for folder in folders(place)):
            if folder in seen or len(seen) >= 2 * SKILLS_MAX:
                continue
            read = seen[folder] = self._folder(folder)
            warnings += read.warnings
            if read.described is not None:
                lacks = (read.problem,) if read.problem else missing(read.described.gate, machine)
                found.append(
                    Skill(read.described, str(folder), read.tree, lacks, _lacking(read.described, machine))
                )
        self._read = seen
        skills, passed = merge(found)
        warnings += [Warning(text.partition(": ")[0], 0, text.partition(": ")[2]) for text in passed]
        return Catalog(skills, tuple(warnings[:SKILL_WARNINGS_MAX]))

    def changed(self, folder: Path) -> bool:
        """Whether a skill's folder is not as it was when it was read."""
        known = self._read.get(folder)
        return known is None or known.fingerprint != fingerprint(folder)

    def _folder(self, folder: Path) -> _Read:
        known, now = self._read.get(folder), fingerprint(folder)
        return known if known is not None and known.fingerprint == now else read(folder)


def _lacking(described: Described, machine: ThisMachine) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = (
        (each.name, lacking(each.bins, each.python, described.gate.install, machine))
        for each in described.entries
    )
    return tuple((name, reasons) for name, reasons in found if reasons)


def folders(place: Path) -> list[Path]:
    """The skill folders in `place`, which may be one itself; by their real paths, each once, in order."""
    found: dict[Path, None] = {}
    looked: set[Path] = set()

    def look(folder: Path, depth: int) -> None:
        try:
            real = folder.resolve()
            if real in looked or len(looked) >= SKILL_FOLDERS_MAX:
                return
            looked.add(real)
            if skill_file(real) is not None:
                found[real] = None
            elif depth:
                for child in sorted(real.iterdir()):
                    if child.name not in NOT_LOOKED_INTO and child.is_dir():
                        look(child, depth - 1)
        except (OSError, RuntimeError):  # RuntimeError: a loop of links
            pass

    look(place, SKILL_DEPTH_MAX)
    return list(found)


def skill_file(folder: Path) -> Path | None:
    return next((folder / name for name in SKILL_FILES if (folder / name).is_file()), None)


def read(folder: Path) -> _Read:
    """The skill in `folder`, as it is now."""
    file = skill_file(folder) or folder / SKILL_FILES[0]
    mark = fingerprint(folder)
    nothing = _Read(mark, None, "", "", ())
    try:
        with file.open("rb") as opened:
            head = read_head(opened.read(SKILL_FILE_BYTES_MAX).decode("utf-8", "replace"))
        if head is None:
            text = "no skill: it does not begin with --- and a front matter that is closed by ---"
            return nothing._replace(warnings=(Warning(str(file), 1, text),))
        told = Told()
        described = describe(head.values, frozenset(head.broken), folder.name, told)
        tree, problem = tree_hash(folder)
    except OSError as error:
        return nothing._replace(warnings=(Warning(str(file), 0, f"cannot be read: {error.strerror}"),))
    warnings = [Warning(str(file), line, text) for line, text in head.warnings]
    warnings += [Warning(str(file), head.lines.get(key, 1), text) for key, text in told.warnings]
    if problem:
        warnings.append(Warning(str(folder), 0, f"it needs {problem}"))
    return _Read(mark, described, tree, (described.problem if described else "") or problem, tuple(warnings))


def fingerprint(folder: Path) -> bytes:
    """Changes when anything in the folder is written, for the price of a look at each file's dates."""
    digest = hashlib.sha256()
    for count, (relative, path) in enumerate(_walk(folder)):
        if count > SKILL_TREE_FILES_MAX:
            break
        try:
            stat = path.lstat()
        except OSError:
            continue
        digest.update(
            b"%b\0%d %d %d %d\n" % (relative, stat.st_mode, stat.st_size, stat.st_mtime_ns, stat.st_ino)
        )
    return digest.digest()


def tree_hash(folder: Path) -> tuple[str, str]:
    """SHA-256 over the paths, rights and contents in `folder`; or "" and what the folder would have to be.

    A link counts as where it points to and is not followed; one that leaves the folder would leave the hash, so
    such a folder has none. Devices and pipes count as nothing.
    """
    digest, size = hashlib.sha256(), 0
    for files, (relative, path) in enumerate(_walk(folder), 1):
        if path.is_symlink() and not _stays(folder, path):
            return "", f"a folder without links that leave it ({os.fsdecode(relative)} does)"
        content = _content(path, SKILL_TREE_BYTES_MAX - size)
        if files > SKILL_TREE_FILES_MAX or content is None:
            return "", f"a folder under {SKILL_TREE_BYTES_MAX >> 20} MB and {SKILL_TREE_FILES_MAX} files"
        kind, length, inner = content
        size += length
        digest.update(b"%d:%b%b%b" % (len(relative), relative, kind, inner))
    return digest.hexdigest(), ""


def _stays(folder: Path, link: Path) -> bool:
    try:
        return link.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):
        return False


def _walk(folder: Path) -> Iterator[tuple[bytes, Path]]:
    """Files and links below `folder`, in the order of their paths' bytes; lazily, since a tree may be huge."""
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(set(inner) - NOT_THE_SKILL, key=os.fsencode)
        linked = [name for name in inner if os.path.islink(os.path.join(here, name))]
        for name in sorted([*linked, *(set(names) - NOT_THE_SKILL)], key=os.fsencode):
            path = Path(here, name)
            yield os.fsencode(path.relative_to(folder).as_posix()), path


def _content(path: Path, budget: int) -> tuple[bytes, int, bytes] | None:
    """(kind, bytes read, SHA-256); None when it is over `budget`, which costs no reading."""
    if path.is_symlink():
        target = os.fsencode(os.readlink(path))
        return b"l", len(target), hashlib.sha256(target).digest()
    digest, size = hashlib.sha256(), 0
    stat = path.lstat()
    if stat.st_size > budget:
        return None
    kind = b"x" if stat.st_mode & 0o111 else b"f"
    if path.is_file():
        with path.open("rb") as file:
            while chunk := file.read(READ_BYTES):
                digest.update(chunk)
                size += len(chunk)
                if size > budget:
                    return None
    return kind, size, digest.digest()
