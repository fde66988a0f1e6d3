"""The addresses that others could reach this machine at, best first, and notice when they change.

LAN comes before the tailnet; a link-local or loopback address is offered only when there is nothing else.
Bridges that container and VM software makes are left out: their addresses are the same on every machine.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from enum import IntEnum

import psutil

TAILNET = ipaddress.IPv4Network("100.64.0.0/10")
PRIVATE_BRIDGE = re.compile(
    r"docker\d|br-[0-9a-f]{12}$|cni|virbr|podman|lxcbr|lxdbr|flannel|cali|vmnet|bridge1\d\d$"
)


class Path(IntEnum):
    """What kind of network an address is on, best first."""

    LAN = 0
    TAILSCALE = 1
    LINK_LOCAL = 2
    LOOPBACK = 3


def classify(address: str) -> Path:
    """`address` is numeric, without a port."""
    ip = ipaddress.ip_address(address)
    if ip.is_loopback:
        return Path.LOOPBACK
    if ip.is_link_local:
        return Path.LINK_LOCAL
    if isinstance(ip, ipaddress.IPv4Address) and ip in TAILNET:
        return Path.TAILSCALE
    return Path.LAN


def best_first(by_interface: dict[str, list[str]]) -> list[str]:
    """Order what `usable` read; without a reachable address the next best kind is all there is."""
    addresses = {
        address
        for name, listed in by_interface.items()
        if not PRIVATE_BRIDGE.match(name)
        for address in listed
        if not ipaddress.ip_address(address).is_unspecified
    }
    ranked = sorted(addresses, key=lambda address: (classify(address), ipaddress.IPv4Address(address)))
    reachable = [address for address in ranked if classify(address) <= Path.TAILSCALE]
    if reachable:
        return reachable
    best = classify(ranked[0]) if ranked else Path.LOOPBACK
    return [address for address in ranked if classify(address) == best] or ["127.0.0.1"]


def usable() -> list[str]:
    """This machine's IPv4 addresses now. Costs well under a millisecond; never empty."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    return best_first(
        {
            name: [entry.address for entry in entries if entry.family == socket.AF_INET]
            for name, entries in psutil.net_if_addrs().items()
            if name in up
        }
    )


def tailscale_address(addresses: list[str]) -> str:
    """The tailnet address among `addresses`, or "" when there is none."""
    return next((address for address in addresses if classify(address) == Path.TAILSCALE), "")
