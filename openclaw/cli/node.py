"""`openclaw node …`: the node on this machine."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openclaw.cli.common import connect, duration, json_option, state_dir, state_dir_option
from openclaw.cli.output import emit, facts, leave, note, write_all
from openclaw.cli.settings import resolve
from openclaw.config import INVITE_HOURS, LOG_TAIL_LINES
from openclaw.errors import MeshError, Unavailable

if TYPE_CHECKING:
    from openclaw.client import Client

LOG_POLL_S = 0.3
PROBLEMS_SHOWN_MAX = 100
STOP_MARGIN_S = 30.0
LOG_TAIL_BYTES_MAX = 1 << 20
CAPABILITIES = ("observe", "skill", "shell", "admin")


@click.group(no_args_is_help=False)
@state_dir_option
def node() -> None:
    """Start, stop and manage the node on this machine."""


@node.command()
@click.option(
    "--join", default=None, metavar="TOKEN|-", help="Join the mesh of this invite (- reads it from stdin)."
)
@click.option("--name", default=None, help="How people call this machine (default: its host name).")
@click.option("--port", default=None, metavar="P", help="P mesh, P+1 intro, P+2 bulk; 0 takes free ones.")
@click.option("--bind", multiple=True, metavar="ADDR", help="Listen on this address only.")
@click.option("--seed", multiple=True, metavar="HOST:P", help="A node to look for.")
@click.option("--no-mdns", is_flag=True, help="Do not look for nodes on the local network.")
@click.option("--no-tailscale", is_flag=True, help="Do not look for nodes through Tailscale.")
@click.option("--no-lead", is_flag=True, help="Never become the leader.")
@click.option("--slots", default=None, metavar="N", help="Tasks at a time (default: one a core).")
@click.option("--label", multiple=True, metavar="K=V", help="For run --label.")
@click.option("--policy", default=None, metavar="skills|commands|none", help="What others may run here.")
@click.option(
    "--limit", multiple=True, metavar="NAME=VALUE", help="How much is taken and kept (see: openclaw config)."
)
@click.option("--skills-dir", multiple=True, metavar="DIR", help="A folder of skills.")
@click.option(
    "--handlers", multiple=True, metavar="MODULE[:ATTR]", help="Python functions that tasks may call here."
)
@click.option("--handlers-dir", default=None, hidden=True)
@click.option("-d", "--detach", is_flag=True, help="Return when the node is ready.")
@click.option("--ready-fd", type=int, default=None, hidden=True)
@json_option
@state_dir_option
def start(join: str | None, detach: bool, ready_fd: int | None, as_json: bool, **flags: Any) -> None:
    """Start this machine's node, in the foreground until Ctrl-C, or with -d in the background.

    Without a mesh in the state folder it makes one, and prints the line for the next machine.
    """
    from openclaw.cli import start as starting
    from openclaw.cli.options import start_options

    for name in ("mdns", "tailscale", "lead"):
        flags[name] = False if flags.pop(f"no_{name}") else None
    flags |= starting.limits(flags.pop("limit"))
    folder = state_dir()
    settings = resolve(folder, flags)
    options = start_options(folder, settings, join=starting.token(join), json=as_json)
    leave(starting.detached(options) if detach else starting.foreground(options, ready_fd))


@node.command()
@click.option("--keep", is_flag=True, help="Leave its tasks running: it will be back soon (an upgrade).")
@click.option(
    "--grace", type=duration, default="10s", show_default=True, help="What running tasks are given."
)
@json_option
@state_dir_option
def stop(keep: bool, grace: float, as_json: bool) -> None:
    """Stop the node; its tasks go to other machines."""
    with connect() as client:
        client.call("node_stop", answer_s=grace + STOP_MARGIN_S, keep=keep, grace_s=grace)
        stopped = client.wait_closed(grace + STOP_MARGIN_S)
    if not stopped:
        raise MeshError("the node is still stopping; see: openclaw node logs", kind="stopping")
    if as_json:
        emit({"ok": True, "kept": keep})
    else:
        print("stopped; its tasks go on here" if keep else "stopped")


@node.command()
@json_option
@state_dir_option
def status(as_json: bool) -> None:
    """Show this node: its mesh, addresses, ports and load."""
    with connect() as client:
        document = {key: value for key, value in client.call("node_status").items() if key != "ok"}
    if as_json:
        emit(document)
    else:
        facts((key.replace("_", " "), _plain(value)) for key, value in document.items())


def _plain(value: object) -> str:
    match value:
        case {"name": name, "id": id}:
            return f"{name} ({id})"
        case dict():
            return ", ".join(f"{key} {_plain(inner)}" for key, inner in value.items()) or "-"
        case list():
            return ", ".join(_plain(inner) for inner in value) or "-"
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
    return str(value)


@node.command()
@click.option("--expires", type=duration, default=f"{INVITE_HOURS:g}h", show_default=True, metavar="TIME")
@click.option(
    "--uses", type=click.IntRange(1), default=1, show_default=True, help="How many machines may use it."
)
@click.option(
    "--capabilities", default="skill,shell", show_default=True, help=f"Of {', '.join(CAPABILITIES)}."
)
@click.option(
    "--no-addresses", is_flag=True, help="A shorter token, for a network where machines find each other."
)
@json_option
@state_dir_option
def invite(expires: float, uses: int, capabilities: str, no_addresses: bool, as_json: bool) -> None:
    """Make a token that lets another machine join: openclaw node start --join TOKEN there."""
    granted = [name.strip() for name in capabilities.split(",") if name.strip()]
    if unknown := [name for name in granted if name not in CAPABILITIES] or not granted:
        raise click.UsageError(f"--capabilities: {unknown} is not among {', '.join(CAPABILITIES)}")
    with connect() as client:
        answer = client.call(
            "node_invite", expires_s=expires, uses=uses, capabilities=granted, addresses=not no_addresses
        )
    if as_json:
        emit({"token": answer["token"], "expires": answer["expires"]})
    else:
        print(answer["token"])


def _order(op: str, done: str, as_json: bool) -> None:
    with connect() as client:
        client.call(op)
    _done(done, as_json)


def _done(done: str, as_json: bool) -> None:
    if as_json:
        emit({"ok": True})
    else:
        print(done)


@node.command()
@json_option
@state_dir_option
def drain(as_json: bool) -> None:
    """Take no new tasks; finish those that run."""
    _order("node_drain", "draining: takes no new tasks (openclaw node resume ends that)", as_json)


@node.command()
@json_option
@state_dir_option
def resume(as_json: bool) -> None:
    """Take tasks again after drain."""
    _order("node_resume", "takes tasks again", as_json)


@node.command("leave")
@json_option
@state_dir_option
def leave_mesh(as_json: bool) -> None:
    """Leave the mesh for good and stop. Another invite is needed to come back."""
    with connect() as client:
        client.call("node_leave")
        client.wait_closed(STOP_MARGIN_S)
    _done("left the mesh", as_json)


@node.command()
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@json_option
@state_dir_option
def backup(folder: Path, as_json: bool) -> None:
    """Copy the node, running or stopped, into the new folder DIR: keys, tasks, logs and files.

    To go back to it, stop the node and put DIR where its state folder was. DIR holds the node's secret key.
    """
    from openclaw import upkeep

    target = folder.absolute()
    try:
        with connect() as client:
            made = upkeep.backup(state_dir(), target, lambda store: _copy_store(client, store))
    except Unavailable as error:
        if error.kind != "no_node":
            raise
        made = upkeep.backup(state_dir(), target, None)
    if as_json:
        emit({"backup": str(target), **asdict(made)})
    else:
        print(f"{target}: a store of {made.store_bytes} bytes, and {made.files} files of {made.file_bytes}")
        note(
            f"to go back to it: openclaw node stop; mv {state_dir()} {state_dir()}.old && cp -a {target} {state_dir()}"
        )


def _copy_store(client: Client, folder: Path) -> int:
    return int(client.call("node_backup", answer_s=None, folder=str(folder))["bytes"])


@node.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@json_option
@state_dir_option
def verify(folder: Path | None, as_json: bool) -> None:
    """Read every row of a stopped node's store, or of the backup in DIR. 1 if anything is wrong."""
    from openclaw import upkeep

    folder = (folder or state_dir()).absolute()
    verdict = upkeep.verify(folder)
    if as_json:
        emit({"folder": str(folder), "ok": not verdict.problems, **asdict(verdict)})
    elif not verdict.problems:
        print(f"{folder}: all is well, {verdict.tasks} tasks")
    else:
        for problem in verdict.problems[:PROBLEMS_SHOWN_MAX]:
            print(problem)
        print(f"{len(verdict.problems)} problems. {verdict.mend}")
    leave(1 if verdict.problems else 0)


@node.command()
@json_option
@state_dir_option
def compact(as_json: bool) -> None:
    """Give the free pages of a stopped node's store back to the disk."""
    from openclaw import upkeep

    before, after = upkeep.compact(state_dir())
    if as_json:
        emit({"bytes_before": before, "bytes_after": after})
    else:
        print(f"{before} bytes before, {after} after")


@node.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@state_dir_option
def logs(follow: bool) -> None:
    """Print the end of the node's own log."""
    path = state_dir() / "node.log"
    if not path.exists():
        raise Unavailable(f"there is no log at {path}; no node has run there", kind="no_node")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES_MAX))
        write_all(1, b"".join(file.readlines()[-LOG_TAIL_LINES:]))
        offset = file.tell()
    if follow:
        _follow_log(path, offset)


def _follow_log(path: Path, offset: int) -> None:
    """A log that became shorter has been rotated: the new file is read from its beginning."""
    while True:
        time.sleep(LOG_POLL_S)
        size = path.stat().st_size if path.exists() else 0
        if size == offset:
            continue
        offset = 0 if size < offset else offset
        if size:
            with path.open("rb") as file:
                file.seek(offset)
                write_all(1, file.read())
                offset = file.tell()
