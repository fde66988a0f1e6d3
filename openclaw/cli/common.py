"""What all commands share: the options of everywhere, the connection to the node, and spans of time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from openclaw.cli.settings import seconds, state_folder
from openclaw.client import Client
from openclaw.errors import MeshError

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_STATE_DIR = "openclaw.state_dir"
_JSON = "json"  # the entry reads it to know in which form to report a failure
COMPLETED_TASKS_MAX = 50


def duration(text: str) -> float:
    """An option's span of time, in seconds."""
    try:
        return seconds(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _remember(key: str) -> Callable[[click.Context, click.Parameter, object], object]:
    def callback(ctx: click.Context, _param: click.Parameter, value: object) -> object:
        if value:
            ctx.meta[key] = value
        return value

    return callback


def state_dir_option(function: Decorated) -> Decorated:
    return click.option(
        "--state-dir",
        metavar="DIR",
        expose_value=False,
        is_eager=True,
        callback=_remember(_STATE_DIR),
        help="The node to talk to, by its state folder.",
    )(function)


def json_option(function: Decorated) -> Decorated:
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_remember(_JSON), help="One JSON document."
    )(function)


def state_dir() -> Path:
    """The state folder that this invocation is about."""
    return state_folder(click.get_current_context().meta.get(_STATE_DIR))


def connect() -> Client:
    return Client(state_dir())


def complete_node(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the mesh's nodes, for the shell; none where no node runs."""
    try:
        with Client(state_folder(ctx.meta.get(_STATE_DIR))) as client:
            names = {str(node["name"]) for node in client.call("nodes", watch=False)["nodes"]}
    except MeshError:
        return []
    return sorted(name for name in names if name.startswith(incomplete))


def complete_task(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of this machine's latest tasks, for the shell."""
    try:
        with Client(state_folder(ctx.meta.get(_STATE_DIR))) as client:
            frames = client.stream("tasks", all=False, state=None, limit=COMPLETED_TASKS_MAX)
            ids = [str(frame["task"]["id"]) for frame in frames if "task" in frame]
    except MeshError:
        return []
    return [task for task in ids if task.startswith(incomplete)]
