"""Backing up, verifying and compacting what lies in a state folder, beside the node or without it.

A backup is a state folder of its own: the node's keys, a compact copy of its store, and the logs and files that its
records name. To go back to it is to put it where the state folder was. What runs at the moment is not in it: the
other nodes know.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from lmdb import verify as pages

from openclaw.errors import BadState
from openclaw.files import Files
from openclaw.store import TABLES, Store
from openclaw.store_env import DATA, Environment
from openclaw.store_rows import NAMED, SHA256_CHARS, Rows
from openclaw.store_verify import Problem, problems
from openclaw.trust.identity import held

STORE, LOGS, FILES = "store", "logs", "files"
KEPT = ("seed", "machine", "config.toml")


@dataclass(frozen=True, slots=True)
class Backup:
    store_bytes: int
    files: int
    file_bytes: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many tasks were read, and what is wrong; `mend` is the line that helps, "" when all is well."""

    tasks: int
    problems: list[str]
    mend: str


def backup(state_dir: Path, target: Path, copy_store: Callable[[Path], int] | None) -> Backup:
    """Everything of the node in `state_dir` into the new folder `target`.

    `copy_store(folder)` is the running node's own; None for a node that is stopped.
    """
    if not (state_dir / "seed").is_file():
        raise BadState(f"{state_dir} is not the state folder of a node; name one: --state-dir DIR")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise BadState(f"{target} is there already and not empty; name a new folder for the backup")
    for folder in (target, target / LOGS, target / FILES):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    if copy_store is not None:
        store_bytes = copy_store(target / STORE)
    else:
        with held(state_dir, "backup"), closing(Store.open(state_dir / STORE)) as store:
            store_bytes = store.copy_to(target / STORE)
    sizes = [_copied(state_dir / name, target / name) for name in KEPT if (state_dir / name).exists()]
    sizes += [_copied(path, target / path.relative_to(state_dir)) for path in _kept_files(state_dir, target)]
    found = verify(target)
    if found.problems:
        raise BadState(f"the backup in {target} is not good: {found.problems[0]}. {found.mend}")
    return Backup(store_bytes, len(sizes), sum(sizes))


def verify(folder: Path) -> Verdict:
    """Reads all of the store of a stopped node, or of a backup. Raises BadState while a node runs there."""
    with held(folder, "verify"):
        if broken := _broken_pages(folder / STORE / DATA):
            return Verdict(0, broken, _restore(folder))
        with closing(Environment.open_to_read(folder / STORE)) as env:
            tables = env.existing(TABLES)
            complete = len(tables) == len(TABLES)
            with env.reading() as txn:
                found = list(problems(txn, tables, indexes=complete))
                tasks = int(txn.stat(tables["tasks"])["entries"])
    return Verdict(tasks, [str(problem) for problem in found], _mend(folder, found))


def _broken_pages(data: Path) -> list[str]:
    """Read as plain bytes: mapping a damaged file could end this process."""
    try:
        return [f"{data}: {problem}" for problem in pages.verify(str(data), subdir=False)]  # type: ignore[no-untyped-call]
    except (OSError, pages.VerifyError) as error:
        return [f"{data}: {error}"]


def compact(state_dir: Path) -> tuple[int, int]:
    """Rewrites the store of a stopped node without its free pages, and its indexes if they were wrong.

    The bytes before and after. A crash in the midst of it leaves the old store or the new one.
    """
    folder, fresh = state_dir / STORE, state_dir / f"{STORE}.compact"
    with held(state_dir, "compact"):
        before = os.stat(folder / DATA).st_size
        shutil.rmtree(fresh, ignore_errors=True)  # of one that was cut off
        with closing(Store.open(folder)) as store:
            found = store.problems()
            if any(problem.mendable for problem in found):
                store.rebuild()
            if lasting := [problem for problem in found if not problem.mendable]:
                raise BadState(f"the store in {folder} is damaged: {lasting[0]}. {_restore(state_dir)}")
            after = store.copy_to(fresh)
        os.replace(fresh / DATA, folder / DATA)
        (folder / "lock.mdb").unlink(missing_ok=True)
        fresh.rmdir()
    return before, after


def _kept_files(state_dir: Path, target: Path) -> Iterator[Path]:
    """The logs, and of the files by content those that a record in the copied store names."""
    for path in sorted((state_dir / LOGS).glob("*")):
        if path.suffix != ".part":
            yield path
    files = Files(state_dir / FILES)
    for sha256 in _named(target / STORE):
        if files.has(sha256):
            yield files.path(sha256)


def _named(store: Path) -> list[str]:
    with closing(Environment.open_to_read(store)) as env:
        rows = Rows(env.existing([NAMED]))
        with env.reading() as txn:
            keys = [key for key, _ in rows.items(txn, NAMED)]
    return sorted({key[:SHA256_CHARS].decode() for key in keys})


def _copied(source: Path, target: Path) -> int:
    """Its bytes; 0 for one that was pruned meanwhile."""
    target.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with open(source, "rb") as here, open(target, "xb", opener=_private) as there:
            shutil.copyfileobj(here, there)
            there.flush()
            os.fsync(there.fileno())
            return there.tell()
    except FileNotFoundError:
        return 0


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _mend(folder: Path, found: list[Problem]) -> str:
    if not found:
        return ""
    if all(problem.mendable for problem in found):
        return f"Only indexes are wrong; they are made anew by: openclaw node compact --state-dir {folder}"
    return _restore(folder)


def _restore(folder: Path) -> str:
    return (
        f"Bring it back from a backup: mv {folder} {folder}.damaged && cp -a BACKUP {folder}; or begin a new node: "
        f"mv {folder} {folder}.damaged && openclaw node start --join TOKEN"
    )
