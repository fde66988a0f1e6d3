"""The front matter of a `SKILL.md` as plain values, read as leniently as the programs do that it was written for.

Each top-level key is read by itself: what is broken costs that key and is told with its line. `metadata` is often
JSON5 inside the YAML, so that is tried first where it looks like it. YAML is only composed, never constructed: no
tag makes an object, and what aliases would blow up is cut off by a budget. Booleans and numbers are those of
YAML 1.2, so that `on` and `yes` are texts here as they are there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

import yaml

from openclaw.config import SKILL_VALUES_MAX
from openclaw.skills.json5 import DEPTH_MAX, Json, NotJson, parse_at

FENCE = "---"
_KEY = re.compile(r"""(["']?)([A-Za-z_][\w.-]*)\1[ \t]*:(?:[ \t]+|$)""")
_TRUTH = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Warned(NamedTuple):
    """Something that its author should mend. `line` counts from 1 in the file."""

    line: int
    text: str


@dataclass(slots=True)
class Head:
    """Top-level scalars are texts as they were written; everything below them has its type."""

    values: dict[str, Json] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    broken: dict[str, Warned] = field(default_factory=dict)
    warnings: list[Warned] = field(default_factory=list)


def read_head(text: str) -> Head | None:
    """None where there is no front matter: the file does not begin with `---`, or that is never closed."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != FENCE:
        return None
    end = next((n for n, line in enumerate(lines) if n and line.rstrip() == FENCE), None)
    if end is None:
        return None
    head = Head()
    for start, stop in _sections(lines, end):
        _read_section(head, lines[start:stop], start + 1)
    return head


def _sections(lines: list[str], end: int) -> list[tuple[int, int]]:
    """Where each top-level key and what belongs to it begins and ends."""
    starts = [n for n in range(1, end) if _KEY.match(lines[n])]
    return list(zip(starts, [*starts[1:], end], strict=True))


def _read_section(head: Head, lines: list[str], line: int) -> None:
    found = _KEY.match(lines[0])
    assert found is not None
    key = found.group(2)
    if key in head.lines:
        head.warnings.append(Warned(line, f"{key!r} stands here a second time; the first counts"))
        return
    head.lines[key] = line
    text = "\n".join(lines)
    value = _inline_json(text, found.end())
    if value is None:
        try:
            value = _yaml_value(text)
        except _Broken as broken:
            problem = Warned(line + broken.line, broken.text)
            if len([each for each in lines if each.strip()]) > 1 or key == "metadata":
                head.broken[key] = problem
                head.warnings.append(problem)
                return
            value = lines[0][found.end() :].strip()
            head.warnings.append(problem._replace(text=f"{problem.text}; taken as plain text, better quoted"))
    if value is not None:
        head.values[key] = value


def _inline_json(text: str, start: int) -> Json:
    """The JSON5 object or list that the key's value is, if it is one."""
    rest = text[start:].lstrip()
    if not rest.startswith(("{", "[")):
        return None
    try:
        value, end = parse_at(text, start)
    except NotJson:
        return None
    remaining = [line.strip() for line in text[end:].split("\n")]
    return value if all(not line or line.startswith("#") for line in remaining) else None


class _Broken(Exception):
    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line, self.text = line, text


def _yaml_value(text: str) -> Json:
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise _Broken(mark.line if mark else 0, f"not YAML: {error.problem or error}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _Broken(
            0, f"not YAML: {str(error).splitlines()[0] if str(error) else 'nested too deep'}"
        ) from None
    if not isinstance(node, yaml.MappingNode) or len(node.value) != 1:
        raise _Broken(0, "not YAML: more or less than one key")
    value = node.value[0][1]
    if isinstance(value, yaml.ScalarNode):
        return str(value.value).strip() if value.style or value.value not in _NULL else None
    return _plain(value, [SKILL_VALUES_MAX], DEPTH_MAX)


def _plain(node: yaml.Node, budget: list[int], depth: int) -> Json:
    budget[0] -= 1
    if budget[0] < 0 or depth == 0:
        raise _Broken(node.start_mark.line, "more values, or deeper ones, than a skill may have")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(each, budget, depth - 1) for each in node.value]
    if isinstance(node, yaml.MappingNode):
        result: dict[str, Json] = {}
        for key, value in node.value:
            result[str(key.value)] = _plain(value, budget, depth - 1)
        return result
    assert isinstance(node, yaml.ScalarNode)
    return str(node.value) if node.style else _scalar(str(node.value))


def _scalar(text: str) -> Json:
    if text in _NULL:
        return None
    if text in _TRUTH:
        return _TRUTH[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
