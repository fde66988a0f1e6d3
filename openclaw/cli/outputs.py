"""A task's outputs, from its node's cache to where a person wants them: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from openclaw.cli.output import note, size_of
from openclaw.client import Client


def bring_back(
    client: Client, task: str, target_of: Callable[[str], Path | None], *, quiet: bool = False
) -> list[Path]:
    """Write each output of `task` to what `target_of` its name says (None leaves it); the files written."""
    written = []
    for frame in client.stream("outputs", id=task):
        match frame.get("event"):
            case "fetching" if not quiet:
                note(f"fetching {frame['name']} ({size_of(frame['size'])})")
            case "output" if target := target_of(frame["name"]):
                _copy(frame["path"], target, task)
                written.append(target)
    return written


def _copy(kept: str, target: Path, task: str) -> None:
    import shutil

    partial = target.with_name(f".{target.name}.{task}")
    try:
        shutil.copyfile(kept, partial)
        partial.replace(target)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
