"""`openclaw cp`: a file from this machine to another one of the mesh, or back.

Whoever has the file offers it to one node for a while; whoever wants it pulls it over the bulk port into a hidden
file beside its target, and gives it its name when its hash is that of the source. What is there after a break is
where the next try goes on. A node offers and takes for others only what they could do with a command, too: they
need the capability `shell`, and the node the policy `commands`.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
from msgspec import Meta as Bound

from openclaw.config import COPIES_MAX, COPY_IDLE_S, FILE_BYTES_MAX, OFFERS_MAX
from openclaw.errors import MeshError, Unavailable
from openclaw.files import PIECE_BYTES, appear
from openclaw.ids import NodeId
from openclaw.records import Count, Policy
from openclaw.runtime.context import Context
from openclaw.runtime.control import Emit, Frame, Operation
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.queries import ANSWER_S, Args
from openclaw.runtime.sources import DIGEST, OFFER, Sources
from openclaw.transport.bulk import PullError

PROGRESS_S = 0.5
DIGEST_BYTES = 64
MODE_MAX = 0o755  # whatever it was at its source, others do not get to write to it


class Offer(msgspec.Struct, frozen=True):
    """A file that may be pulled under `id`. `key` is the same for the same unchanged file of the same node."""

    id: Annotated[str, Bound(pattern=r"^[0-9a-f]{16}$")]
    name: Annotated[str, Bound(pattern=r"^[^/\0]{1,255}$")]
    size: Count
    mode: Count
    key: Annotated[str, Bound(pattern=r"^[0-9a-f]{12}$")]


@dataclass
class Taking:
    """A file on its way here."""

    target: Path
    asked_at: float
    received: int = 0
    work: asyncio.Task[str] = field(init=False)


class Copies:
    """`table()` is for the control socket; other nodes ask by `copy_offer` and `copy_take`."""

    def __init__(self, context: Context, sources: Sources, pulls: Pulls) -> None:
        self._context, self._sources, self._pulls = context, sources, pulls
        self._takings: dict[tuple[NodeId, str], Taking] = {}
        context.queries.answerers |= {"copy_offer": self._answer_offer, "copy_take": self._answer_take}

    def table(self) -> dict[str, Operation]:
        return {"copy": self._copy}

    async def close(self) -> None:
        work = [taking.work for taking in self._takings.values()]
        for each in work:
            each.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    async def _copy(self, request: Frame, emit: Emit) -> Frame:
        """`near` on this machine and `far` on `node`, from here to there or `back`; with frames of progress."""
        node = self._context.node_named(str(request["node"]))
        near, far = Path(str(request["near"])), str(request["far"])
        if request.get("back"):
            answer = await self._ask(node, "copy_offer", {"path": far})
            offer = msgspec.convert(answer["offer"], Offer)
            return await self._watched(
                self._context.me, {"offer": answer["offer"], "path": str(near)}, node, offer.size, emit
            )
        offer = self._offer(near, node)
        try:
            args: Args = {"offer": msgspec.to_builtins(offer), "path": far}
            return await self._watched(node, args, self._context.me, offer.size, emit)
        finally:
            self._sources.offers.pop(offer.id, None)

    async def _watched(self, taker: NodeId, args: Args, source: NodeId, size: int, emit: Emit) -> Frame:
        """Until `taker` has what `source` offers. It is asked again and again, and gives up when that ends."""
        answered = -inf
        while True:
            try:
                if taker == self._context.me:
                    answer = await self._take(source, args)
                else:
                    answer = await self._ask(taker, "copy_take", args)
            except PullError as error:
                raise self._refused(
                    f"{error}; start the same copy again: it goes on where it stopped"
                ) from None
            except Unavailable:
                if self._context.now() - answered > COPY_IDLE_S:
                    raise
                continue  # the network is away for a moment: it may still be under way
            answered = self._context.now()
            if "sha256" in answer:
                return {"path": answer["path"], "size": size, "sha256": answer["sha256"]}
            await emit({"event": "progress", "received": answer["received"], "size": size})

    async def _ask(self, node: NodeId, op: str, args: Args) -> Args:
        if node == self._context.me:
            return await self._context.queries.answerers[op](node, args)
        return await self._context.queries.ask(node, op, args, ANSWER_S + PROGRESS_S)

    # --- at the source ---------------------------------------------------------------------------

    async def _answer_offer(self, peer: NodeId, args: Args) -> Args:
        self._check(peer)
        return {"offer": msgspec.to_builtins(self._offer(Path(_at_home(str(args["path"]))), peer))}

    def _offer(self, path: Path, peer: NodeId) -> Offer:
        offers = self._sources.offers
        try:
            path = path.resolve(strict=True)
            stat = path.stat()
        except OSError as error:
            raise self._refused(f"cannot read {path}: {error.strerror}") from None
        if not path.is_file():
            raise self._refused(f"{path} is no plain file; pack a folder first: tar -cf FILE {path}")
        if stat.st_size > FILE_BYTES_MAX:
            raise self._refused(f"{path} is {stat.st_size} bytes; at most {FILE_BYTES_MAX} are copied")
        while len(offers) >= OFFERS_MAX:
            del offers[next(iter(offers))]  # whoever still pulls it has it open
        identity = f"{self._context.me}\0{path}\0{stat.st_size}\0{stat.st_mtime_ns}"
        key = hashlib.sha256(os.fsencode(identity)).hexdigest()[:12]
        offer = Offer(secrets.token_hex(8), path.name, stat.st_size, stat.st_mode & MODE_MAX, key)
        offers[offer.id] = (peer, path)
        return offer

    # --- at the target ---------------------------------------------------------------------------

    async def _answer_take(self, peer: NodeId, args: Args) -> Args:
        self._check(peer)
        return await self._take(peer, {**args, "path": _at_home(str(args["path"]))})

    async def _take(self, peer: NodeId, args: Args) -> Args:
        """Begin with it, or say how far it has come; what is done is said again, since answers get lost."""
        offer = msgspec.convert(args["offer"], Offer)
        key, now = (peer, offer.id), self._context.now()
        taking = self._takings.get(key)
        if taking is None:
            self._make_room()
            taking = self._takings[key] = Taking(self._target(str(args["path"]), offer), now)
            taking.work = asyncio.get_running_loop().create_task(self._bring(peer, offer, taking))
        taking.asked_at = now
        done, _ = await asyncio.wait((taking.work,), timeout=PROGRESS_S)
        if not done:
            return {"received": taking.received}
        try:
            return {"sha256": taking.work.result(), "path": str(taking.target)}
        except OSError as error:
            raise self._refused(f"cannot write {taking.target}: {error.strerror}") from None

    def _make_room(self) -> None:
        if len(self._takings) < COPIES_MAX:
            return
        done = next((key for key, taking in self._takings.items() if taking.work.done()), None)
        if done is None:
            raise self._refused("too many files are being copied at once; try again when some are done")
        del self._takings[done]

    def _target(self, path: str, offer: Offer) -> Path:
        target = Path(path)
        if path.endswith("/") or target.is_dir():
            target /= offer.name
        if not target.parent.is_dir():
            raise self._refused(f"there is no folder {target.parent} to copy to; make it first")
        return target

    async def _bring(self, peer: NodeId, offer: Offer, taking: Taking) -> str:
        """Its hash, once it is whole under its name."""
        partial = taking.target.with_name(f".{taking.target.name}.{offer.key}.part")
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+b") as file:
            found, taking.received = await asyncio.to_thread(_so_far, file, offer.size)
            if free := self._context.disk_low(offer.size - taking.received):
                raise self._refused(
                    f"the disk has only {free >> 20} MiB left, too little for {taking.target}"
                )

            def write(data: bytes) -> Awaitable[None]:
                if self._context.now() - taking.asked_at > COPY_IDLE_S:
                    raise MeshError("nobody waits for this copy any more", kind="abandoned")
                return asyncio.to_thread(note, data)

            def note(data: bytes) -> None:
                file.write(data)
                found.update(data)
                taking.received += len(data)

            await self._pulls.whole(peer, OFFER, offer.id, taking.received, write)
            digest = bytearray()
            await self._pulls.first(peer, DIGEST, offer.id, DIGEST_BYTES, digest.extend)
            if found.hexdigest() != digest.decode():
                partial.unlink(missing_ok=True)
                raise self._refused(f"{offer.name} changed while it was copied; copy it again")
            os.fchmod(file.fileno(), offer.mode & MODE_MAX)
            file.flush()
            await asyncio.to_thread(os.fsync, file.fileno())
        await asyncio.to_thread(appear, partial, taking.target)
        return found.hexdigest()

    # --- both ------------------------------------------------------------------------------------

    def _check(self, peer: NodeId) -> None:
        member = self._context.mesh.roster.members().get(peer)
        if peer == self._context.me:
            return
        if member is None or member.revoked or "shell" not in member.capabilities:
            raise self._refused(
                f"the certificate of {self._context.name_of(peer)} lacks the capability 'shell', which cp needs: "
                "ask an admin for an invite with it"
            )
        if self._context.options.policy != Policy.COMMANDS:
            raise self._refused(
                f"its policy is {self._context.options.policy!r}, and cp needs 'commands' (node start --policy)"
            )

    def _refused(self, reason: str) -> MeshError:
        name = self._context.name_of(self._context.me)
        return MeshError(f"{name}: {reason}", kind="copy_refused", exit_code=125)


def _at_home(path: str) -> str:
    """As the node's user means it: relative to its home."""
    return os.path.join(Path.home(), "" if path == "~" else path.removeprefix("~/"))


def _so_far(file: BinaryIO, size: int) -> tuple[hashlib._Hash, int]:
    """What a former try left, hashed again; from where on to write."""
    found = hashlib.sha256()
    if os.fstat(file.fileno()).st_size > size:
        file.truncate(0)
    while piece := file.read(PIECE_BYTES):
        found.update(piece)
    return found, file.tell()
