"""What two members say on the bulk port: a pull, its credit, its chunks and how it ended.

Bounded and decoded like the messages of the mesh port; a field is only ever appended, with a default.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import DecodeError, Struct
from msgspec import Meta as Bound
from msgspec.msgpack import Decoder, Encoder

from openclaw.config import BULK_CHUNK_BYTES
from openclaw.records import Count, Name, Record, Text
from openclaw.wire import Reason, Rejected

HEADER_BYTES_MAX = 4096  # all of a frame but its chunk


class Ref(Record, frozen=True):
    """What is pulled, from where on. `follow`: it grows, and ends when its source says so."""

    kind: Name
    name: Text
    offset: Count = 0
    follow: bool = False


class Frame(Struct, frozen=True, array_like=True, tag_field="type", tag=str.lower):
    """Base of every frame. `id` is the puller's number for its pull."""


class Hello(Frame, frozen=True):
    """I dialled because you asked me to: now ask."""


class Pull(Frame, frozen=True):
    id: Count
    ref: Ref
    credit: Count


class Credit(Frame, frozen=True):
    """I have room for so many chunks more; none says only that I still want the rest."""

    id: Count
    chunks: Count


class Chunk(Frame, frozen=True):
    """The bytes at `offset`; empty says only that there will be more."""

    id: Count
    offset: Count
    data: Annotated[bytes, Bound(max_length=BULK_CHUNK_BYTES)]


class End(Frame, frozen=True):
    """That was all, up to `offset`."""

    id: Count
    offset: Count


class Fail(Frame, frozen=True):
    """No more will come. `refused`: asking again at this offset will not help."""

    id: Count
    refused: bool
    reason: Text


class Stop(Frame, frozen=True):
    """I do not want the rest."""

    id: Count


AnyFrame = Hello | Pull | Credit | Chunk | End | Fail | Stop
_encoder: Final = Encoder()
_decoder: Final[Decoder[AnyFrame]] = Decoder(AnyFrame)


def encode(frame: AnyFrame) -> bytes:
    return _encoder.encode(frame)


def decode(data: bytes) -> AnyFrame:
    """The frame in a peer's packet; raises `Rejected` for anything else."""
    try:
        return _decoder.decode(data)
    except (DecodeError, UnicodeDecodeError, RecursionError) as broken:
        raise Rejected(Reason.GARBLED, str(broken)) from None
