"""Decoders that are not tested with arbitrary bytes where they live: control and executor frames, and store rows.

The others are: messages in `test_wire.py`, bulk frames in `transport/test_bulk.py`, TXT records in
`discovery/test_mdns.py`, tokens, intro frames and papers in `trust/`, `SKILL.md` in `skills/`.
"""

from __future__ import annotations

import struct
from typing import Any

import lmdb
import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.errors import MeshError
from openclaw.executor.frames import Feed, Oversized
from openclaw.executor.link import DECODER
from openclaw.records import Attempt, EpochRow, Number, Progress, Record, Submission
from openclaw.runtime.submit import TaskRequest, parse_requests
from openclaw.store_rows import decode

ROWS: tuple[type[Record], ...] = (Submission, Progress, Attempt, Number, EpochRow)
LIMIT = 1000
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)


@given(st.binary(max_size=4000), st.lists(st.integers(1, 500), max_size=20))
def test_any_stream_is_frames_within_the_limit_or_refused(data: bytes, cuts: list[int]) -> None:
    """And however it is cut, the frames are the same, and what waits for the rest is bounded."""
    feed, whole = Feed(LIMIT), Feed(LIMIT)
    try:
        expected = whole.feed(data)
    except Oversized:
        expected = None
    found: list[bytes] = []
    try:
        for size in [*cuts, len(data)]:
            found += feed.feed(data[:size])
            data = data[size:]
            assert len(feed._buffer) < LIMIT + 4 + 500
    except Oversized:
        assert expected is None
        return
    assert found == expected
    assert all(len(frame) <= LIMIT for frame in found)


@given(st.binary(max_size=300) | VALUES.map(msgpack.packb) | st.tuples(
    st.sampled_from(["held", "started", "exited"]), VALUES, VALUES
).map(msgpack.packb))  # fmt: skip
def test_any_body_of_an_executor_is_a_frame_or_refused(body: bytes) -> None:
    try:
        DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass


@given(st.sampled_from(ROWS), st.binary(max_size=300) | VALUES.map(msgpack.packb))
def test_any_row_is_a_record_or_damage(kind: type[Record], data: bytes) -> None:
    try:
        assert isinstance(decode(data, kind), kind)
    except lmdb.CorruptedError:
        pass


@given(
    VALUES
    | st.lists(
        st.fixed_dictionaries({"argv": st.lists(st.text())}, optional={"env": VALUES, "needs": VALUES})
    )
)
def test_any_tasks_are_requests_or_wrong_usage(rows: object) -> None:
    try:
        parsed = parse_requests(rows)
    except MeshError as error:
        code = error.exit_code
    else:
        assert all(isinstance(each, TaskRequest) for each in parsed)
        return
    assert code == 2


def test_a_frame_longer_than_allowed_is_refused_before_it_is_here() -> None:
    with pytest.raises(Oversized):
        Feed(LIMIT).feed(struct.pack(">I", LIMIT + 1))
