"""`openclaw run`: one command, on whichever machine can do it and has the fewest tasks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from openclaw.cli.common import json_option, state_dir, state_dir_option
from openclaw.cli.follow import STDERR, STDOUT, Following, end
from openclaw.cli.output import emit, leave, note
from openclaw.cli.outputs import bring_back
from openclaw.cli.request import file_fields, keep_stdin, local_files, task_options, task_request
from openclaw.cli.skill_call import Calls, called
from openclaw.client import Client, Doc

SHELL = "/bin/sh"
WORDS_APART = r"[\s<>|;&()'\"`]+"


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
@click.option("--shell", default=None, metavar="LINE", help="Run a line of shell instead, like 'a | b'.")
@click.option("--handler", default=None, metavar="TYPE", help="Call this Python function of a node instead.")
@click.option("--payload", default=None, metavar="JSON", help="What the handler is called with.")
@task_options
@click.option(
    "--input", "inputs", multiple=True, metavar="FILE", help="Bring this file into its scratch directory."
)
@click.option(
    "--output", "outputs", multiple=True, metavar="FILE", help="Bring this file back when it succeeded."
)
@click.option("--stdin", is_flag=True, help="Give it our standard input, read to its end first.")
@click.option("--all", "everywhere", is_flag=True, help="Once on every node that can do it.")
@click.option("--dry-run", is_flag=True, help="Only say where it would run, and why not elsewhere.")
@click.option(
    "--key", default="", metavar="KEY", help="The same key is the same task, wherever it is submitted."
)
@click.option("--wait", is_flag=True, help="Wait for a node that can do it, if there is none now.")
@click.option("-d", "--detach", is_flag=True, help="Print only the id and return.")
@click.option("-q", "--quiet", is_flag=True, help="Do not name the node.")
@json_option
@state_dir_option
def run(argv: tuple[str, ...], shell: str | None, handler: str | None, **options: Any) -> None:
    """Run a command on the machine that can do it and has the fewest tasks.

    \b
    openclaw run -- hostname
    openclaw run --node nas --input film.mkv --output film.mp4 -- ffmpeg -i film.mkv film.mp4
    openclaw run --shell 'sort names | uniq -c'
    openclaw run --handler double --payload 21
    openclaw run --skill system:facts

    Everything after -- is passed on verbatim. The exit code is the command's own; 124 timed out, 125 the mesh
    could not do it, 126 not executable, 127 not found, 130 cancelled, 128+n ended by signal n.
    """
    skill = called(argv, options) if shell is None and handler is None else ""
    if not skill and bool(argv) + (shell is not None) + (handler is not None) != 1:
        raise click.UsageError(
            "give a command after --, a line with --shell, a --skill, or a task type with --handler"
        )
    if options["payload"] is not None and handler is None:
        raise click.UsageError("--payload is for --handler")
    folder = state_dir()
    with Client(folder) as client:
        call = Calls(client, skill).request(argv, options) if skill else {}
        request = _request(folder, argv, shell, options) | call
        if handler is not None:
            request |= {"kind": "handler", "handler": handler, "args": _arguments(options["payload"])}
        try:
            if options["dry_run"]:
                _explained(client, request, options)
            if options["everywhere"]:
                _everywhere(client, folder, request, options)
            if options["detach"]:
                _detached(client, request, options)
            _foreground(client, folder, request, options)
        finally:
            if "stdin" in request:  # still there if the node refused the task
                Path(request["stdin"]).unlink(missing_ok=True)


def _explained(client: Client, request: Doc, options: dict[str, Any]) -> None:
    from openclaw.cli.explain import ask, show

    document = ask(client, {"task": request})
    show(document, as_json=options["as_json"])
    leave(0 if any(row["eligible"] for row in document["nodes"]) else 125)


def _everywhere(client: Client, folder: Path, request: Doc, options: dict[str, Any]) -> None:
    from openclaw.cli.run_all import run_all

    if request["needs"]["node"] or request["outputs"] or "stdin" in request:
        raise click.UsageError("--all goes with neither --node, --output nor --stdin")
    run_all(client, folder, request, options)


def _request(folder: Path, argv: tuple[str, ...], shell: str | None, options: dict[str, Any]) -> Doc:
    request = task_request(argv, options)
    if shell is not None:
        words = re.split(WORDS_APART, shell)
        request |= {"argv": [SHELL, "-c", shell], "title": shell, "local_files": local_files(words)}
    request |= file_fields(options)
    request["key"] = options["key"]
    if options["stdin"]:
        request |= {"stdin": str(keep_stdin(folder)), "take_stdin": True}
    return request


def _arguments(payload: str | None) -> bytes:
    """One argument, or none."""
    import json

    from openclaw.handlers.values import encode

    try:
        return encode([[] if payload is None else [json.loads(payload)], {}])
    except ValueError as error:
        raise click.UsageError(f"--payload is not JSON: {error}") from None


def _detached(client: Client, request: Doc, options: dict[str, Any]) -> None:
    answer = client.call("submit", answer_s=None, tasks=[request], wait=options["wait"])
    if options["as_json"]:
        emit({"id": answer["ids"][0], "guardians": answer["guardians"]})
    else:
        print(answer["ids"][0])
    leave(0)


def _foreground(client: Client, folder: Path, request: Doc, options: dict[str, Any]) -> None:
    stdout = STDERR if options["as_json"] else STDOUT
    following = Following(folder, quiet=options["quiet"], stdout=stdout)
    task = following.follow(client.stream("run", task=request, follow=True, wait=options["wait"]))["task"]
    if task["state"] == "succeeded" and options["outputs"]:
        wanted = {Path(file).name: Path(file) for file in options["outputs"]}
        for target in bring_back(client, task["id"], wanted.get, quiet=options["quiet"]):
            if not options["quiet"]:
                note(f"wrote {target}")
    if options["as_json"]:
        emit(task)
    elif task.get("handler") and task["state"] == "succeeded":
        _print_result(client, task)
    leave(end(task))


def _print_result(client: Client, task: Doc) -> None:
    """What the handler returned, as JSON; a large result is in a file."""
    import json

    from openclaw.handlers.values import RESULT_FILE, shown

    value = task["result"]["value"]
    for frame in client.stream("outputs", id=task["id"]):
        if frame.get("name") == RESULT_FILE and frame["event"] == "output":
            value = shown(Path(frame["path"]).read_bytes())
    print(json.dumps(value))
