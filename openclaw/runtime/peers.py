"""Who is out there and how to reach them: addresses, certificates, introductions, invites.

Discovery only hints. A hint that names a member becomes an address to try; a hint of somebody unknown becomes one
question at their intro port, in which both sides show their certificates. What is learned of the roster is on disk
before it is passed on, and is passed on to every live member at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import zmq

from openclaw.config import INVITE_HOURS
from openclaw.discovery.source import Found
from openclaw.effects import PeerFound, RosterChanged
from openclaw.errors import Junk, MeshError
from openclaw.ids import SHORT_CHARS, NodeId
from openclaw.messages import DialBulk, RosterSync
from openclaw.records import Meta
from openclaw.runtime.context import Context
from openclaw.transport import intro
from openclaw.transport.poller import SyncSocket

INTRODUCE_EVERY_S = 30.0
INTRODUCE_S = 5.0
INTRODUCING_MAX = 16
INTRODUCED_MAX = 4096
ADDRESSES_MAX = 16
SYNC_RECORDS_MAX = 200
GOODBYE_S = 0.3


class Peers:
    """`log` is told what a person may have to mend, once."""

    def __init__(
        self, context: Context, sockets: zmq.Context[SyncSocket], log: Callable[[str], None]
    ) -> None:
        self._context, self._sockets, self._log = context, sockets, log
        self._introduced_at: dict[str, float] = {}
        self._introducing: set[asyncio.Task[None]] = set()
        self._remembering: set[asyncio.Task[None]] = set()
        self._addresses: dict[NodeId, tuple[str, ...]] = {}
        self._bulk_ports: dict[NodeId, int] = {}

    def start(self) -> None:
        """Tell the core of the roster, and where its members were last seen."""
        self._tell_core()
        for node, addresses in self._context.mesh.known_addresses().items():
            if node != self._context.me:
                self._set_addresses(node, addresses)
                self._reach(node)

    async def close(self) -> None:
        for task in self._introducing:
            task.cancel()
        await asyncio.gather(*self._introducing, *self._remembering, return_exceptions=True)

    # --- addresses -------------------------------------------------------------------------------

    def found(self, found: Found) -> None:
        """A hint from discovery."""
        if found.mesh_tag and found.mesh_tag != self._context.mesh.tag:
            return
        for node in self._context.mesh.roster.members():
            if found.node and node[:SHORT_CHARS] == found.node and node != self._context.me:
                self._set_addresses(node, (*self._addresses.get(node, ()), *found.addresses))
                self._reach(node)
                return
        for address in found.addresses:
            host = address.rpartition(":")[0]
            self._introduce(f"{host}:{found.intro_port}", (address,))

    def meta_learned(self, node: NodeId, meta: Meta) -> None:
        """What a member publishes of itself is better than any hint."""
        if node == self._context.me or not meta.addresses:
            return
        self._bulk_ports[node] = meta.bulk_port
        self._set_addresses(node, meta.addresses)
        remembering = asyncio.create_task(self._remember(node, meta.addresses))
        self._remembering.add(remembering)
        remembering.add_done_callback(self._remembering.discard)

    async def _remember(self, node: NodeId, addresses: tuple[str, ...]) -> None:
        """For the next start. A write of its own waits for the disk, and a full one is no reason to end here."""
        try:
            await asyncio.to_thread(self._context.mesh.remember_addresses, node, addresses)
        except MeshError as error:
            self._log(f"the addresses of {self._context.name_of(node)} were not kept: {error}")

    def bulk_addresses(self, node: NodeId) -> list[str]:
        """Where a member's bulk port may be reached, the mesh's own path first."""
        port = self._bulk_ports.get(node)
        if not port:
            return []
        path = self._context.transport.path(node)
        known = ([path[1]] if path is not None else []) + list(self._addresses.get(node, ()))
        hosts = dict.fromkeys(address.rpartition(":")[0] for address in known)
        return [f"{host}:{port}" for host in hosts]

    def request_bulk_dial(self, node: NodeId) -> None:
        """We cannot reach its bulk port: ask it to dial ours."""
        meta = self._context.node.membership.meta_of(self._context.me)
        if meta is not None:
            hosts = tuple(address.rpartition(":")[0] for address in meta.addresses)
            self._context.send(node, DialBulk(meta.bulk_port, hosts[:ADDRESSES_MAX]))

    def _reach(self, node: NodeId) -> None:
        """There is a new hint where `node` may be: dial it now, and let the core say hello."""
        self._context.transport.dial(node)
        self._context.post(PeerFound(node))

    def _set_addresses(self, node: NodeId, addresses: tuple[str, ...]) -> None:
        unique = tuple(dict.fromkeys(addresses))[-ADDRESSES_MAX:]
        if unique != self._addresses.get(node):
            self._addresses[node] = unique
            self._context.transport.set_addresses(node, unique)

    # --- the roster ------------------------------------------------------------------------------

    def roster_differs(self, peer: NodeId) -> None:
        """Show `peer` all that we have, and ask for the same."""
        papers = self._context.mesh.roster.records()
        for start in range(0, len(papers), SYNC_RECORDS_MAX):
            chunk = papers[start : start + SYNC_RECORDS_MAX]
            last = start + SYNC_RECORDS_MAX >= len(papers)
            self._context.send(peer, RosterSync(chunk, want=last))

    def received(self, message: RosterSync, sender: NodeId) -> None:
        self.learn(message.records, but=sender)
        if message.want:
            papers = self._context.mesh.roster.records()
            for start in range(0, len(papers), SYNC_RECORDS_MAX):
                self._context.send(sender, RosterSync(papers[start : start + SYNC_RECORDS_MAX]))

    def learn(self, papers: tuple[bytes, ...], but: NodeId | None = None) -> None:
        """Takes in what verifies; what was news is stored, told to the core and sent on to the others."""
        news = []
        for paper in papers:
            try:
                if self._context.mesh.learn(paper):
                    news.append(paper)
            except Junk:
                continue
        if not news:
            return
        self._tell_core()
        for node in self._context.node.membership.alive():
            if node not in (self._context.me, but):
                self._context.send(node, RosterSync(tuple(news)))

    async def leave(self) -> None:
        """Give up the membership for good, and tell whoever is there."""
        paper = self._context.mesh.revoke(self._context.me)
        for node in self._context.node.membership.alive():
            if node != self._context.me:
                self._context.send(node, RosterSync((paper,)))
        await asyncio.sleep(GOODBYE_S)

    def _tell_core(self) -> None:
        roster = self._context.mesh.roster
        self._context.post(RosterChanged(roster.members(), roster.digest()))

    # --- introductions ---------------------------------------------------------------------------

    def answer_intro(self, question: bytes, _ip: str) -> bytes | None:
        """Serves the intro port: lets a machine in, or exchanges certificates with a member."""
        answer, news = self._context.mesh.answer_intro(
            question, self._context.wall(), self._admin_addresses(), self._own_addresses()
        )
        if news:
            self._tell_core()
            for node in self._context.node.membership.alive():
                if node != self._context.me:
                    self._context.send(node, RosterSync(news))
        return answer

    def introduce(self, addresses: Iterable[str]) -> None:
        """Meet whoever answers at these intro ports: those of the token that let us in."""
        for address in addresses:
            self._introduce(address, ())

    def _own_addresses(self) -> tuple[str, ...]:
        meta = self._context.node.membership.meta_of(self._context.me)
        return meta.addresses if meta is not None else ()

    def _introduce(self, address: str, mesh_address: tuple[str, ...]) -> None:
        now = self._context.now()
        if now - self._introduced_at.get(address, -INTRODUCE_EVERY_S) < INTRODUCE_EVERY_S:
            return
        if len(self._introducing) >= INTRODUCING_MAX:
            return
        if len(self._introduced_at) >= INTRODUCED_MAX:  # anybody on the LAN can hint at any address
            self._introduced_at.clear()
        self._introduced_at[address] = now
        task = asyncio.create_task(self._introduction(address, mesh_address))
        self._introducing.add(task)
        task.add_done_callback(self._introducing.discard)

    async def _introduction(self, address: str, mesh_address: tuple[str, ...]) -> None:
        mesh = self._context.mesh
        try:
            answer = await intro.ask(
                self._sockets,
                address,
                mesh.gate.curve_public,
                self._context.keys,
                mesh.introduction(),
                INTRODUCE_S,
            )
            node, papers, addresses = mesh.read_introduction(answer)
        except (OSError, TimeoutError, Junk, MeshError):
            return
        self.learn(papers)
        if node != self._context.me and mesh.roster.allows(node):
            known = self._addresses.get(node, ())
            self._set_addresses(node, (*known, *mesh_address, *addresses))
            self._reach(node)

    # --- invites ---------------------------------------------------------------------------------

    def invite(
        self, expires_s: float, uses: int, capabilities: frozenset[str], addresses: bool
    ) -> tuple[str, float]:
        """A token that lets machines in, and when it expires (UTC seconds). Only an admin can make one."""
        meta = self._context.node.membership.meta_of(self._context.me)
        hints = self._intro_addresses(self._context.me, meta) if addresses and meta is not None else ()
        expires = self._context.wall() + (expires_s or INVITE_HOURS * 3600)
        return self._context.mesh.invite(expires, uses, capabilities, hints), expires

    def _admin_addresses(self) -> tuple[str, ...]:
        """Intro ports of live admins, for a machine that asked the wrong node."""
        members = self._context.mesh.roster.members()
        found: list[str] = []
        for node in self._context.node.membership.alive():
            meta = self._context.node.membership.meta_of(node)
            if meta is not None and node in members and "admin" in members[node].capabilities:
                found += self._intro_addresses(node, meta)
        return tuple(found[:ADDRESSES_MAX])

    @staticmethod
    def _intro_addresses(_node: NodeId, meta: Meta) -> tuple[str, ...]:
        return tuple(f"{address.rpartition(':')[0]}:{meta.intro_port}" for address in meta.addresses)
