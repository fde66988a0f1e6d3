"""A call of a skill, from what its caller means to what a task carries: checked before anything is sent. Pure.

Files are named by the caller's paths; on the worker they are plain names in the task's scratch directory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from openclaw.config import SKILL_PARAMS_BYTES_MAX
from openclaw.errors import MeshError
from openclaw.skills.entries import Entry, fill, inside, read_entries
from openclaw.skills.json5 import Json
from openclaw.skills.schema import from_texts, shown

TITLE_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class Call:
    """`params` as the worker gets them; `inputs` (with their parameter) and `outputs` are the caller's paths."""

    params: dict[str, Json]
    inputs: tuple[tuple[str, str], ...]
    outputs: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    room: tuple[tuple[str, int], ...]
    title: str


def wrong(message: str) -> MeshError:
    return MeshError(message, kind="bad_parameters", exit_code=2)


def pick(skill: str, entries: Mapping[str, Json], name: str) -> Entry:
    """The entrypoint that is meant; without a name the only one there is. Raises MeshError."""
    usable, problems = read_entries(dict(entries))
    known = {entry.name: entry for entry in usable}
    if name in known:
        return known[name]
    if not name and len(known) == 1:
        return usable[0]
    choices = ", ".join(f"{skill}:{each}" for each in known) or "none"
    if problems:
        choices += f" (not usable: {'; '.join(problems)})"
    if not known and not name:
        raise wrong(
            f"the skill {skill!r} has no entrypoint; name a script of it: --skill {skill} -- scripts/NAME …"
        )
    raise wrong(
        f"the skill {skill!r} has no entrypoint {name!r}; there are: {choices}"
        if name
        else f"say which: {choices}"
    )


def given_texts(entry: Entry, pairs: Sequence[tuple[str, str]]) -> dict[str, Json]:
    """What a person wrote as `-p KEY=VALUE`, in the types that the schema asks for."""
    texts: dict[str, list[str]] = {}
    for key, text in pairs:
        texts.setdefault(key, []).append(text)
    known = entry.properties()
    return {key: from_texts(values, known.get(key, {})) for key, values in texts.items()}


def call(skill: str, entry: Entry, given: Mapping[str, Json], args: Sequence[str]) -> Call:
    """Raises MeshError that names the parameter."""
    if args and not entry.takes_args():
        raise wrong(f"{skill}:{entry.name} takes no arguments after --; give its parameters with -p")
    values, complaints = fill(entry, given)
    if complaints:
        raise wrong(f"{skill}:{entry.name}: {'; '.join(complaints)}")
    title = " ".join(
        (f"{skill}:{entry.name}", *(f"{key}={shown(value)}" for key, value in given.items()), *args)
    )
    inputs = [(key, path) for key in entry.inputs for path in entry.files((key,), values)]
    outputs = entry.files(entry.outputs, values)
    for key in (*entry.inputs, *(name for name in entry.outputs if name in entry.properties())):
        if key in values:
            values[key] = _base(key, values[key])
    if len(msgspec.json.encode(values)) > SKILL_PARAMS_BYTES_MAX:
        raise wrong(
            f"{skill}:{entry.name}: the parameters are over {SKILL_PARAMS_BYTES_MAX >> 10} KiB; use a file"
        )
    return Call(values, tuple(inputs), tuple(outputs), entry.labels, entry.room, title[:TITLE_CHARS_MAX])


def _base(key: str, value: Json) -> Json:
    if isinstance(value, list):
        return [_base(key, each) for each in value]
    name = value.rpartition("/")[2] if isinstance(value, str) else ""
    if not inside(name):
        raise wrong(f"{key}: {shown(value)} is no file that could be called by its last part")
    return name
