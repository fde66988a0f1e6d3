"""JSON Schema for the parameters of an entrypoint: a subset that is whole, so nothing is half checked.

What is understood is checked exactly; a schema with any other keyword is refused when its skill is read. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from openclaw.skills.json5 import DEPTH_MAX, Json

Schema = dict[str, Json]

PATTERNED_CHARS_MAX = 1024  # a pattern may take long over more
HARMLESS_CHARS_MAX = 80
HARMLESS_OPTIONALS_MAX = 4
SHOWN_CHARS_MAX = 60
_TYPES: dict[str, Callable[[Json], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: _number(value) and float(value) == int(value),  # type: ignore[arg-type]
    "number": lambda value: _number(value),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_TELLING = {"title", "description", "default", "examples", "format", "deprecated", "$schema", "$comment"}
_COUNTS = {"minLength", "maxLength", "minItems", "maxItems"}
_NUMBERS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
_SCHEMAS = {"items", "not"}
_CHOICES = {"anyOf", "oneOf", "allOf"}
_OTHERS = {
    "type",
    "enum",
    "const",
    "pattern",
    "uniqueItems",
    "properties",
    "required",
    "additionalProperties",
}
KEYWORDS = _TELLING | _COUNTS | _NUMBERS | _SCHEMAS | _CHOICES | _OTHERS


# --- is it a schema ------------------------------------------------------------------------------


def faults(schema: Json, where: str = "params", depth: int = DEPTH_MAX) -> list[str]:
    """What is wrong with a schema itself; empty when every value can be checked against it."""
    if not isinstance(schema, dict):
        return [f"{where} is no schema"]
    if depth == 0:
        return [f"{where} is nested too deep"]
    found = [f"{where}: the keyword {key!r} is not understood" for key in schema if key not in KEYWORDS]
    for key, value in schema.items():
        if not _well_formed(key, value):
            found.append(f"{where}: {key} cannot be {shown(value)}")
        elif key == "properties" and isinstance(value, dict):
            found += [each for name in value for each in faults(value[name], f"{where}.{name}", depth - 1)]
        elif key in _SCHEMAS or (key == "additionalProperties" and not isinstance(value, bool)):
            found += faults(value, f"{where}.{key}", depth - 1)
        elif key in _CHOICES and isinstance(value, list):
            found += [
                each for n, part in enumerate(value) for each in faults(part, f"{where}.{key}.{n}", depth - 1)
            ]
    return found


def _well_formed(key: str, value: Json) -> bool:
    match key:
        case "type":
            names = value if isinstance(value, list) else [value]
            return bool(names) and all(isinstance(name, str) and name in _TYPES for name in names)
        case "enum":
            return isinstance(value, list) and bool(value)
        case "required":
            return isinstance(value, list) and all(isinstance(name, str) for name in value)
        case "pattern":
            return isinstance(value, str) and _compiles(value)
        case "uniqueItems":
            return isinstance(value, bool)
        case "properties":
            return isinstance(value, dict)
        case "multipleOf":
            return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    if key in _COUNTS:
        return isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if key in _NUMBERS:
        return _number(value)
    return isinstance(value, list) and bool(value) if key in _CHOICES else True


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


_ATOMS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)  # what stands for one character: \d, [^a-z]


def may_take_long(schema: Json) -> bool:
    """Whether holding a value against it can take for ever, for some pattern in it and some text."""
    if isinstance(schema, list):
        return any(map(may_take_long, schema))
    if not isinstance(schema, dict):
        return False
    pattern = schema.get("pattern")
    return (isinstance(pattern, str) and not harmless(pattern)) or any(map(may_take_long, schema.values()))


def harmless(pattern: str) -> bool:
    """Whether it plainly is quick over any text: no repeat follows a bracket, and at most one is there at all."""
    bare = _ATOMS.sub("a", pattern)
    repeats = re.findall(r"(\)?)[*+{]", bare)
    few = len(repeats) <= 1 and ")" not in repeats and bare.count("?") <= HARMLESS_OPTIONALS_MAX
    return few and len(pattern) <= HARMLESS_CHARS_MAX


# --- does a value fit ----------------------------------------------------------------------------


def complaints(value: Json, schema: Schema, name: str) -> list[str]:
    """Why `value` does not fit, each beginning with the parameter's `name`; empty when it does."""
    kinds = schema.get("type")
    names = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
    if names and not any(_TYPES[kind](value) for kind in names):
        return [f"{name}: {shown(value)} is no {' or '.join(names)}"]
    found = _choices(value, schema, name)
    if isinstance(value, str):
        found += _text(value, schema, name)
    elif isinstance(value, list):
        found += _array(value, schema, name)
    elif isinstance(value, dict):
        found += _object(value, schema, name)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found += _amount(value, schema, name)
    return found


def _choices(value: Json, schema: Schema, name: str) -> list[str]:
    found = []
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(same(value, each) for each in allowed):
        found.append(f"{name}: {shown(value)} is not one of {', '.join(shown(each) for each in allowed)}")
    if "const" in schema and not same(value, schema["const"]):
        found.append(f"{name}: {shown(value)} is not {shown(schema['const'])}")
    wanted = schema.get("not")
    if isinstance(wanted, dict) and not complaints(value, wanted, name):
        found.append(f"{name}: {shown(value)} is just what it may not be")
    for key in ("anyOf", "oneOf", "allOf"):
        parts = schema.get(key)
        if not isinstance(parts, list):
            continue
        each = [complaints(value, part, name) for part in parts if isinstance(part, dict)]
        fitting = sum(not part for part in each)
        if key == "allOf":
            found += [complaint for part in each for complaint in part]
        elif fitting == 0:
            found.append(" or ".join(part[0] for part in each if part))
        elif key == "oneOf" and fitting > 1:
            found.append(f"{name}: {shown(value)} fits {fitting} of the choices, and may fit only one")
    return found


def _text(value: str, schema: Schema, name: str) -> list[str]:
    found = _size(len(value), schema, name, "Length", "characters")
    pattern = schema.get("pattern")
    if isinstance(pattern, str):
        if len(value) > PATTERNED_CHARS_MAX:
            found.append(
                f"{name}: over {PATTERNED_CHARS_MAX} characters, too long to be held against a pattern"
            )
        elif re.search(pattern, value) is None:
            found.append(f"{name}: {shown(value)} does not match {pattern}")
    return found


def _array(value: list[Json], schema: Schema, name: str) -> list[str]:
    found = _size(len(value), schema, name, "Items", "items")
    if schema.get("uniqueItems") is True:
        seen = {msgspec.json.encode(item, order="sorted") for item in value}
        if len(seen) != len(value):
            found.append(f"{name}: an item stands there twice")
    items = schema.get("items")
    if isinstance(items, dict):
        found += [each for n, item in enumerate(value) for each in complaints(item, items, f"{name}[{n}]")]
    return found


def _object(value: dict[str, Json], schema: Schema, name: str) -> list[str]:
    known, more, required = (
        schema.get("properties"),
        schema.get("additionalProperties", True),
        schema.get("required"),
    )
    known = known if isinstance(known, dict) else {}
    prefix = f"{name}." if name else ""
    found = [
        f"{prefix}{key}: it is needed and was not given"
        for key in (required if isinstance(required, list) else [])
        if key not in value
    ]
    for key, item in value.items():
        part = known.get(key, more)
        if isinstance(part, dict):
            found += complaints(item, part, f"{prefix}{key}")
        elif part is False:
            names = f"; there are {', '.join(sorted(known))}" if known else ""
            found.append(f"{prefix}{key}: there is no such parameter{names}")
    return found


def _amount(value: int | float, schema: Schema, name: str) -> list[str]:
    rules: tuple[tuple[str, Callable[[float], bool], str], ...] = (
        ("minimum", lambda limit: value >= limit, "is under the minimum"),
        ("maximum", lambda limit: value <= limit, "is over the maximum"),
        ("exclusiveMinimum", lambda limit: value > limit, "is not above"),
        ("exclusiveMaximum", lambda limit: value < limit, "is not below"),
        ("multipleOf", lambda step: abs(value / step - round(value / step)) < 1e-9, "is no multiple of"),
    )
    return [
        f"{name}: {value} {text} {limit}"
        for key, holds, text in rules
        if isinstance(limit := schema.get(key), int | float) and not holds(limit)
    ]


def _size(size: int, schema: Schema, name: str, what: str, unit: str) -> list[str]:
    low, high = schema.get(f"min{what}"), schema.get(f"max{what}")
    found = []
    if isinstance(low, int) and size < low:
        found.append(f"{name}: {size} {unit}, and {low} are the least")
    if isinstance(high, int) and size > high:
        found.append(f"{name}: {size} {unit}, and {high} are the most")
    return found


def same(one: Json, other: Json) -> bool:
    """Equal as JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


def shown(value: Json) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 1] + "…"


def _number(value: Json) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and value == value
        and abs(value) < 1e300
    )


# --- what people write after -p ------------------------------------------------------------------


def from_texts(texts: list[str], schema: Schema) -> Json:
    """The value that a person means by one or more `KEY=TEXT`; one that fits nothing is left a text."""
    kinds = schema.get("type")
    names = kinds if isinstance(kinds, list) else [kinds]
    items = schema.get("items")
    inner = items if isinstance(items, dict) else {}
    if "array" in names:
        whole = _decoded(texts[0]) if len(texts) == 1 else None
        return whole if isinstance(whole, list) else [from_texts([text], inner) for text in texts]
    text = texts[-1]
    value = _decoded(text)
    for kind in ("integer", "number", "boolean", "null", "object"):
        if kind in names and _TYPES[kind](value):
            return value
    allowed = schema.get("enum")
    if isinstance(allowed, list) and not any(same(text, each) for each in allowed):
        return next((each for each in allowed if same(value, each)), text)
    return text


def _decoded(text: str) -> Json:
    """The JSON that a text is, or itself."""
    try:
        value: Json = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    return value
