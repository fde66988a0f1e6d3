"""The subset of JSON Schema: what fits, what does not and why, and that nothing is half understood."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.skills.json5 import Json
from openclaw.skills.schema import KEYWORDS, complaints, faults, from_texts, harmless, may_take_long, same

FITS: list[tuple[dict[str, Any], list[Json], list[Json]]] = [
    ({}, [1, "a", None, [], {}], []),
    ({"type": "string"}, ["", "a"], [1, None, True, ["a"]]),
    ({"type": "integer"}, [0, -3, 2.0], [1.5, "1", True, None]),
    ({"type": "number"}, [0, 1.5], ["1", False]),
    ({"type": "boolean"}, [True, False], [0, 1, "true"]),
    ({"type": "null"}, [None], [0, ""]),
    ({"type": ["string", "null"]}, ["a", None], [1]),
    ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True, 0]),
    ({"const": {"a": [1]}}, [{"a": [1]}, {"a": [1.0]}], [{"a": [True]}, {}, {"a": [1], "b": 1}]),
    ({"minimum": 2, "maximum": 4}, [2, 3.5, 4, "x"], [1.99, 5]),
    ({"exclusiveMinimum": 2, "exclusiveMaximum": 4}, [3], [2, 4]),
    ({"multipleOf": 0.1}, [0.3, 1, 0], [0.35]),
    ({"minLength": 2, "maxLength": 3}, ["ab", "äöü", 1], ["a", "abcd"]),
    ({"pattern": "^[a-z]+$"}, ["abc", 1], ["Abc", "", "a" * 2000]),
    ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [[1], [1, 2]], [[], [1, 2, 3], ["a"]]),
    ({"uniqueItems": True}, [[1, 2], [1, "1"]], [[1, 1], [{"a": 1, "b": 2}, {"b": 2, "a": 1}]]),
    ({"properties": {"a": {"type": "string"}}, "required": ["a"]}, [{"a": "x"}, {"a": "x", "b": 1}], [{}, {"a": 1}]),
    ({"properties": {"a": {}}, "additionalProperties": False}, [{}, {"a": 1}], [{"b": 1}]),
    ({"additionalProperties": {"type": "integer"}}, [{"x": 1}], [{"x": "1"}]),
    ({"anyOf": [{"type": "string"}, {"minimum": 5}]}, ["a", 5], [4]),
    ({"oneOf": [{"minimum": 5}, {"type": "integer"}]}, [5.5, 4], [6, 4.5]),
    ({"allOf": [{"minimum": 1}, {"maximum": 3}]}, [2], [0, 4]),
    ({"not": {"const": "x"}}, ["y", 1], ["x"]),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(FITS)))
def test_what_fits_and_what_does_not(case: int) -> None:
    schema, good, bad = FITS[case]
    assert faults(schema) == []
    for value in good:
        assert complaints(value, schema, "p") == []
    for value in bad:
        assert complaints(value, schema, "p"), value


def test_every_rule_is_tried() -> None:
    tried = {key for schema, _, _ in FITS for key in schema}
    told = {"title", "description", "default", "examples", "format", "deprecated", "$schema", "$comment"}
    assert tried | told == KEYWORDS


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (1, "no schema"),
        ({"$ref": "#/x"}, "'$ref' is not understood"),
        ({"properties": {"a": {"if": {}}}}, "params.a: the keyword 'if'"),
        ({"type": "text"}, "type cannot be"),
        ({"type": []}, "type cannot be"),
        ({"enum": []}, "enum cannot be"),
        ({"pattern": "("}, "pattern cannot be"),
        ({"minLength": -1}, "minLength cannot be"),
        ({"minimum": "1"}, "minimum cannot be"),
        ({"multipleOf": 0}, "multipleOf cannot be"),
        ({"required": "a"}, "required cannot be"),
        ({"properties": []}, "properties cannot be"),
        ({"items": [{}]}, "no schema"),
        ({"anyOf": []}, "anyOf cannot be"),
        ({"not": 1}, "no schema"),
        ({"additionalProperties": 1}, "no schema"),
        ({"uniqueItems": "yes"}, "uniqueItems cannot be"),
    ],
)
def test_a_schema_that_cannot_be_checked_is_refused(schema: Json, fault: str) -> None:
    assert any(fault in found for found in faults(schema))


def test_no_schema_is_too_deep() -> None:
    schema: Json = {}
    for _ in range(200):
        schema = {"items": schema}
    assert any("too deep" in found for found in faults(schema))


def test_complaints_name_the_parameter() -> None:
    schema: Any = {
        "properties": {"size": {"properties": {"w": {"maximum": 9}}}, "tags": {"items": {"type": "string"}}}
    }
    value: Json = {"size": {"w": 10}, "tags": ["a", 1]}
    assert complaints(value, schema, "") == ["size.w: 10 is over the maximum 9", "tags[1]: 1 is no string"]


@pytest.mark.parametrize(
    ("texts", "schema", "value"),
    [
        (["5"], {"type": "integer"}, 5),
        (["5.5"], {"type": "number"}, 5.5),
        (["5"], {"type": "string"}, "5"),
        (["5"], {}, "5"),
        (["true"], {"type": "boolean"}, True),
        (["yes"], {"type": "boolean"}, "yes"),
        (["5"], {"type": ["string", "integer"]}, 5),
        (["null"], {"type": ["string", "null"]}, None),
        (['{"a": 1}'], {"type": "object"}, {"a": 1}),
        (["a", "b"], {"type": "array"}, ["a", "b"]),
        (["a"], {"type": "array"}, ["a"]),
        (["1", "2"], {"type": "array", "items": {"type": "integer"}}, [1, 2]),
        (["[1, 2]"], {"type": "array"}, [1, 2]),
        (["a", "b"], {"type": "string"}, "b"),
        (["2"], {"enum": [1, 2]}, 2),
        (["2"], {"enum": ["1", "2"]}, "2"),
        (["x"], {"type": "integer"}, "x"),
        (["\ud800"], {"type": "integer"}, "\ud800"),
    ],
)  # fmt: skip
def test_texts_become_what_the_schema_asks_for(texts: list[str], schema: Any, value: Json) -> None:
    assert same(from_texts(texts, schema), value)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 60), 1 << 60) | st.floats(-1e300, 1e300) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(KEYWORDS)), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@given(json_values, json_values)
def test_no_schema_and_no_value_raises(schema: Json, value: Json) -> None:
    if not faults(schema) and isinstance(schema, dict):
        complaints(value, schema, "p")


@pytest.mark.parametrize(
    ("pattern", "quick"),
    [
        ("^https?://", True),
        ("^[0-9a-fA-F]{64}$", True),
        ("[.](csv|tsv|parquet|json)$", True),
        (r"^\(\+\*[)+*{]$", True),
        ("^(a+)+$", False),
        ("^(a|a)*$", False),
        ("(a|ab){30}c", False),
        ("a*a*a*b", False),
        ("a?a?a?a?a?aaaaa", False),
        ("a*" + "a" * 200 + "b", False),
    ],
)
def test_which_patterns_are_plainly_quick(pattern: str, quick: bool) -> None:
    assert harmless(pattern) is quick
    for schema in ({"pattern": pattern}, {"properties": {"x": {"anyOf": [{"not": {"pattern": pattern}}]}}}):
        assert may_take_long(schema) is not quick
