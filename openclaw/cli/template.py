"""What `map` makes of a line: its command or its call of a skill, with {} replaced, and where its outputs go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from openclaw.cli.request import file_fields, task_request
from openclaw.cli.skill_call import Calls, called
from openclaw.client import Client, Doc
from openclaw.errors import MeshError

PLACE = "{}"
Targets = dict[str, Path]
"""By the name of an output in the scratch directory: the file to write here."""


class Template:
    def __init__(self, client: Client, argv: tuple[str, ...], options: dict[str, Any]) -> None:
        skill = called(argv, options)
        if not skill and not argv:
            raise click.UsageError("give a command after --, or a --skill")
        self._argv, self._options = argv, {**options, "inputs": (), "outputs": ()}
        self._calls = Calls(client, skill) if skill else None
        self._before: Targets = {}

    def made(self, number: int, line: str) -> tuple[Doc, Targets]:
        """The task of line `number`, checked. Raises what is wrong with it, by that number."""
        options = dict(self._options)
        argv = [word.replace(PLACE, line) for word in self._argv]
        options["params"] = [(key, value.replace(PLACE, line)) for key, value in options["params"]]
        try:
            call = self._calls.request(argv, options) if self._calls else {}
            targets = {Path(file).name: Path(file) for file in options["outputs"]}
            if same := set(targets.values()) & set(self._before.values()):
                raise MeshError(
                    f"it would write {same.pop()} as the line before it does: put {PLACE} in that name",
                    kind="usage",
                    exit_code=2,
                )
        except MeshError as error:
            raise MeshError(f"line {number}: {error}", kind=error.kind, exit_code=error.exit_code) from None
        self._before = targets
        files = file_fields(options) if self._calls else {}
        return task_request(argv, options) | files | call, targets
