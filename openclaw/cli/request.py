"""From options of `run` and `map` to a task as the node takes it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from openclaw.cli.common import complete_node, duration
from openclaw.client import Doc
from openclaw.config import FILE_BYTES_MAX, LOCAL_FILES_MAX
from openclaw.errors import MeshError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
COPY_BYTES = 1 << 20
NAME_CHARS_MAX = 1024


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return key, value


def variable(text: str) -> tuple[str, str]:
    """NAME=VALUE, or NAME for the value that it has here, so that no secret stands in a command line."""
    key, equals, value = text.partition("=")
    if not key:
        raise click.BadParameter(f"{text!r} is not NAME or NAME=VALUE")
    if equals:
        return key, value
    if key not in os.environ:
        raise click.BadParameter(f"{key} is not set here; set it, or write {key}=VALUE")
    return key, os.environ[key]


_UNITS_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def resources(text: str) -> Doc:
    """`cpus=2,memory=4G,gpus=1`, any of them, as the fields of a request."""
    found: Doc = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        amount = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", value.strip(), re.IGNORECASE)
        if name == "memory" and amount is not None:
            found["memory_bytes"] = int(float(amount[1]) * _UNITS_BYTES[amount[2].upper()])
        elif name in ("cpus", "gpus") and value.isdecimal():
            found[name] = int(value)
        else:
            raise click.BadParameter(f"{part!r} is none of cpus=2, memory=4G, gpus=1")
    return found


_PLACE = (
    click.option("--node", default="", metavar="NAME", shell_complete=complete_node, help="Run it there only."),
    click.option("--label", "labels", type=pair, multiple=True, metavar="K=V", help="Only where it holds."),
    click.option("--need", type=resources, default=None, metavar="cpus=2,memory=4G,gpus=1", help="Room for it."),
    click.option(
        "--skill", "skills", multiple=True, metavar="NAME[:ENTRY]", help="Call this skill; or only where it is."
    ),
    click.option("-p", "params", type=pair, multiple=True, metavar="KEY=VALUE", help="A parameter of the skill."),
    click.option("--env", type=variable, multiple=True, metavar="NAME[=VALUE]", help="Set or pass on."),
    click.option("--cwd", default="", metavar="DIR", help="Directory on that machine (default: scratch)."),
    click.option("--timeout", type=duration, default="0", metavar="TIME", help="End it after 90, 10s or 5m."),
    click.option(
        "--retries", type=click.IntRange(0), default=0, metavar="N", help="Try failures and timeouts again."
    ),
    click.option("--once", is_flag=True, help="Never start it twice; 'lost' when nobody can know."),
    click.option("--no-overlap", is_flag=True, help="Never run it in two places at once, whatever breaks."),
    click.option(
        "--replicas", type=click.IntRange(0, 1), default=1, metavar="0|1", help="Copies at other nodes (default: 1)."
    ),
    click.option("--priority", type=int, default=0, metavar="N", help="Higher goes first."),
    click.option("--name", default="", metavar="LABEL", help="How to call it in lists."),
)  # fmt: skip


def task_options(function: Decorated) -> Decorated:
    """The options that `run` and `map` have in common; a command takes them as keywords."""
    for option in reversed(_PLACE):
        function = option(function)
    return function


def task_request(argv: Sequence[str], options: dict[str, Any]) -> Doc:
    """The task that `submit` and `run` send, from the keywords of `task_options`."""
    return {
        "kind": "command",
        "argv": list(argv),
        "env": dict(options["env"]),
        "cwd": options["cwd"],
        "timeout_s": options["timeout"],
        "retries": options["retries"],
        "once": options["once"],
        "no_overlap": options["no_overlap"],
        "replicas": options["replicas"],
        "needs": {
            "node": options["node"],
            "labels": dict(options["labels"]),
            "skills": list(options["skills"]),
            **(options["need"] or {}),
        },
        "name": options["name"],
        "priority": options["priority"],
        "local_files": local_files(argv),
    }


def file_fields(options: dict[str, Any]) -> Doc:
    """The files that a task brings along and back, by their names in its scratch directory."""
    names = [Path(file).name for file in (*options["inputs"], *options["outputs"])]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise click.UsageError(f"two files would be called {doubled[0]!r} in the scratch directory")
    return {
        "inputs": [
            {"path": str(Path(file).absolute()), "name": Path(file).name} for file in options["inputs"]
        ],
        "outputs": [Path(file).name for file in options["outputs"]],
    }


def local_files(words: Sequence[str]) -> list[str]:
    """Those that name files here, so that whoever lacks one there can be told: the word itself or what it is set to."""
    ends = (end for word in words for end in (word, word.partition("=")[2]))
    found = dict.fromkeys(end for end in ends if 0 < len(end) <= NAME_CHARS_MAX and os.path.isfile(end))
    return list(found)[:LOCAL_FILES_MAX]


def keep_stdin(state_dir: Path) -> Path:
    """All of our standard input, in a private file that the node takes over."""
    folder = state_dir / "files"
    folder.mkdir(mode=0o700, exist_ok=True)
    path = folder / f"incoming-{os.getpid()}-{os.urandom(4).hex()}"
    size = 0
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            while chunk := sys.stdin.buffer.read(COPY_BYTES):
                size += len(chunk)
                if size > FILE_BYTES_MAX:
                    raise MeshError(
                        f"standard input is over {FILE_BYTES_MAX >> 30} GiB, more than a task may be given",
                        kind="too_large",
                        exit_code=125,
                    )
                file.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path
