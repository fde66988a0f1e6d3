"""What every source of hints has in common, so that one loop can drive all of them.

A source promises to be cheap, bounded and disposable: it may raise anything from `round`, is closed then, and
starts afresh at its next round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """A hint: somebody may be listening there. Whether it is a member is for the handshake to say.

    `addresses` are "ip:port" of mesh ports, `intro_port` is for the same machines. `mesh_tag`, `node` (a
    short id) and `name` are empty where the source does not know them.
    """

    addresses: tuple[str, ...]
    intro_port: int
    source: str
    mesh_tag: str = ""
    node: str = ""
    name: str = ""


OnFound = Callable[[Found], None]


class SourceError(Exception):
    """Why a source has no hints now, in words for people; it is asked again later."""


class Source(Protocol):
    name: str

    async def round(self, addresses: list[str], fresh: bool) -> float:
        """Look once; return the seconds until the next look.

        `addresses` are this machine's own. `fresh` asks to forget all backoff: the network changed, or the
        machine woke up.
        """

    async def close(self) -> None: ...
