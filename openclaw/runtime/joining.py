"""The mesh of a node that starts: the one it has, the one that a token lets it into, or a new one.

A joiner asks every intro port that it can learn of (the token's hints, mDNS, Tailscale's seeds) until an admin lets
it in or refuses; a member that is no admin names those that are.
"""

from __future__ import annotations

import asyncio
from collections import deque

import zmq

from openclaw.config import INTRO_OFFSET
from openclaw.discovery.discovery import browse
from openclaw.discovery.seeds import parse_seed, resolve
from openclaw.errors import BadToken, Junk, Unavailable
from openclaw.runtime.options import StartOptions
from openclaw.store import Store
from openclaw.transport import intro
from openclaw.transport.poller import SyncSocket
from openclaw.trust.intro import Elsewhere, Joining
from openclaw.trust.invites import Token, parse_token
from openclaw.trust.keys import NodeKeys
from openclaw.trust.mesh import Mesh, mesh_tag

ASK_S = 4.0
BROWSE_S = 3.0
JOIN_S = 30.0
ROUND_S = 1.0


async def open_mesh(
    options: StartOptions, keys: NodeKeys, store: Store, sockets: zmq.Context[SyncSocket], now_wall: float
) -> tuple[Mesh, tuple[str, ...]]:
    """The mesh that this node belongs to from now on, and intro ports where it may meet others.

    Raises BadToken, BadState or Unavailable.
    """
    mesh = Mesh.load(store, keys)
    if options.join is None:
        return mesh or Mesh.create(store, keys, options.name, now_wall), ()
    token = parse_token(options.join, now_wall, mesh.mesh_id if mesh is not None else None)
    if mesh is not None:
        if mesh.mesh_id == token.mesh_id:
            return mesh, token.hints
        mesh.check_replaceable()
    joiner = _Joiner(options, Joining(token, keys, options.name), token, sockets)
    papers = await joiner.join()
    return Mesh.adopt(store, keys, token, papers), joiner.met


class _Joiner:
    """Asks around until somebody decides."""

    def __init__(
        self, options: StartOptions, joining: Joining, token: Token, sockets: zmq.Context[SyncSocket]
    ) -> None:
        self._options, self._joining, self._token, self._sockets = options, joining, token, sockets
        self._answers: dict[str, str] = {}
        self.met: tuple[str, ...] = ()  # whoever let us in

    async def join(self) -> tuple[bytes, ...]:
        """The papers that make us a member."""
        try:
            async with asyncio.timeout(JOIN_S):
                while True:
                    papers = await self._round(await self._addresses())
                    if papers is not None:
                        return papers
                    await asyncio.sleep(ROUND_S)
        except TimeoutError:
            tried = "; ".join(f"{address}: {what}" for address, what in self._answers.items())
            raise Unavailable(
                f"no admin of the mesh {self._token.name!r} could be reached within {JOIN_S:g} s "
                f"({tried or 'no address is known'}). Is its node up, and TCP {self._options.port}–"
                f"{self._options.port + 2} open there? Name one with --seed HOST:PORT",
                kind="unreachable",
            ) from None

    async def _addresses(self) -> list[str]:
        found = list(self._token.hints)
        for seed in self._options.seeds:
            found += [_intro_of(address) for address in await resolve(*parse_seed(seed))]
        if self._options.mdns and (not found or self._answers):  # hints may be old
            for hint in await browse(BROWSE_S, mesh_tag(self._token.mesh_id)):
                found += [f"{address.rpartition(':')[0]}:{hint.intro_port}" for address in hint.addresses]
        return list(dict.fromkeys(found))

    async def _round(self, addresses: list[str]) -> tuple[bytes, ...] | None:
        """One question to each address, and to those that they name. A refusal by an admin is the end of it."""
        queue, asked = deque(addresses), set[str]()
        while queue:
            address = queue.popleft()
            if address in asked:
                continue
            asked.add(address)
            try:
                answer = await intro.ask(
                    self._sockets, address, self._joining.gate.curve_public, self._joining.keys,
                    self._joining.question(), ASK_S,
                )  # fmt: skip
                result = self._joining.read(answer)
            except BadToken:
                raise
            except ConnectionRefusedError:
                self._answers[address] = "nobody listens there"
            except (TimeoutError, OSError):
                self._answers[address] = "no answer"
            except Junk as error:
                self._answers[address] = f"a strange answer ({error})"
            else:
                if not isinstance(result, Elsewhere):
                    self.met = (address,)
                    return result
                self._answers[address] = "is no admin"
                queue.extendleft(result.addresses)
        return None


def _intro_of(mesh_address: str) -> str:
    host, _, port = mesh_address.rpartition(":")
    return f"{host}:{int(port) + INTRO_OFFSET}"
