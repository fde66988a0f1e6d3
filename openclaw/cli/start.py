"""How a node comes up: in the foreground, or in the background with the starter waiting until it serves.

Either way the runtime prints one ready line of JSON. `ReadyLine` stands in for stdout to catch it, since people
want a sentence instead, and a detached node's starter wants to know.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TextIO

from openclaw.cli.output import emit, note
from openclaw.cli.settings import WrongSetting
from openclaw.client import Client, Doc
from openclaw.config import INVITE_HOURS, NEIGHBOURS_S, START_S_MAX, Limits
from openclaw.errors import MeshError
from openclaw.runtime.options import StartOptions

if TYPE_CHECKING:
    import subprocess

TOKEN_CHARS_MAX = 4096

_DIED = '{"error": {"type": "start", "message": "the node ended while it started; see: openclaw node logs"}}'


class ReadyLine(io.TextIOBase):
    """Hands the first line that is printed to `on_ready`, and all others to the stdout that was there."""

    def __init__(self, stdout: TextIO, on_ready: Callable[[str], None]) -> None:
        self._stdout = stdout
        self._on_ready = on_ready
        self._line: str | None = ""

    def write(self, text: str) -> int:
        if self._line is None:
            return self._stdout.write(text)
        head, newline, rest = (self._line + text).partition("\n")
        self._line = None if newline else head
        if newline:
            self._on_ready(head)
            self._stdout.write(rest)
        return len(text)

    def flush(self) -> None:
        self._stdout.flush()

    def fileno(self) -> int:
        return self._stdout.fileno()


def token(join: str | None) -> str | None:
    if join != "-":
        return join
    return sys.stdin.readline(TOKEN_CHARS_MAX).strip() or None


def limits(pairs: Sequence[str]) -> dict[str, str]:
    """What --limit NAME=VALUE says, by name."""
    names = [field.name for field in fields(Limits)]
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        if name not in names or not value:
            raise WrongSetting(f"--limit {pair}: not NAME=VALUE with one of the names {', '.join(names)}")
        found[name] = value
    return found


def foreground(options: StartOptions, ready_fd: int | None) -> int:
    """Runs the node until it is stopped; its exit code."""
    _refuse_second(options)
    from openclaw.runtime.app import serve

    if ready_fd is not None:
        sys.stdout = ReadyLine(sys.stdout, lambda line: _tell(ready_fd, line))
    elif not options.json:
        sys.stdout = ReadyLine(sys.stdout, lambda line: _greet_beside(options, line))
        options = replace(options, json=True)
    return serve(options)


def _refuse_second(options: StartOptions) -> None:
    """A node that already runs in that folder is named."""
    try:
        with Client(options.state_dir) as client:
            running = client.call("hello")
    except MeshError:
        return  # nobody answers there; the state folder's lock has the last word
    raise MeshError(
        f"node {running['node']['name']!r} already runs in {options.state_dir}; "
        "stop it first (openclaw node stop) or choose another folder with --state-dir",
        kind="already_running",
        exit_code=125,
    )


def _tell(ready_fd: int, line: str) -> None:
    os.write(ready_fd, line.encode() + b"\n")
    os.close(ready_fd)


def _greet_beside(options: StartOptions, line: str) -> None:
    """In a thread: the greeting asks the node for an invite, and the node is busy calling us."""
    import json

    threading.Thread(target=greet, args=(options, json.loads(line)), daemon=True).start()


def detached(options: StartOptions) -> int:
    """Starts the node as a process of its own and returns when it serves, or with what it died of."""
    import json

    _refuse_second(options)
    options.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    child, line = _spawn(options)
    if line is None:
        raise MeshError(
            f"the node (pid {child.pid}) is not ready after {START_S_MAX:g} s; see: openclaw node logs",
            kind="not_ready",
            exit_code=125,
        )
    document = json.loads(line or _DIED)
    if document.get("event") != "ready":
        error = document["error"]
        raise MeshError(error["message"], kind=error["type"], exit_code=child.wait() or 125)
    child.returncode = 0  # it outlives us: nothing is to be waited for
    if options.json:
        emit(document)
    else:
        greet(options, document)
    return 0


def _spawn(options: StartOptions) -> tuple[subprocess.Popen[bytes], bytes | None]:
    """The node's process, its output in its log, and the line that it had for its starter."""
    import subprocess

    reader, writer = os.pipe()
    command = [sys.executable, "-P", "-m", "openclaw", *_arguments(options), "--ready-fd", str(writer)]
    with (options.state_dir / "node.log").open("ab") as log, open(reader, "rb") as ready:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE if options.join else subprocess.DEVNULL,
            stdout=log, stderr=log, pass_fds=(writer,), start_new_session=True,
            cwd=options.state_dir,  # or it would keep whatever disk it was started from busy
        )  # fmt: skip
        os.close(writer)
        if child.stdin is not None and options.join is not None:
            with child.stdin as pipe:
                pipe.write(options.join.encode())
        return child, _read_line(ready)


def _read_line(ready: io.BufferedReader) -> bytes | None:
    """The ready line; empty when the node ended first, None when it takes too long."""
    import select

    if not select.select([ready], [], [], START_S_MAX)[0]:
        return None
    return ready.readline()


def _arguments(options: StartOptions) -> list[str]:
    """The command line that says the same. The token goes through stdin, where nobody else can read it."""
    arguments = [
        "--state-dir", str(options.state_dir), "node", "start", "--json",
        "--name", options.name, "--port", str(options.port), "--policy", options.policy,
    ]  # fmt: skip
    for flag, values in (
        ("--bind", options.binds),
        ("--seed", options.seeds),
        ("--label", tuple(f"{key}={value}" for key, value in options.labels)),
        ("--skills-dir", tuple(str(folder) for folder in options.skills_dirs)),
        ("--handlers", options.handlers),
        ("--handlers-dir", options.handlers_path if options.handlers else ()),
    ):
        arguments += [word for value in values for word in (flag, value)]
    for field in fields(Limits):
        if (value := getattr(options.limits, field.name)) != field.default:
            arguments += ["--limit", f"{field.name}={value}"]
    if options.slots is not None:
        arguments += ["--slots", str(options.slots)]
    switches = (
        ("--no-mdns", options.mdns),
        ("--no-tailscale", options.tailscale),
        ("--no-lead", options.lead),
    )
    arguments += [flag for flag, on in switches if not on]
    return [*arguments, "--join", "-"] if options.join else arguments


def greet(options: StartOptions, ready: Doc) -> None:
    """What a person wants to know of a node that has just started; on stderr, where nothing parses it."""
    note(f"node {ready['node']['name']} serves in mesh {ready['mesh']['name']}")
    note(f"state folder {ready['state_dir']}, addresses {', '.join(ready['addresses']) or 'none'}")
    ports = ", ".join(map(str, ready["ports"]))
    note(f"other machines need to reach TCP ports {ports}, and UDP 5353 to find this one by themselves")
    if sys.stderr.isatty():
        _next_machine(options, ready["mesh"]["id"])


def _next_machine(options: StartOptions, mesh_id: str) -> None:
    """A node alone in its mesh prints the line to paste elsewhere; one that may not invite says nothing."""
    try:
        with Client(options.state_dir) as client:
            if len(client.call("nodes", watch=False)["nodes"]) > 1:
                return
            answer = client.call(
                "node_invite",
                expires_s=INVITE_HOURS * 3600,
                uses=1,
                capabilities=["skill", "shell"],
                addresses=True,
            )
    except MeshError as error:
        note(str(error))
        return
    note(
        f"on the next machine (within {INVITE_HOURS:g} h):\n\n  openclaw node start --join {answer['token']}\n"
    )
    if options.mdns:
        _name_neighbours(mesh_id)


def _name_neighbours(mesh_id: str) -> None:
    """Somebody who meant to join a mesh and made one instead should see it at once."""
    import asyncio

    from openclaw.discovery.discovery import browse
    from openclaw.trust.certificates import MeshId
    from openclaw.trust.mesh import mesh_tag

    own = mesh_tag(MeshId(mesh_id))
    others = {hint.mesh_tag: hint.name or hint.node for hint in asyncio.run(browse(NEIGHBOURS_S))}
    for tag, name in sorted(others.items()):
        if tag and tag != own:
            note(
                f"there is another mesh on this LAN (seen at {name or tag}); to join it instead: run "
                "openclaw node invite there, and paste its line here"
            )
