"""Whatever bytes come, `decode` answers with a message or with `Junk`; what we encode comes back the same."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from openclaw.config import MESSAGE_BYTES_MAX, PROTOCOL_VERSION
from openclaw.errors import Junk
from openclaw.ids import Incarnation, NodeId
from openclaw.messages import AnyMessage, Head, Message, Nack, Ping, Probe, Query, Rumour, Status
from openclaw.wire import Counters, Incompatible, Reason, Rejected, decode, encode

KINDS = AnyMessage.__args__
VERSION = bytes([PROTOCOL_VERSION])


def made_of(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, within the bounds that it declares."""
    match kind:
        case inspect.IntType(ge=low, lt=high):
            return st.integers(low if low is not None else -(1 << 40), (high or 1 << 40) - 1)
        case inspect.FloatType(ge=low):
            return st.floats(low if low is not None else -1e9, 1e9, allow_nan=False)
        case inspect.StrType(max_length=most):
            return st.text(st.characters(exclude_categories=["Cs"]), max_size=min(most or 8, 8))
        case inspect.BytesType(max_length=most):
            return st.binary(max_size=min(most or 8, 8))
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.EnumType(cls=enum):
            return st.sampled_from(list(enum))
        case inspect.Metadata(type=inner):
            return made_of(inner)
        case inspect.UnionType(types=inner):
            return st.one_of([made_of(one) for one in inner])
        case inspect.VarTupleType(item_type=inner):
            return st.lists(made_of(inner), max_size=3).map(tuple)
        case inspect.TupleType(item_types=inner):
            return st.tuples(*[made_of(one) for one in inner])
        case inspect.FrozenSetType(item_type=inner):
            return st.frozensets(made_of(inner), max_size=3)
        case inspect.NamedTupleType(cls=cls, fields=fields) | inspect.StructType(cls=cls, fields=fields):
            return st.builds(cls, **{field.name: made_of(field.type) for field in fields})
    raise NotImplementedError(kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_message_comes_back_as_it_was(kind: type[AnyMessage]) -> None:
    @settings(max_examples=15, deadline=None, database=None)
    @given(made_of(inspect.type_info(kind)))
    def comes_back(message: AnyMessage) -> None:
        back = decode(encode(message))
        assert type(back) is kind
        assert back == message

    comes_back()


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_arbitrary_bytes_are_a_message_or_junk(data: bytes, right_version: bool) -> None:
    try:
        assert isinstance(decode(VERSION * right_version + data), Message)
    except Junk:
        pass


@settings(max_examples=300, deadline=None)
@given(st.integers(0), st.integers(1, 255), st.integers(0))
def test_a_damaged_packet_is_a_message_or_junk(place: int, flip: int, cut: int) -> None:
    rumour = Rumour(NodeId("peer"), Incarnation(3, "boot"), Status.SUSPECT, 7)
    packet = bytearray(encode(Ping(1, Head(Incarnation(1, "me"), view=b"hash", rumours=(rumour, rumour)))))
    packet[place % len(packet)] ^= flip
    for damaged in (packet, packet[: cut % len(packet)]):
        try:
            assert isinstance(decode(bytes(damaged)), Message)
        except Junk:
            pass


def test_tomorrows_message_with_more_fields_decodes_today() -> None:
    packet = VERSION + msgspec.msgpack.encode(["nack", 7, "peer", {"new": True}, [1, 2]])
    assert decode(packet) == Nack(7, "peer")


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"", Reason.GARBLED),
        (VERSION, Reason.GARBLED),
        (VERSION + b"\xc1", Reason.GARBLED),
        (VERSION + msgspec.msgpack.encode(["probe", -1]), Reason.GARBLED),
        (VERSION + msgspec.msgpack.encode(["probe", 1])[:-1], Reason.GARBLED),
        (VERSION + b"\x92\xa5probe\xa1\xff", Reason.GARBLED),
        (VERSION + b"\x91" * 100_000, Reason.GARBLED),
        (VERSION + msgspec.msgpack.encode(["teleport", 1]), Reason.UNKNOWN),
        (bytes([PROTOCOL_VERSION + 1]) + encode(Probe(1))[1:], Reason.INCOMPATIBLE),
        (bytes(MESSAGE_BYTES_MAX + 1), Reason.OVERSIZE),
    ],
)
def test_junk_is_told_apart(packet: bytes, reason: Reason) -> None:
    counters = Counters()
    with pytest.raises(Rejected) as junk:
        decode(packet)
    counters.count(junk.value.reason)
    assert counters.snapshot() == {reason.value: 1}


def test_another_version_is_named() -> None:
    with pytest.raises(Incompatible) as other:
        decode(bytes([PROTOCOL_VERSION + 7]) + b"whatever")
    assert other.value.version == PROTOCOL_VERSION + 7


def test_what_is_too_big_to_receive_is_not_sent() -> None:
    with pytest.raises(ValueError, match="Query"):
        encode(Query(1, "x", bytes(MESSAGE_BYTES_MAX)))
