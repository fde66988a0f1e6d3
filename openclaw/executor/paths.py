"""Where the executor keeps things in a state folder, and what a run is called there.

Promises: every name fits the system's limits and stays inside the folder, whatever a peer called its task.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from openclaw.errors import BadState

SOCKET_PATH_BYTES_MAX = 103  # macOS takes 104 with the closing zero, Linux 108
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")

RUNS = "runs"
SCRATCH = "scratch"
MARKER = "OPENCLAW_MESH_RUN"
SCRATCH_VARIABLE = "OPENCLAW_MESH_SCRATCH"


def socket_path(state_dir: Path, name: str) -> Path:
    """Where the unix socket `name` of this state folder is.

    In the folder itself if the system can take so long a path, else in a private folder with a short name.
    """
    path = state_dir.absolute() / name
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES_MAX:
        return path
    import hashlib

    digest = hashlib.sha256(os.fsencode(state_dir.absolute())).hexdigest()[:16]
    base = _private_folder(Path(f"/tmp/openclaw-mesh-{os.getuid()}"))
    return _private_folder(base / digest) / name


def _private_folder(folder: Path) -> Path:
    """Make `folder` for us alone; others may write in /tmp, so what stands there is checked."""
    folder.mkdir(mode=0o700, exist_ok=True)
    stat = folder.lstat()
    if stat.st_uid != os.getuid() or stat.st_mode & 0o170077 != 0o040000:
        raise BadState(
            f"{folder} is needed for sockets and belongs to someone else or is open to others. "
            f"Remove it, or choose a state folder with a shorter path."
        )
    return folder


def run_name(task: str, token: Sequence[str | int]) -> str:
    """What the run of `task` under `token` (takeover, owner, incarnation, attempt) is called.

    Different tokens give different names. Raises ValueError for names that no node of ours would mint.
    """
    takeover, owner, incarnation, attempt = token
    if not (TASK_NAME.fullmatch(task) and TASK_NAME.fullmatch(str(owner))):
        raise ValueError(f"not a task or owner: {task!r}, {owner!r}")
    return f"{task}.{takeover}.{owner}.{incarnation}.{attempt}"


def marker(state_dir: Path, run: str) -> str:
    """What stands in the environment of everything that a run starts: "NAME=value", unique on this machine.

    The folder is named by its inode, since macOS shows environments separated by spaces.
    """
    return f"{MARKER}={_number(state_dir)}.{run}"


def groups_name(state_dir: Path) -> str:
    """What the folder of this executor's control groups is called, unique on this machine."""
    return f"openclaw-mesh-{_number(state_dir)}"


def _number(state_dir: Path) -> str:
    stat = state_dir.stat()
    return f"{stat.st_dev:x}-{stat.st_ino:x}"


def parse_run_name(name: str) -> tuple[str, tuple[int, str, int, int]] | None:
    """The task and token of a run folder; None for a name that `run_name` did not make."""
    task, *token = name.split(".")
    try:
        takeover, owner, incarnation, attempt = token
        parsed = (int(takeover), owner, int(incarnation), int(attempt))
        return (task, parsed) if run_name(task, parsed) == name else None
    except ValueError:
        return None
