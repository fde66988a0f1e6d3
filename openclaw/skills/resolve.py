"""What the worker makes of a call: the command line, from its own copy of the skill and from nothing else.

The submitter names skill, entrypoint and parameters. What runs is what this machine's folder says, with the hash
that the call was checked against; all else is refused in words. A skill gets the variables that it names and no
others: with them a submitter who may only run skills could run anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from openclaw.config import ENV_PREFIX
from openclaw.errors import MeshError
from openclaw.records import Payload, SkillCall
from openclaw.skills.entries import BASE_DIR, PYTHON, Entry, arguments
from openclaw.skills.json5 import Json
from openclaw.skills.judge import judged
from openclaw.skills.registry import Skill

TREE_SHOWN = 12
INTERPRETERS = {".py": sys.executable, ".sh": "/bin/sh"}
DIRECTORY_VARIABLE = ENV_PREFIX + "SKILL_DIR"
NAME_VARIABLE = ENV_PREFIX + "SKILL"


class SkillRefused(MeshError):
    """This node does not run the call; the message says why."""

    kind = "skill_refused"
    exit_code = 125


def resolved(payload: Payload, call: SkillCall, skill: Skill | None, own: Mapping[str, str]) -> Payload:
    """The same task with the command line and environment that it has here. `own` is what the machine gives it.

    Takes its time where the skill's schema has patterns, so no event loop calls it.
    """
    if skill is None:
        raise SkillRefused(f"this node has no skill {call.name!r} any more")
    if skill.tree != call.tree:
        raise SkillRefused(
            f"the skill {call.name!r} of this node is not the one that was called: its folder has the hash "
            f"{skill.tree[:TREE_SHOWN] or 'none'}, not {call.tree[:TREE_SHOWN]}; call it again"
        )
    if skill.missing:
        raise SkillRefused(f"this node lacks for the skill {call.name!r}: {', '.join(skill.missing)}")
    if payload.cwd:
        raise SkillRefused("a skill runs in its scratch directory, and --cwd names another")
    named = skill.described.gate.variables()
    if foreign := [name for name, _ in payload.env if name not in named]:
        raise SkillRefused(
            f"the skill {call.name!r} does not name the variable {foreign[0]}, so nobody may set it; it names: "
            f"{', '.join(named) or 'none'}"
        )
    if lacks := dict(skill.lacking).get(call.entry):
        raise SkillRefused(f"this node lacks for {call.name}:{call.entry}: {', '.join(lacks)}")
    entry = skill.described.entry(call.entry) if call.entry else None
    argv = _script(skill, payload.argv) if not call.entry else _entry(skill, call, entry, payload)
    env = {**own, **dict(payload.env), DIRECTORY_VARIABLE: skill.folder, NAME_VARIABLE: skill.name}
    timeout_s = payload.timeout_s or (entry.timeout_s if entry else 0.0)
    return msgspec.structs.replace(payload, argv=tuple(argv), env=tuple(env.items()), timeout_s=timeout_s)


def _entry(skill: Skill, call: SkillCall, entry: Entry | None, payload: Payload) -> list[str]:
    if entry is None:
        raise SkillRefused(f"the skill {call.name!r} has no entrypoint {call.entry!r}")
    if payload.argv and not entry.takes_args():
        raise SkillRefused(f"{call.name}:{call.entry} takes no arguments")
    try:
        given: dict[str, Json] = msgspec.json.decode(call.params, type=dict[str, object])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SkillRefused(f"{call.name}:{call.entry}: its parameters cannot be read: {error}") from None
    values, complaints = judged(entry, given)
    brought = {file.name for file in payload.inputs}
    complaints += [
        f"{name} was not brought along" for name in entry.files(entry.inputs, values) if name not in brought
    ]
    wanted = entry.files(entry.outputs, values)
    complaints += [f"{name} is no output of the task" for name in wanted if name not in payload.outputs]
    if complaints:
        raise SkillRefused(f"{call.name}:{call.entry}: {'; '.join(complaints)}")
    return arguments(entry, values, {BASE_DIR: skill.folder, PYTHON: sys.executable}, payload.argv)


def _script(skill: Skill, argv: tuple[str, ...]) -> list[str]:
    """A script of the skill by its path in the folder, which it may not leave by dots, by root or by a link."""
    folder = Path(skill.folder).resolve()
    try:
        path = (folder / argv[0]).resolve()
        there = path.is_relative_to(folder) and path.is_file()
    except (OSError, RuntimeError, ValueError):
        there = False
    if not there:
        raise SkillRefused(f"the skill {skill.name!r} has no file {argv[0]!r} in its folder")
    if os.access(path, os.X_OK):
        return [str(path), *argv[1:]]
    interpreter = INTERPRETERS.get(path.suffix)
    if interpreter is None:
        raise SkillRefused(f"{argv[0]} of the skill {skill.name!r} is not executable: chmod +x it there")
    return [interpreter, str(path), *argv[1:]]
