"""What all messages are made of."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from msgspec import Meta as Bound
from msgspec import Struct

Hash = Annotated[bytes, Bound(max_length=64)]


class Status(IntEnum):
    """A member's state. Within one incarnation the higher one wins a merge."""

    ALIVE = 0
    SUSPECT = 1
    DOWN = 2
    LEFT = 3


class Message(Struct, frozen=True, array_like=True, tag_field="type", tag=str.lower):
    """Base of every message; the tag on the wire is the class's name in lower case."""
