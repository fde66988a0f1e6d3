"""mDNS on the LAN: say that we are here, and hear who else is.

The packet is public, so it carries no name and no secret: a version, eight digits of the mesh id's hash, the
node's short id and a port. Entries outlive crashes and sleep, so they are hints and never signs of life.
zeroconf is imported at the first round and off the event loop: a node serves before it is discovered.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from openclaw.config import (
    ADDRESSES_PER_HINT_MAX,
    MDNS_INSTANCES_MAX,
    MDNS_LOOKUP_S,
    MDNS_LOOKUPS_MAX,
    SERVICE_TYPE,
    TXT_BYTES_MAX,
)
from openclaw.discovery.interfaces import Path, classify
from openclaw.discovery.source import Found, OnFound

if TYPE_CHECKING:
    from zeroconf import ServiceStateChange, Zeroconf
    from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

TXT_VERSION = "1"
TAG_CHARS = 8
NODE_CHARS = 16
CLOSE_S = 2.0
CHECK_S = 30.0


def write_txt(mesh_tag: str, node: str, intro_port: int) -> dict[str, str]:
    return {"v": TXT_VERSION, "m": mesh_tag, "n": node, "i": str(intro_port)}


def read_txt(properties: Mapping[bytes, bytes | None]) -> tuple[str, str, int] | None:
    """(mesh tag, node's short id, intro port), or None for what we did not write."""
    values = {key: properties.get(key) or b"" for key in (b"v", b"m", b"n", b"i")}
    if sum(map(len, values.values())) > TXT_BYTES_MAX or not all(
        value.isalnum() for value in values.values()
    ):
        return None
    version, tag, node, digits = (value.decode("ascii") for value in values.values())
    if version != TXT_VERSION or len(tag) != TAG_CHARS or len(node) > NODE_CHARS or not digits.isdigit():
        return None
    port = int(digits)
    return (tag, node, port) if 0 < port < 65536 else None


def read_info(info: AsyncServiceInfo) -> Found | None:
    """What an instance says of itself; None for junk. Never raises, whatever the packet held."""
    txt = read_txt(info.properties)
    if txt is None or not info.port:
        return None
    tag, node, intro_port = txt
    numeric = [address for address in info.parsed_addresses() if _is_reachable(address)]
    if not numeric:
        return None
    addresses = tuple(f"{address}:{info.port}" for address in numeric[:ADDRESSES_PER_HINT_MAX])
    return Found(addresses, intro_port, Mdns.name, mesh_tag=tag, node=node)


def _is_reachable(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    return ip.version == 4 and not (ip.is_multicast or ip.is_unspecified)


class Browser:
    """Watches the LAN for instances and reports each as it is resolved. Bounded in names and in lookups."""

    def __init__(self, zeroconf: Zeroconf, on_found: OnFound) -> None:
        from zeroconf import DNSQuestionType
        from zeroconf.asyncio import AsyncServiceBrowser

        self._on_found = on_found
        self._names: set[str] = set()
        self._lookups: set[asyncio.Task[None]] = set()
        # QM: two nodes on one machine share port 5353, and a unicast answer would reach only one of them.
        self._browser: AsyncServiceBrowser = AsyncServiceBrowser(
            zeroconf, SERVICE_TYPE, handlers=[self._changed], question_type=DNSQuestionType.QM
        )

    def _changed(
        self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange
    ) -> None:
        from zeroconf import ServiceStateChange as Change
        from zeroconf.asyncio import AsyncServiceInfo

        if state_change is Change.Removed:
            self._names.discard(name)
            return
        if name not in self._names and len(self._names) >= MDNS_INSTANCES_MAX:
            return
        self._names.add(name)
        info = AsyncServiceInfo(service_type, name)
        if info.load_from_cache(zeroconf):
            self._report(info)
        elif len(self._lookups) < MDNS_LOOKUPS_MAX:
            lookup = asyncio.ensure_future(self._look_up(zeroconf, info))
            self._lookups.add(lookup)
            lookup.add_done_callback(self._lookups.discard)

    async def _look_up(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, MDNS_LOOKUP_S * 1000):
            self._report(info)

    def _report(self, info: AsyncServiceInfo) -> None:
        found = read_info(info)
        if found is not None:
            self._on_found(found)

    async def close(self) -> None:
        for lookup in list(self._lookups):
            lookup.cancel()
        await self._browser.async_cancel()


async def open_zeroconf(addresses: list[str]) -> AsyncZeroconf:
    """Sockets on exactly the LAN interfaces of `addresses`; a tailnet carries no multicast."""
    await asyncio.to_thread(__import__, "zeroconf.asyncio")
    from zeroconf import IPVersion
    from zeroconf.asyncio import AsyncZeroconf

    # Its warnings are about strangers' packets; what concerns this node comes back as an exception.
    logging.getLogger("zeroconf").setLevel(logging.CRITICAL)
    return AsyncZeroconf(interfaces=multicast(addresses), ip_version=IPVersion.V4Only)


def multicast(addresses: list[str]) -> list[str]:
    return [address for address in addresses if classify(address) != Path.TAILSCALE] or ["127.0.0.1"]


class Mdns:
    """Registers this node and reports the others. `node` is the short id, `mesh_port` the one to dial."""

    name = "mdns"

    def __init__(self, mesh_tag: str, node: str, mesh_port: int, intro_port: int, on_found: OnFound) -> None:
        self._txt = write_txt(mesh_tag, node, intro_port)
        self._mesh_port = mesh_port
        self._on_found = on_found
        self._instance = secrets.token_hex(6)
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: Browser | None = None
        self._announced: list[str] = []

    async def round(self, addresses: list[str], fresh: bool) -> float:
        if self._zeroconf is None:
            self._zeroconf = zeroconf = await open_zeroconf(addresses)
            self._browser = Browser(zeroconf.zeroconf, self._on_found)
            # The name is random, so there is nothing to probe for, and peers hear of us at once.
            await (await zeroconf.async_register_service(self._info(addresses), cooperating_responders=True))
        elif fresh or addresses != self._announced:
            await self._move(self._zeroconf, addresses)
        self._announced = addresses
        return CHECK_S

    async def _move(self, zeroconf: AsyncZeroconf, addresses: list[str]) -> None:
        """Announce and ask anew, on the interfaces that there are now."""
        # The service first: a new interface is greeted with what is registered then.
        sent = await zeroconf.async_update_service(self._info(addresses))
        await zeroconf.async_update_interfaces(list(multicast(addresses)))
        if self._browser is not None:
            await self._browser.close()
        self._browser = Browser(zeroconf.zeroconf, self._on_found)
        await sent

    def _info(self, addresses: list[str]) -> AsyncServiceInfo:
        from zeroconf.asyncio import AsyncServiceInfo

        return AsyncServiceInfo(
            SERVICE_TYPE,
            f"{self._instance}.{SERVICE_TYPE}",
            port=self._mesh_port,
            properties=self._txt,
            server=f"{self._instance}.local.",
            parsed_addresses=addresses[:ADDRESSES_PER_HINT_MAX],
        )

    async def close(self) -> None:
        zeroconf, self._zeroconf = self._zeroconf, None
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.close()
        if zeroconf is not None:
            await asyncio.wait_for(zeroconf.async_close(), CLOSE_S)


async def browse(addresses: list[str], seconds: float, mesh_tag: str = "") -> list[Found]:
    """Who announces a mesh on the LAN within `seconds`; ends at the first node of `mesh_tag` if given.

    Raises whatever keeps mDNS from working here.
    """
    found: dict[tuple[str, ...], Found] = {}
    enough = asyncio.Event()

    def note(hint: Found) -> None:
        found[hint.addresses] = hint
        if mesh_tag and hint.mesh_tag == mesh_tag:
            enough.set()

    zeroconf = await open_zeroconf(addresses)
    browser = Browser(zeroconf.zeroconf, note)
    try:
        await asyncio.wait_for(enough.wait(), seconds)
    except TimeoutError:
        pass
    finally:
        await browser.close()
        await zeroconf.async_close()
    return list(found.values())
