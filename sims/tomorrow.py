"""What a node of the next version says: more fields at the end of every record, and messages nobody knows yet.

All of it goes through the real codec, so what comes out is what a node of today makes of it.
"""

from __future__ import annotations

import msgspec

from openclaw import wire
from openclaw.config import PROTOCOL_VERSION
from openclaw.messages import AnyMessage

MORE = ["a field of tomorrow", {"with": [1, 2.5, None, True]}, b"\x00\xff"]
UNKNOWN = bytes([PROTOCOL_VERSION]) + msgspec.msgpack.encode(["fromtomorrow", 1, MORE])

_encode = msgspec.msgpack.Encoder().encode


def said(message: AnyMessage) -> bytes:
    """The packet that a node of tomorrow sends for this."""
    return bytes([PROTOCOL_VERSION]) + _encode(_grown(message))


def heard(packet: bytes) -> AnyMessage | wire.Reason:
    """What a node of today makes of a packet: a message, or why it dropped it."""
    try:
        return wire.decode(packet)
    except wire.Rejected as rejected:
        return rejected.reason


def _grown(value: object) -> object:
    if isinstance(value, msgspec.Struct):
        config = value.__struct_config__
        tag = [] if config.tag is None else [config.tag]
        fields = [_grown(getattr(value, name)) for name in value.__struct_fields__]
        return [*tag, *fields, *MORE]
    if isinstance(value, frozenset):
        return [_grown(item) for item in sorted(value)]
    if isinstance(value, tuple | list):
        return [_grown(item) for item in value]
    if isinstance(value, dict):
        return {key: _grown(item) for key, item in value.items()}
    return value
