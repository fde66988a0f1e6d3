"""`openclaw explain`: why a task is where it is or why it waits, and where a command would run."""

from __future__ import annotations

from typing import Any

import click

from openclaw.cli.common import connect, json_option, state_dir_option
from openclaw.cli.output import emit, table
from openclaw.cli.request import task_options, task_request
from openclaw.client import Client, Doc

_DASHED = "openclaw.dashed"


class Dashed(click.Command):
    """Remembers whether there was a `--`: behind it stands a command, else the id of a task."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_DASHED] = "--" in args
        return super().parse_args(ctx, args)


@click.command(cls=Dashed)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, required=True, metavar="ID | -- ARGV...")
@task_options
@json_option
@state_dir_option
def explain(words: tuple[str, ...], **options: Any) -> None:
    """Say node by node why a task is where it is or why it waits; or, with -- COMMAND, where it would run.

    \b
    openclaw explain 3kq7
    openclaw explain --need gpus=1 -- python train.py
    """
    dashed = click.get_current_context().meta[_DASHED]
    if not dashed and len(words) > 1:
        raise click.UsageError("give one task's id, or a command after --")
    with connect() as client:
        asked: Doc = {"task": task_request(words, options)} if dashed else {"id": words[0]}
        show(ask(client, asked), as_json=options["as_json"])


def ask(client: Client, asked: Doc) -> Doc:
    """The document of `explain` about the task with an `id`, or about what a `task` to be submitted asks for."""
    answer = client.call("explain", **asked)
    return {key: value for key, value in answer.items() if key != "ok"}


def show(document: Doc, *, as_json: bool) -> None:
    if as_json:
        emit(document)
        return
    if document["waiting"]:
        print(f"waits: {document['waiting']}")
    elif "state" in document:
        print(f"{document['state']} on {document['chosen'] or '-'}")
    else:
        print(f"would run on {document['chosen']}")
    print()
    table(("NODE", "CAN", "TASKS", "WHY NOT"), (_row(row) for row in document["nodes"]))


def _row(row: Doc) -> tuple[str, ...]:
    can = "yes" if row["eligible"] else "no"
    return row["name"], can, f"{row['tasks']}/{row['slots']}", "; ".join(row["reasons"])
