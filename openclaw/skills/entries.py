"""What can be run of a skill: its entrypoints, how parameters become arguments, which of them are files. Pure.

A parameter is a whole argument or none: it is never pasted into a text, and no shell sees it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from openclaw.config import SKILL_ENTRIES_MAX
from openclaw.skills.json5 import Json
from openclaw.skills.schema import Schema, complaints, faults, shown

KEYS = frozenset({"description", "argv", "params", "inputs", "outputs", "timeout", "needs", "requires"})
REQUIRES = frozenset({"bins", "python"})
NEEDS = frozenset({"labels", "cpus", "memory", "gpus"})
BASE_DIR, PYTHON, PARAMS, ARGS = "baseDir", "python", "params", "args"
RESERVED = frozenset({BASE_DIR, PYTHON, PARAMS, ARGS})
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_WHOLE = re.compile(r"\{(\??)([A-Za-z_][\w-]*)\}")
_INSIDE = re.compile(r"\{\??([A-Za-z_][\w-]*)\}")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)")
_SIZES_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|d)?")
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
SPAN_S_MAX = 1e9

Part = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """`inputs` names parameters that are files; `outputs` parameters, or files with a fixed name."""

    name: str
    argv: tuple[Part, ...]
    params: Schema = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    timeout_s: float = 0.0
    labels: tuple[tuple[str, str], ...] = ()
    room: tuple[tuple[str, int], ...] = ()  # cpus, memory_bytes and gpus, where it asks for them
    description: str = ""
    bins: tuple[str, ...] = ()
    python: tuple[str, ...] = ()
    raw: dict[str, Json] = field(default_factory=dict)  # as its author wrote it: what travels

    def properties(self) -> dict[str, Schema]:
        return properties_of(self.params)

    def takes_args(self) -> bool:
        return f"{{{ARGS}}}" in self.argv

    def files(self, names: Sequence[str], values: Mapping[str, Json]) -> list[str]:
        """The file names that `names` (of `inputs` or `outputs`) come to with these parameters."""
        found: list[str] = []
        for name in names:
            value = values.get(name) if name in self.properties() else name
            found += [
                each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str)
            ]
        return found


def properties_of(params: Schema) -> dict[str, Schema]:
    known = params.get("properties")
    return (
        {key: part for key, part in known.items() if isinstance(part, dict)}
        if isinstance(known, dict)
        else {}
    )


def read_entries(block: dict[str, Json]) -> tuple[tuple[Entry, ...], list[str]]:
    """The entrypoints that can be used, and what is wrong with the others."""
    entries: list[Entry] = []
    wrong: list[str] = []
    for name, raw in block.items():
        entry, problems = read_entry(name, raw)
        wrong += [f"entrypoint {name}: {problem}" for problem in problems]
        if entry is not None and len(entries) < SKILL_ENTRIES_MAX:
            entries.append(entry)
    if len(block) > SKILL_ENTRIES_MAX:
        wrong.append(f"over {SKILL_ENTRIES_MAX} entrypoints; the others are passed over")
    return tuple(entries), wrong


def read_entry(name: str, raw: Json) -> tuple[Entry | None, list[str]]:
    """The entrypoint, or None and why it cannot be used."""
    if not NAME.fullmatch(name):
        return None, ["no name that can be written after NAME:"]
    if not isinstance(raw, dict):
        return None, ["it is no mapping"]
    argv, params = _argv(raw.get("argv")), raw.get("params", {})
    timeout_s, needs = _span_s(raw.get("timeout", 0)), raw.get("needs", {})
    labels, room = _labels(needs), _room(needs)
    inputs, outputs = _texts(raw.get("inputs", [])), _texts(raw.get("outputs", []))
    wrong = [f"{key!r} is not understood" for key in sorted(raw.keys() - KEYS)]
    wrong += [] if argv else ["argv has to be a list of texts, or of lists of texts that go together"]
    wrong += [] if timeout_s is not None else [f"timeout {shown(raw.get('timeout'))} is no time, like 10m"]
    if labels is None or room is None:
        wrong.append("needs takes {labels: {KEY: VALUE}, cpus: 2, memory: 4G, gpus: 1}, any of them")
    wrong += [] if inputs is not None and outputs is not None else ["inputs and outputs are lists of names"]
    requires = raw.get("requires", {})
    bins, python = (
        _texts(requires.get(key, [])) if isinstance(requires, dict) else None for key in ("bins", "python")
    )
    if bins is None or python is None or not isinstance(requires, dict) or not requires.keys() <= REQUIRES:
        return None, [*wrong, "requires takes {bins: [PROGRAM], python: [MODULE]}, either or both"]
    wrong += faults(params)
    if wrong or not isinstance(params, dict) or timeout_s is None or labels is None:
        return None, wrong
    if inputs is None or outputs is None or room is None:
        return None, wrong
    params = {"additionalProperties": False, **params, "type": "object"}
    description = raw.get("description")
    about = description if isinstance(description, str) else ""
    entry = Entry(name, argv, params, inputs, outputs, timeout_s, labels, room, about, bins, python, raw)
    wrong = [*_wrong_argv(entry), *_wrong_files(entry)]
    return (None, wrong) if wrong else (entry, [])


def _argv(raw: Json) -> tuple[Part, ...]:
    if not isinstance(raw, list):
        return ()
    parts: list[Part] = []
    for part in raw:
        group = [part] if isinstance(part, str) else part
        if not isinstance(group, list) or not group or not all(isinstance(each, str) for each in group):
            return ()
        parts.append(part if isinstance(part, str) else tuple(str(each) for each in group))
    return tuple(parts)


def _texts(raw: Json) -> tuple[str, ...] | None:
    if isinstance(raw, list) and all(isinstance(each, str) and each for each in raw):
        return tuple(str(each) for each in raw)
    return None


def _span_s(raw: Json) -> float | None:
    found = _SPAN.fullmatch(str(raw)) if isinstance(raw, str | int | float) else None
    span_s = float(found[1]) * _UNITS_S[found[2] or ""] if found else SPAN_S_MAX
    return span_s if span_s < SPAN_S_MAX else None


def _labels(raw: Json) -> tuple[tuple[str, str], ...] | None:
    labels = raw.get("labels", {}) if isinstance(raw, dict) and raw.keys() <= NEEDS else None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        return None
    return tuple((key, str(value)) for key, value in sorted(labels.items()))


def _room(raw: Json) -> tuple[tuple[str, int], ...] | None:
    needs = raw if isinstance(raw, dict) else {}
    found: list[tuple[str, int]] = []
    for key in ("cpus", "gpus"):
        count = needs.get(key, 0)
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            return None
        found += [(key, count)] if count else []
    size = _SIZE.fullmatch(str(needs.get("memory", 0)))
    if size is None:
        return None
    memory_bytes = int(float(size[1]) * _SIZES_BYTES[size[2]])
    return (*found, *([("memory_bytes", memory_bytes)] if memory_bytes else []))


def _wrong_argv(entry: Entry) -> list[str]:
    known, wrong = (
        entry.properties(),
        [f"a parameter may not be called {n!r}" for n in RESERVED & entry.properties().keys()],
    )
    for part in entry.argv:
        for text in (part,) if isinstance(part, str) else part:
            rest = text.removeprefix(f"{{{BASE_DIR}}}")
            whole = _WHOLE.fullmatch(text)
            if whole and whole[2] not in known and whole[2] not in RESERVED:
                wrong.append(f"argv has {text}, and there is no parameter {whole[2]!r}")
            elif not whole:
                inside = [name for name in _INSIDE.findall(rest) if name in known or name in RESERVED]
                wrong += [
                    f"argv has {text!r}: {{{name}}} has to be an argument of its own" for name in inside
                ]
            if rest != text and ".." in rest.split("/"):
                wrong.append(f"argv has {text!r}, which leaves the skill's folder")
    return wrong


def _wrong_files(entry: Entry) -> list[str]:
    known = entry.properties()
    wrong = [
        f"inputs has {name!r}, and there is no such parameter" for name in entry.inputs if name not in known
    ]
    fixed = [name for name in entry.outputs if name not in known]
    return wrong + [
        f"outputs has {name!r}, which leaves the scratch folder" for name in fixed if not inside(name)
    ]


def inside(name: str) -> bool:
    """Whether a file's name stays in the folder that it is meant for, and is not taken for an option."""
    parts = name.split("/")
    return not ({"", ".", ".."} & set(parts) or name.startswith("-") or "\0" in name)


# --- a call --------------------------------------------------------------------------------------


def fill(entry: Entry, given: Mapping[str, Json]) -> tuple[dict[str, Json], list[str]]:
    """All parameters, with the defaults; and why they do not fit."""
    values = filled(entry, given)
    return values, complaints(values, entry.params, "")


def filled(entry: Entry, given: Mapping[str, Json]) -> dict[str, Json]:
    """All parameters, with the defaults."""
    known = entry.properties()
    return {**{key: part["default"] for key, part in known.items() if "default" in part}, **given}


def arguments(
    entry: Entry, values: Mapping[str, Json], places: Mapping[str, str], args: Sequence[str] = ()
) -> list[str]:
    """The command line. `places` has the skill's folder under `baseDir` and the interpreter under `python`."""
    special = {
        PARAMS: [shown_whole(dict(values))],
        ARGS: list(args),
        PYTHON: [places[PYTHON]],
        BASE_DIR: [places[BASE_DIR]],
    }
    argv: list[str] = []
    for part in entry.argv:
        group = (part,) if isinstance(part, str) else part
        filled = [_filled(text, values, special, places[BASE_DIR]) for text in group]
        if all(each is not None for each in filled):
            argv += [argument for each in filled for argument in each or ()]
    return argv


def _filled(
    text: str, values: Mapping[str, Json], special: Mapping[str, list[str]], base_dir: str
) -> list[str] | None:
    """The arguments that `text` becomes; None when its parameter was not given, so that its group falls away."""
    whole = _WHOLE.fullmatch(text)
    if whole is None:
        prefix = f"{{{BASE_DIR}}}"
        return [base_dir + text.removeprefix(prefix) if text.startswith(prefix) else text]
    asked, name = whole[1], whole[2]
    if name in special:
        return special[name]
    value = values.get(name)
    if value is None or (asked and value is False):
        return None
    if asked:
        return []
    return [_argument(each) for each in value] if isinstance(value, list) else [_argument(value)]


def _argument(value: Json) -> str:
    return value if isinstance(value, str) else shown_whole(value)


def shown_whole(value: Json) -> str:
    return msgspec.json.encode(value).decode()
