"""Plans as TOML files: for people to read and write, one happening a line, whole (what is written reads alike)."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import msgspec

from sims.plan import Plan

ROOT = Path(__file__).parent
SCENARIOS = ROOT / "scenarios"
BUGS = ROOT / "bugs"


def load(path: Path) -> Plan:
    """The plan in a file; raises `msgspec.ValidationError`, which names the field, or `tomllib.TOMLDecodeError`."""
    return loads(path.read_text())


def loads(text: str) -> Plan:
    return msgspec.convert(tomllib.loads(text), Plan)


def dumps(plan: Plan) -> str:
    fields = msgspec.to_builtins(plan)
    return "".join(f"{key} = {_top(value)}\n" for key, value in fields.items())


def _top(value: object) -> str:
    """A list of tables has a line for each, so that a person can strike one out."""
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        return "[\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
    return _value(value)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return msgspec.json.encode(value).decode()  # a JSON string is a TOML basic string
        case float() if not math.isfinite(value):
            return str(value)  # inf and nan, as TOML spells them
        case int() | float():
            return repr(value)
        case list() | tuple():
            return "[" + ", ".join(_value(item) for item in value) + "]"
        case dict():
            pairs = [f"{_key(str(key))} = {_value(item)}" for key, item in value.items() if item is not None]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"
    raise TypeError(f"a plan holds no {type(value).__name__}")


def _key(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else _value(key)
