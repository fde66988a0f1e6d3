"""`openclaw run --all`: once on every node that can do it, each node's output in one piece as it ends."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from openclaw.cli.explain import ask
from openclaw.cli.output import emit, leave, note, write_all
from openclaw.cli.results import STREAMS, output, without_output
from openclaw.client import Client, Doc
from openclaw.config import SUBMIT_BATCH_MAX
from openclaw.errors import MeshError

STDERR = 2


def run_all(client: Client, folder: Path, request: Doc, options: dict[str, Any]) -> None:
    """Leaves with 0 only if all succeeded. Raises `MeshError` when no node can do it."""
    nodes = _able(client, request)
    job = f"all-{os.urandom(4).hex()}"
    requests = [request | {"job": job, "needs": request["needs"] | {"node": node["id"]}} for node in nodes]
    ids: list[str] = []
    for start in range(0, len(requests), SUBMIT_BATCH_MAX):
        batch = requests[start : start + SUBMIT_BATCH_MAX]
        ids += client.call("submit", answer_s=None, tasks=batch, wait=False)["ids"]
    if options["detach"]:
        emit([{"id": one} for one in ids]) if options["as_json"] else print("\n".join(ids))
        leave(0)
    try:
        done = _follow(client, folder, ids, options)
    except (KeyboardInterrupt, BrokenPipeError):
        _cancel(folder, ids)
        raise
    if options["as_json"]:
        emit([without_output(task) for task in done])
    leave(0 if all(task["state"] == "succeeded" for task in done) else 1)


def _able(client: Client, request: Doc) -> list[Doc]:
    document = ask(client, {"task": request})
    nodes: list[Doc] = [row for row in document["nodes"] if row["eligible"]]
    if not nodes:
        reasons = "; ".join(
            f"{row['name']}: {' and '.join(row['reasons'])}" for row in document["nodes"][:20]
        )
        raise MeshError(f"no node of this mesh can run it now. {reasons}", kind="not_eligible", exit_code=125)
    return nodes


def _follow(client: Client, folder: Path, ids: list[str], options: dict[str, Any]) -> list[Doc]:
    done: list[Doc] = []
    with Client(folder) as other:  # outputs are asked for while the first connection waits
        for start in range(0, len(ids), SUBMIT_BATCH_MAX):
            for frame in client.stream("wait", ids=ids[start : start + SUBMIT_BATCH_MAX]):
                if "task" in frame:
                    done.append(frame["task"])
                    _show(other, frame["task"], options)
    return done


def _show(client: Client, task: Doc, options: dict[str, Any]) -> None:
    if not options["quiet"]:
        name = task["node"]["name"] if task["node"] else "nowhere"
        code = "" if task["exit_code"] is None else f" (exit {task['exit_code']})"
        note(f"{name}: {task['state']}{code}{': ' + task['error'] if task['error'] else ''}")
    for name, stream in STREAMS:
        for data in output(client, task, name, stream):
            write_all(STDERR if options["as_json"] else stream, data)


def _cancel(folder: Path, ids: list[str]) -> None:
    note(f"cancelling {len(ids)} tasks")
    with Client(folder) as client:
        for start in range(0, len(ids), SUBMIT_BATCH_MAX):
            client.call("cancel", ids=ids[start : start + SUBMIT_BATCH_MAX])
