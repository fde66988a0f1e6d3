"""`openclaw tasks` and `openclaw task …`: any task, from any machine, whoever owns it."""

from __future__ import annotations

from pathlib import Path

import click

from openclaw.cli.common import complete_task, connect, json_option, state_dir, state_dir_option
from openclaw.cli.follow import STDERR, STDOUT, end
from openclaw.cli.output import emit, facts, leave, note, ref, table, when, write_all
from openclaw.cli.outputs import bring_back
from openclaw.cli.results import without_output
from openclaw.client import Client, Doc
from openclaw.config import WAIT_IDS_MAX

STATES = (
    "queued", "placed", "running", "retrying", "cancelling",
    "succeeded", "failed", "timed_out", "cancelled", "lost",
)  # fmt: skip
LISTED_MAX = 1000
COMMAND_CHARS_MAX = 60


@click.command()
@click.option("--all", "everything", is_flag=True, help="Of every node, not of this one alone.")
@click.option("--state", type=click.Choice(STATES), default=None, help="Only those in this state.")
@click.option(
    "--limit", type=click.IntRange(1), default=LISTED_MAX, show_default=True, help="At most so many."
)
@json_option
@state_dir_option
def tasks(everything: bool, state: str | None, limit: int, as_json: bool) -> None:
    """List the tasks that were submitted on this machine, newest first, or --all of the mesh."""
    with connect() as client:
        frames = list(client.stream("tasks", all=everything, state=state, limit=limit))
    found = [frame["task"] for frame in frames if "task" in frame]
    silent, more = frames[-1].get("silent", []), bool(frames[-1].get("more"))
    if silent:
        note(f"without the tasks of {', '.join(silent)}, which did not answer")
    if more:
        note(f"the newest {len(found)}, there are more: --limit N")
    if as_json:
        emit({"tasks": found, "silent": silent, "more": more})
    elif not found:
        print("no such tasks" if everything or state else "no tasks of this machine (--all: of the mesh)")
    else:
        table(("ID", "STATE", "NODE", "SUBMITTED", "COMMAND"), (_row(task) for task in found))


def _row(task: Doc) -> tuple[str, ...]:
    command = task["name"] or " ".join(task["argv"])
    if len(command) > COMMAND_CHARS_MAX:
        command = command[: COMMAND_CHARS_MAX - 1] + "…"
    return task["id"], task["state"], ref(task["node"]), when(task["submitted"]), command


@click.group(no_args_is_help=False)
@state_dir_option
def task() -> None:
    """Show, wait for, read, fetch from or cancel a task. Ids may be shortened to what is unique."""


@task.command()
@click.argument("id", shell_complete=complete_task)
@json_option
@state_dir_option
def show(id: str, as_json: bool) -> None:
    """Show a task and its story."""
    with connect() as client:
        document = client.call("task_show", id=id)["task"]
    if as_json:
        emit(document)
        return
    facts(
        (
            ("id", document["id"]),
            ("command", " ".join(document["argv"]) or document["name"]),
            ("state", _state(document)),
            *((("progress", _progress(report)),) if (report := document.get("progress")) else ()),
            ("owner", ref(document["owner"])),
            ("node", ref(document["node"])),
            ("attempt", str(document["attempt"])),
            ("submitted", when(document["submitted"])),
            ("started", when(document["started"])),
            ("finished", when(document["finished"])),
            ("error", document["error"] or "-"),
            *_limits(document),
        )
    )
    print()
    table(
        ("N", "AT", "STATE", "NODE", "REASON"),
        (
            (str(move["n"]), when(move["at"]), move["state"], ref(move["node"]), move["reason"])
            for move in document["story"]
        ),
    )


def _progress(report: Doc) -> str:
    done = f"{report['done']:g} of {report['total']:g}" if report["total"] else f"{report['done']:g}"
    share = f" ({100 * report['done'] / report['total']:.0f} %)" if report["total"] else ""
    return f"{done}{share} {report['note']}".rstrip()


def _limits(document: Doc) -> list[tuple[str, str]]:
    """Who kept it within what it had asked for, if it had asked."""
    limits = (document["result"] or {}).get("limits") or {}
    return [(f"{what} limit", _ENFORCED.get(by, by)) for what, by in limits.items() if by]


_ENFORCED = {
    "cgroup": "enforced for all of it together (cgroup)",
    "process": "enforced for each of its processes (rlimit)",
    "affinity": "enforced by the processors it was bound to (affinity)",
    "none": "not enforced: that system cannot",
}


def _state(document: Doc) -> str:
    code = document["exit_code"]
    return document["state"] if code is None else f"{document['state']} (exit {code})"


@task.command()
@click.argument("ids", nargs=-1, required=True, shell_complete=complete_task)
@json_option
@state_dir_option
def wait(ids: tuple[str, ...], as_json: bool) -> None:
    """Wait until the tasks have ended. The exit code of one is passed on; of several, 0 if all succeeded."""
    done: list[Doc] = []
    with connect() as client:
        for start in range(0, len(ids), WAIT_IDS_MAX):
            for frame in client.stream("wait", ids=list(ids[start : start + WAIT_IDS_MAX])):
                if "task" in frame:
                    done.append(without_output(frame["task"]))
                    if not as_json:
                        print(f"{done[-1]['id']} {_state(done[-1])} on {ref(done[-1]['node'])}", flush=True)
    if as_json:
        emit(done[0] if len(ids) == 1 else {"tasks": done})
    if len(ids) == 1:
        leave(end(done[0]))
    leave(0 if all(one["state"] == "succeeded" for one in done) else 1)


@task.command()
@click.argument("id", shell_complete=complete_task)
@click.option("-f", "--follow", is_flag=True, help="Go on until the task has ended.")
@click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="Begin at this byte.")
@click.option("--stderr", is_flag=True, help="Its standard error instead.")
@json_option
@state_dir_option
def logs(id: str, follow: bool, offset: int, stderr: bool, as_json: bool) -> None:
    """Print a task's output, from any machine. Ctrl-C never cancels the task."""
    with connect() as client:
        request = client.stream(
            "task_logs", id=id, follow=follow, offset=offset, stream=STDERR if stderr else STDOUT
        )
        for frame in request:
            if frame.get("event") != "out":
                continue
            if as_json:
                emit({"offset": frame["offset"], "data": frame["data"]})
            else:
                write_all(STDOUT, frame["data"])


@task.command()
@click.argument("id", shell_complete=complete_task)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@json_option
@state_dir_option
def fetch(id: str, folder: Path, as_json: bool) -> None:
    """Write the outputs of a task that has ended into DIR (here), from any machine."""

    def place(name: str) -> Path:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    with connect() as client:
        written = bring_back(client, id, place, quiet=as_json)
    if as_json:
        emit({"written": [str(target) for target in written]})
    elif not written:
        note("the task has no outputs; name them when you start it: openclaw run --output FILE …")
    for target in () if as_json else written:
        print(target)


@task.command()
@click.argument("ids", nargs=-1, required=True, shell_complete=complete_task)
@json_option
@state_dir_option
def cancel(ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel tasks. A task is 'cancelling' until its machine has confirmed that nothing of it runs."""
    with Client(state_dir()) as client:
        cancelled = client.call("cancel", ids=list(ids))["cancelled"]
    if as_json:
        emit({"cancelled": cancelled})
    else:
        note(f"cancelling {', '.join(cancelled)}" if cancelled else "nothing to cancel: they have all ended")


@task.command()
@click.argument("id", shell_complete=complete_task)
@json_option
@state_dir_option
def retry(id: str, as_json: bool) -> None:
    """Submit a task that has ended once more, as a new one, and print its id."""
    with connect() as client:
        again = client.call("retry", answer_s=None, id=id)["id"]
    if as_json:
        emit({"id": again})
    else:
        print(again)
