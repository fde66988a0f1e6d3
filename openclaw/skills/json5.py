"""JSON5, as skill authors write it into one line of YAML: comments, bare keys, single quotes, trailing commas.

Bounded in depth, since what it reads comes from anyone's folder. Pure.
"""

from __future__ import annotations

import re
from typing import TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

DEPTH_MAX = 64
_BLANK = re.compile(r"(?:[\s\ufeff]|//[^\n\r]*|/\*.*?\*/)*", re.DOTALL)
_NAME = re.compile(r"[^\W\d][\w$]*|\$[\w$]*")
_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|Infinity|NaN)(?![\w$.])"
)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0", "\n": ""}
_WORDS: dict[str, Json] = {"true": True, "false": False, "null": None}


class NotJson(ValueError):
    """What stands at `offset` is not JSON5."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset


def parse(text: str) -> Json:
    """The one value in `text`. Raises `NotJson`."""
    value, end = parse_at(text, 0)
    if (rest := _blank(text, end)) != len(text):
        raise NotJson(f"{text[rest : rest + 10]!r} after the value", rest)
    return value


def parse_at(text: str, start: int) -> tuple[Json, int]:
    """The value that begins at `start`, and where it ends. Raises `NotJson`."""
    return _value(text, _blank(text, start), DEPTH_MAX)


def _blank(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None  # it matches nothing, too
    return found.end()


def _value(text: str, at: int, depth: int) -> tuple[Json, int]:
    first = text[at : at + 1]
    if depth == 0:
        raise NotJson(f"nested deeper than {DEPTH_MAX}", at)
    if first == "{":
        return _object(text, at, depth)
    if first == "[":
        return _array(text, at, depth)
    if first and first in "\"'":
        return _string(text, at)
    if found := _NUMBER.match(text, at):
        return _number(found.group(), at), found.end()
    found = _NAME.match(text, at)
    if found and found.group() in _WORDS:
        return _WORDS[found.group()], found.end()
    raise NotJson(f"{text[at : at + 10]!r} is no value" if first else "it ends too early", at)


def _number(text: str, at: int) -> int | float:
    unsigned = text.lstrip("+-")
    if unsigned in ("Infinity", "NaN"):
        raise NotJson(f"{unsigned} is no number that could be passed on", at)
    try:
        if unsigned[:2] in ("0x", "0X"):
            return int(unsigned, 16) * (-1 if text[0] == "-" else 1)
        return int(text) if unsigned.isdecimal() else float(text)
    except ValueError as error:  # more digits than Python takes
        raise NotJson(str(error), at) from None


def _object(text: str, at: int, depth: int) -> tuple[Json, int]:
    result: dict[str, Json] = {}
    at = _blank(text, at + 1)
    while text[at : at + 1] != "}":
        key, at = _key(text, at)
        at = _blank(text, at)
        if text[at : at + 1] != ":":
            raise NotJson(f"no colon after the key {key!r}", at)
        result[key], at = _value(text, _blank(text, at + 1), depth - 1)
        at = _after_item(text, at, "}")
    return result, at + 1


def _key(text: str, at: int) -> tuple[str, int]:
    if text[at : at + 1] in ('"', "'"):
        return _string(text, at)
    if found := _NAME.match(text, at):
        return found.group(), found.end()
    raise NotJson(f"{text[at : at + 10]!r} is no key" if at < len(text) else "it ends too early", at)


def _array(text: str, at: int, depth: int) -> tuple[Json, int]:
    result: list[Json] = []
    at = _blank(text, at + 1)
    while text[at : at + 1] != "]":
        item, at = _value(text, at, depth - 1)
        result.append(item)
        at = _after_item(text, at, "]")
    return result, at + 1


def _after_item(text: str, at: int, close: str) -> int:
    at = _blank(text, at)
    if text[at : at + 1] == ",":
        return _blank(text, at + 1)
    if text[at : at + 1] != close:
        raise NotJson(f"neither a comma nor {close!r}" if at < len(text) else "it ends too early", at)
    return at


def _string(text: str, at: int) -> tuple[str, int]:
    quote, start = text[at], at
    parts: list[str] = []
    at += 1
    while True:
        char = text[at : at + 1]
        if not char or char == "\n":
            raise NotJson("a text without its closing quote", start)
        if char == quote:
            return "".join(parts), at + 1
        if char != "\\":
            parts.append(char)
            at += 1
            continue
        part, at = _escape(text, at + 1)
        parts.append(part)


def _escape(text: str, at: int) -> tuple[str, int]:
    char = text[at : at + 1]
    digits = {"u": 4, "x": 2}.get(char)
    if digits is None:
        return _ESCAPES.get(char, char), at + 1
    try:
        return chr(int(text[at + 1 : at + 1 + digits], 16)), at + 1 + digits
    except ValueError:
        raise NotJson(f"\\{char} wants {digits} hexadecimal digits", at) from None
