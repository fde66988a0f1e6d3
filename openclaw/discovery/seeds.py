"""Static seeds: HOST:P lines that a person gave, resolved again and again, because names move.

A seed's port is a mesh port; its intro port is the next one. A name that does not resolve holds up no other.
"""

from __future__ import annotations

import asyncio
import socket

from openclaw.config import (
    ADDRESSES_PER_HINT_MAX,
    INTRO_OFFSET,
    PORT,
    SEEDS_EVERY_S_MAX,
    SEEDS_EVERY_S_MIN,
)
from openclaw.discovery.source import Found, OnFound, SourceError
from openclaw.errors import MeshError


def parse_seed(text: str) -> tuple[str, int]:
    """HOST or HOST:P, as given to `--seed`."""
    host, colon, digits = text.strip().rpartition(":")
    if not colon:
        host, digits = digits, str(PORT)
    port = int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= 5 else 0
    if not host or ":" in host or len(host) > 253 or not 0 < port < 65535:
        raise MeshError(
            f"seed {text!r} is not HOST:PORT: give a name or an IPv4 address and the mesh port "
            f"of a node, such as 192.168.1.20:{PORT}"
        )
    return host, port


async def resolve(host: str, port: int) -> tuple[str, ...]:
    """The numeric addresses of `host` as "ip:port"; () when the name cannot be resolved now."""
    loop = asyncio.get_running_loop()
    try:
        rows = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    numeric = dict.fromkeys(f"{row[4][0]}:{port}" for row in rows)
    return tuple(numeric)[:ADDRESSES_PER_HINT_MAX]


class Seeds:
    """Says every seed again, ever less often: whoever was down at first is found when it comes up."""

    name = "seed"

    def __init__(self, seeds: tuple[str, ...], on_found: OnFound) -> None:
        self._seeds = [parse_seed(seed) for seed in seeds]
        self._on_found = on_found
        self._wait_s = SEEDS_EVERY_S_MIN

    async def round(self, addresses: list[str], fresh: bool) -> float:  # noqa: ARG002
        if fresh:
            self._wait_s = SEEDS_EVERY_S_MIN
        answers = await asyncio.gather(*(resolve(host, port) for host, port in self._seeds))
        unresolved = []
        for (host, port), found in zip(self._seeds, answers, strict=True):
            if found:
                self._on_found(Found(found, port + INTRO_OFFSET, self.name, name=host))
            else:
                unresolved.append(host)
        if unresolved:
            raise SourceError(f"cannot resolve {', '.join(unresolved)}; check the name or give an address")
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, SEEDS_EVERY_S_MAX)
        return wait_s

    async def close(self) -> None:
        pass
