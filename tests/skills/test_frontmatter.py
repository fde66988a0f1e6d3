"""YAML and JSON5 as authors write them: what is read, what is told, and that nothing blows up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.skills.frontmatter import Warned, read_head
from openclaw.skills.json5 import Json, NotJson, parse, parse_at


def head_of(*lines: str) -> dict[str, Json]:
    head = read_head("\n".join(("---", *lines, "---")))
    assert head is not None
    return head.values


def test_top_level_scalars_are_texts_and_the_rest_has_types() -> None:
    lines = (
        "version: 1.10",
        "on: true",
        "m:",
        "  a: 1",
        "  b: 1.5",
        "  c: on",
        "  d: true",
        "  e: ~",
        '  f: "1"',
    )
    inner: Json = {"a": 1, "b": 1.5, "c": "on", "d": True, "e": None, "f": "1"}
    assert head_of(*lines) == {"version": "1.10", "on": "true", "m": inner}


def test_what_is_broken_costs_its_key_and_says_its_line() -> None:
    head = read_head("---\nname: a\nmetadata:\n  b: [1\nversion: 2\n---\n")
    assert head is not None
    assert head.values == {"name": "a", "version": "2"}
    assert head.broken.keys() == {"metadata"}
    assert head.warnings[0].line in (3, 4, 5)


def test_a_plain_text_that_is_no_yaml_is_taken_as_it_stands() -> None:
    head = read_head("---\nname: a\ndescription: Use: when\n---\n")
    assert head is not None
    assert head.values["description"] == "Use: when"
    (warning,) = head.warnings
    assert (warning.line, "better quoted" in warning.text) == (3, True)
    assert isinstance(warning, Warned)


def test_aliases_that_blow_up_are_cut_off() -> None:
    lines = ["m:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for n in range(1, 9):
        lines.append(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]")
    head = read_head("\n".join(("---", *lines, "---")))
    assert head is not None
    assert "more values" in head.broken["m"].text


def test_no_nesting_is_too_deep() -> None:
    for deep in ("[" * 5000, "{a: " * 5000, "- " * 3000):
        head = read_head(f"---\nname: x\nm: {deep}\n---\n")
        assert head is not None
        assert head.values["name"] == "x"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{}", {}),
        ("[1, -2.5, .5, 5., +1, 1e3, 0xFF,]", [1, -2.5, 0.5, 5.0, 1, 1000.0, 255]),
        ("{a: 'b', \"c\": null, $d_1: true, // x\n e: false /* y */}", {"a": "b", "c": None, "$d_1": True, "e": False}),
        (r"'it\'s \u00e9 \x41 \n \/ a\
b'", "it's é A \n / ab"),
        ("{a: {b: [{}]}}", {"a": {"b": [{}]}}),
    ],
)  # fmt: skip
def test_json5(text: str, value: Json) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1",
        "{a}",
        "{a:}",
        "'a",
        "'a\nb'",
        "1 2",
        "{a:1 b:2}",
        "Infinity",
        "x",
        "'\\u12'",
        "9" * 5000,
    ],
)
def test_what_is_no_json5_says_where(text: str) -> None:
    with pytest.raises(NotJson) as error:
        parse(text)
    assert 0 <= error.value.offset <= len(text)


def test_a_value_may_stand_in_a_text() -> None:
    assert parse_at("a: {b: 1} rest", 2) == ({"b": 1}, 9)


@given(st.text(max_size=60))
def test_json5_raises_nothing_else(text: str) -> None:
    try:
        parse(text)
    except NotJson:
        pass
