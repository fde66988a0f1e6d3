"""Between the runtimes of two nodes; the core never sees these."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta as Bound

from openclaw.messages.base import Message
from openclaw.records import Count, Name


class RosterSync(Message, frozen=True):
    """Certificates and revocations, exact bytes; `want` asks for the receiver's in return."""

    records: Annotated[tuple[bytes, ...], Bound(max_length=256)]
    want: bool = False


class Query(Message, frozen=True):
    """A question about tasks that this node owns or runs; `body` is msgpack."""

    seq: Count
    op: Name
    body: bytes


class Reply(Message, frozen=True):
    seq: Count
    body: bytes
    last: bool = True


class DialBulk(Message, frozen=True):
    """I cannot reach your bulk port; please dial mine."""

    port: Count
    addresses: Annotated[tuple[Name, ...], Bound(max_length=16)]
