"""What may be sent comes back as it was; what may not says so by name."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.handlers.values import Unsendable, decode, encode, jsonable, shown

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(), inner, max_size=4),
    max_leaves=12,
)


@given(VALUES)
def test_plain_values_come_back(value: Any) -> None:
    assert decode(encode(value)) == value
    json.dumps(shown(encode(value)))
    json.dumps(jsonable(value))


def test_tuples_come_back_as_lists_and_times_as_they_were() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    assert decode(encode((1, (2, moment)))) == [1, [2, moment]]


@pytest.mark.parametrize("dtype", ["u1", "<i8", ">f4", "c16", "?"])
def test_arrays_come_back_without_a_copy(dtype: str) -> None:
    array = numpy.arange(6).reshape(2, 3).astype(dtype)
    data = encode({"array": array})
    back = decode(data)["array"]
    assert back.dtype == array.dtype
    assert (back == array).all()
    assert not back.flags.writeable  # a view of the bytes that it came in
    assert not back.flags.owndata


def test_arrays_that_are_no_plain_block_come_back_too() -> None:
    for array in (
        numpy.arange(10)[::2],
        numpy.arange(6).reshape(2, 3).T,
        numpy.zeros((0, 3)),
        numpy.array(7),
    ):
        back = decode(encode(array))
        assert back.shape == array.shape
        assert (back == array).all()
    assert decode(encode(numpy.float64(0.5))) == 0.5


@pytest.mark.parametrize("value", [{1}, object(), 1j, print, numpy.array([object()]), [1, {"a": {2}}]])
def test_what_cannot_be_sent_is_named(value: object) -> None:
    with pytest.raises(Unsendable, match=r"set|object|complex|builtin|ndarray"):
        encode(value)


def test_a_list_within_itself_and_broken_text_are_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    for value in (loop, "\ud800"):
        with pytest.raises(Unsendable):
            encode(value)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x92\x01", b"\xc7\x01\x63x", b"\xa1\xff", b"\x01\x01"])
def test_junk_is_no_value(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data)
    assert "no value" in shown(data)


def test_people_see_arrays_by_their_shape_and_bytes_as_text() -> None:
    assert shown(encode(numpy.zeros((2, 3)))) == "<array <f8 [2, 3]>"
    assert shown(encode([b"text", b"\xff", 1 << 70])) == ["text", "ff", str(1 << 70)]
