"""From `--skill NAME[:ENTRY] -p KEY=VALUE … [-- ARGS…]` to a task: checked here, before anything is sent."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from openclaw.client import Client, Doc

if TYPE_CHECKING:
    from openclaw.skills.entries import Entry


def called(argv: Sequence[str], options: dict[str, Any]) -> str:
    """The NAME[:ENTRY] that is to run, or "" where each --skill only says what the command's machine must have."""
    names = options["skills"]
    explicit = [name for name in names if ":" in name]
    if len(explicit) > 1:
        raise click.UsageError(f"a task runs one skill, not both {explicit[0]} and {explicit[1]}")
    script = bool(argv) and "/" in argv[0] and not argv[0].startswith(("/", "./", "../"))
    if explicit or (len(names) == 1 and (options["params"] or not argv or script)):
        return str((explicit or names)[0])
    if options["params"]:
        raise click.UsageError("-p is for a skill: --skill NAME[:ENTRY] -p KEY=VALUE")
    return ""


class Calls:
    """Calls of one skill from this command; what the mesh says of the skill is asked for once."""

    def __init__(self, client: Client, skill: str) -> None:
        self._skill = skill
        self._name, _, self._entry_name = skill.partition(":")
        self._found = client.call("skill", name=self._name)

    @cached_property
    def _entry(self) -> Entry:
        from openclaw.skills.calls import pick  # a plain command does without

        return pick(self._name, self._found["entries"], self._entry_name)

    def request(self, argv: Sequence[str], options: dict[str, Any]) -> Doc:
        """What makes a request a call of it; its files are added to the options, as if they had been named there."""
        from openclaw.skills.calls import call, given_texts, wrong

        name, found = self._name, self._found
        options["skills"] = tuple(each for each in options["skills"] if each != self._skill)
        request: Doc = {"kind": "skill", "skill": {"name": name, "tree": found["tree"]}}
        if options["cwd"]:
            raise click.UsageError("a skill runs in its scratch directory; --cwd is for commands")
        if foreign := [key for key, _ in options["env"] if key not in found["variables"]]:
            named = ", ".join(found["variables"]) or "none"
            raise wrong(f"{foreign[0]}: the skill {name!r} names no such variable; it names: {named}")
        if argv and not self._entry_name and not options["params"] and "/" in argv[0]:
            return request | {"title": f"{name}: {' '.join(argv)}"}
        entry = self._entry
        made = call(name, entry, given_texts(entry, options["params"]), argv)
        for key, path in made.inputs:
            if not os.path.isfile(path):
                raise wrong(f"{name}:{entry.name}: {key}: there is no file {path} here")
        options["inputs"] = (*options["inputs"], *(path for _, path in made.inputs))
        options["outputs"] = (*options["outputs"], *made.outputs)
        options["labels"] = (*made.labels, *options["labels"])
        options["need"] = {**dict(made.room), **(options["need"] or {})}
        request["skill"] |= {"entry": entry.name, "params": made.params}
        return request | {"title": made.title}
