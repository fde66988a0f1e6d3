"""Where a peer may be reached, and whether somebody answers there right now.

Addresses are numeric, `ip:port` or `[ip6]:port`: a name would be resolved inside libzmq's I/O thread and
stall every connection of the node. A plain TCP dial tells what ZeroMQ does not: whether the machine is there
and says "nobody listens", or says nothing at all.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

from openclaw.config import ADDRESSES_PER_PEER_MAX

TAILNETS = (ipaddress.ip_network("100.64.0.0/10"), ipaddress.ip_network("fd7a:115c:a1e0::/48"))
LAN = "lan"
TAILSCALE = "tailscale"


class Address(NamedTuple):
    ip: str
    port: int

    @property
    def kind(self) -> str:
        return kind_of(self.ip)

    @property
    def endpoint(self) -> str:
        return f"tcp://{self}"

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if ":" in self.ip else f"{self.ip}:{self.port}"


class Answer(Enum):
    """What a dial met with."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"


def parse(text: str) -> Address:
    """The address that `text` names; ValueError when it is not a numeric one."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} is not an address of the form IP:PORT")
    return Address(str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))), int(port))


def usable(texts: Iterable[str]) -> tuple[Address, ...]:
    """Those of a peer's announced addresses that can be dialled, LAN first, else in the peer's order."""
    found: list[Address] = []
    for text in texts:
        try:
            found.append(parse(text))
        except ValueError:
            continue
    return tuple(sorted(dict.fromkeys(found), key=lambda address: address.kind != LAN))[
        :ADDRESSES_PER_PEER_MAX
    ]


def kind_of(ip: str) -> str:
    """Whether `ip` is reached through the tailnet or directly."""
    plain = ipaddress.ip_address(ip)
    return TAILSCALE if any(plain in net for net in TAILNETS if net.version == plain.version) else LAN


async def dial(address: Address, timeout_s: float) -> Answer:
    """Open a TCP connection and close it again: who answers?"""
    family = socket.AF_INET6 if ":" in address.ip else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as plain:
            plain.setblocking(False)
            async with asyncio.timeout(timeout_s):
                await asyncio.get_running_loop().sock_connect(plain, address)
    except ConnectionRefusedError:
        return Answer.REFUSED
    except (OSError, TimeoutError):
        return Answer.SILENT
    return Answer.OPEN
