"""Drives the sources of hints and watches this machine's own addresses.

It promises never to stop or slow the node: every source runs in a loop of its own, what it raises is told
once and it is asked again later. A change of address or a wake from sleep reaches all of them within seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from openclaw.config import INTERFACES_EVERY_S, SOURCE_BACKOFF_S_MAX, SOURCE_BACKOFF_S_MIN
from openclaw.discovery import mdns
from openclaw.discovery.interfaces import tailscale_address, usable
from openclaw.discovery.mdns import Mdns
from openclaw.discovery.seeds import Seeds
from openclaw.discovery.source import Found, OnFound, Source, SourceError
from openclaw.discovery.tailscale import Tailscale
from openclaw.ids import short

OnAddresses = Callable[[list[str]], None]
Log = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to look. `bind`: the only own addresses to announce, when the node listens on these alone."""

    mdns: bool = True
    tailscale: bool = True
    tailscale_tags: frozenset[str] = frozenset()
    seeds: tuple[str, ...] = ()
    bind: tuple[str, ...] = ()


class Discovery:
    """`on_found` hears of each node of our mesh, or of an unknown one, again and again; never of us."""

    def __init__(
        self,
        mesh_tag: str,
        node_id: str,
        mesh_port: int,
        intro_port: int,
        sources: Sources,
        on_found: OnFound,
        on_addresses: OnAddresses,
        log: Log,
    ) -> None:
        self._mesh_tag, self._me = mesh_tag, short(node_id)
        self._mesh_port = mesh_port
        self._on_found, self._on_addresses, self._log = on_found, on_addresses, log
        self._bind = list(sources.bind)
        self._tailscale = Tailscale(intro_port, sources.tailscale_tags, self._pass_on)
        self._sources: list[Source] = []
        if sources.mdns:
            self._sources.append(Mdns(mesh_tag, self._me, mesh_port, intro_port, self._pass_on))
        if sources.tailscale:
            self._sources.append(self._tailscale)
        if sources.seeds:
            self._sources.append(Seeds(sources.seeds, self._pass_on))
        self._addresses = ["127.0.0.1"]
        self._addresses = self._own()
        self._woken: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.status: dict[str, str] = {source.name: "starting" for source in self._sources}

    @property
    def addresses(self) -> list[str]:
        """This machine's own, numeric, best first."""
        return list(self._addresses)

    @property
    def tailscale_address(self) -> str:
        """Our address on the tailnet, or ""; also where Tailscale runs without an interface."""
        return self._tailscale.address or tailscale_address(self._addresses)

    async def start(self) -> None:
        """Returns at once; call it when the node serves."""
        self._woken = {source.name: asyncio.Event() for source in self._sources}
        self._tasks = [asyncio.create_task(self._drive(source)) for source in self._sources]
        self._tasks.append(asyncio.create_task(self._watch()))

    def refresh(self) -> None:
        """The machine woke up or the network changed: announce and look again, without backoff."""
        for woken in self._woken.values():
            woken.set()

    async def stop(self) -> None:
        """Says goodbye where a source can; bounded, whatever state the network is in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.gather(*(source.close() for source in self._sources), return_exceptions=True)

    async def _drive(self, source: Source) -> None:
        woken, backoff_s = self._woken[source.name], SOURCE_BACKOFF_S_MIN
        while True:
            fresh = woken.is_set()
            woken.clear()
            try:
                wait_s = await source.round(self._addresses, fresh)
            except Exception as error:
                await self._failed(source, error)
                backoff_s = SOURCE_BACKOFF_S_MIN if fresh else backoff_s
                wait_s, backoff_s = backoff_s, min(2 * backoff_s, SOURCE_BACKOFF_S_MAX)
            else:
                if self.status[source.name] not in ("ok", "starting"):
                    self._log(f"discovery: {source.name} works again")
                self.status[source.name] = "ok"
                backoff_s = SOURCE_BACKOFF_S_MIN
            try:
                await asyncio.wait_for(woken.wait(), wait_s)
            except TimeoutError:
                pass

    async def _failed(self, source: Source, error: Exception) -> None:
        reason = str(error) if isinstance(error, SourceError) else f"{type(error).__name__}: {error}"
        if self.status[source.name] != reason:
            self._log(f"discovery: {source.name} does not work for now ({reason}); it is tried again")
        self.status[source.name] = reason
        try:
            await source.close()
        except Exception as second:
            self._log(f"discovery: {source.name} could not be closed ({type(second).__name__}: {second})")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(INTERFACES_EVERY_S)
            addresses = self._own()
            if addresses != self._addresses:
                self._addresses = addresses
                self._on_addresses(list(addresses))
                self.refresh()

    def _own(self) -> list[str]:
        if self._bind and "0.0.0.0" not in self._bind:
            return self._bind
        try:
            return usable()
        except OSError:
            # The interfaces changed while they were being read; the next look is two seconds away.
            return self._addresses

    def _pass_on(self, found: Found) -> None:
        ours = found.node == self._me or self._is_own(found.addresses)
        if not ours and found.mesh_tag in ("", self._mesh_tag):
            self._on_found(found)

    def _is_own(self, addresses: tuple[str, ...]) -> bool:
        own = {f"{address}:{self._mesh_port}" for address in (*self._addresses, "127.0.0.1")}
        return all(address in own for address in addresses)


async def browse(seconds: float, mesh_tag: str = "", log: Log | None = None) -> list[Found]:
    """Who announces a mesh on the LAN now; ends at the first node of `mesh_tag` if one is given.

    For a machine that has no mesh yet. Where mDNS does not work, nobody is seen, and `log` hears why.
    """
    try:
        return await mdns.browse(usable(), seconds, mesh_tag)
    except Exception as error:
        if log is not None:
            log(f"discovery: mdns does not work here ({type(error).__name__}: {error})")
        return []
