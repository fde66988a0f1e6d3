"""Messages to bytes and back, bounded at both ends.

A packet is one version byte and one msgpack array. Whatever a peer sends, `decode` answers with a message or
raises `Junk` with the reason it is counted under: it never raises anything else and never runs a peer's code.
A message of tomorrow with more fields decodes today; an unknown one is junk of its own kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

import msgspec

from openclaw.config import MESSAGE_BYTES_MAX, PROTOCOL_VERSION
from openclaw.errors import Junk
from openclaw.messages import AnyMessage


class Reason(StrEnum):
    """Why something that a peer sent was dropped."""

    OVERSIZE = "oversize"
    GARBLED = "garbled"
    UNKNOWN = "unknown"
    INCOMPATIBLE = "incompatible"
    NOT_A_MEMBER = "not_a_member"
    FRAMING = "framing"
    THROTTLED = "throttled"
    UNASKED = "unasked"


class Rejected(Junk):
    """Bytes that are no message of ours, and the reason to count them under."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Incompatible(Rejected):
    """The peer speaks another version of the protocol: it is shown as `incompatible`, not as broken."""

    def __init__(self, version: int) -> None:
        super().__init__(Reason.INCOMPATIBLE, f"protocol version {version}, not {PROTOCOL_VERSION}")
        self.version = version


class Counters:
    """How much junk was dropped, by reason; one per node, shared by everything that receives."""

    def __init__(self) -> None:
        self._dropped: Counter[Reason] = Counter()

    def count(self, reason: Reason) -> None:
        self._dropped[reason] += 1

    def __getitem__(self, reason: Reason) -> int:
        return self._dropped[reason]

    def snapshot(self) -> Mapping[str, int]:
        return {reason.value: n for reason, n in sorted(self._dropped.items())}


class _Tagged(msgspec.Struct, array_like=True):
    """The head of any message, to tell an unknown one from a garbled one."""

    tag: str


_VERSION: Final = bytes([PROTOCOL_VERSION])
_TAGS: Final = frozenset(kind.__struct_config__.tag for kind in AnyMessage.__args__)
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)
_tag_decoder = msgspec.msgpack.Decoder(_Tagged)
_BROKEN: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def encode(message: AnyMessage) -> bytes:
    """The packet of `message`. One that outgrows MESSAGE_BYTES_MAX is our own bug: whoever made it splits."""
    data = _VERSION + _encoder.encode(message)
    if len(data) > MESSAGE_BYTES_MAX:
        raise ValueError(f"a {type(message).__name__} of {len(data)} bytes: the limit is {MESSAGE_BYTES_MAX}")
    return data


def decode(data: bytes) -> AnyMessage:
    """The message in a peer's packet; raises `Rejected` for anything else."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise Rejected(Reason.OVERSIZE, f"{len(data)} bytes")
    if not data:
        raise Rejected(Reason.GARBLED, "empty")
    if data[0] != PROTOCOL_VERSION:
        raise Incompatible(data[0])
    body = memoryview(data)[1:]
    try:
        return _decoder.decode(body)
    except _BROKEN as broken:
        raise Rejected(_why(body), str(broken)) from None


def _why(body: memoryview) -> Reason:
    try:
        tag = _tag_decoder.decode(body).tag
    except _BROKEN:
        return Reason.GARBLED
    return Reason.GARBLED if tag in _TAGS else Reason.UNKNOWN
