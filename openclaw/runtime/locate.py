"""Where a task is to be read: at its owner, at whoever took it over, or in the copy that some node keeps.

Promises: what is found at a live owner is what it has on disk; while the owner is away the best copy that any live
node has is found instead, an end before anything else, then the highest claim.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from openclaw.errors import MeshError
from openclaw.ids import KEYED, NodeId, TaskId, owner_of
from openclaw.records import Progress, Submission
from openclaw.runtime.context import Context
from openclaw.runtime.queries import Args

_encode = msgspec.msgpack.encode
_submission = msgspec.msgpack.Decoder(Submission).decode
_progress = msgspec.msgpack.Decoder(Progress).decode


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A task as `holder` has it on disk: its owner, or a node that keeps a copy."""

    holder: NodeId
    submission: Submission
    progress: Progress

    @property
    def owner(self) -> NodeId:
        return self.progress.claim.owner

    @property
    def done(self) -> bool:
        """Final, and its outputs are at the owner."""
        return self.progress.state.final and self.progress.fetched

    @property
    def rank(self) -> tuple[bool, int, str, int]:
        """Of two snapshots of one task the higher says more."""
        progress = self.progress
        return (self.done, *progress.claim, progress.moves)


class Locator:
    def __init__(self, context: Context) -> None:
        self._context = context

    def here(self, task: TaskId) -> Snapshot | None:
        """As our own disk has it, ours or a copy."""
        store, me = self._context.store, self._context.me
        own = store.task(task)
        if own is not None:
            return Snapshot(me, *own)
        copy = store.copy(task)
        return None if copy is None else Snapshot(me, copy.submission, copy.progress)

    async def find(self, task: TaskId) -> Snapshot | None:
        """The best that can be had now. None when no live node knows of it."""
        me = self._context.me
        here = self.here(task)
        if here is not None and here.owner == me:
            return here
        alive = [node for node in self._context.node.membership.alive() if node != me]
        likely = owner_of(task) if here is None else here.owner
        if likely in alive:
            there = await self.ask(likely, task)
            if there is not None and there.owner == likely:
                return there
        elif likely == me and here is None and owner_of(task) != KEYED:
            alive = []  # it was ours, and is forgotten: nobody else can know more
        found = [here, *await asyncio.gather(*(self.ask(node, task) for node in alive))]
        return best(found)

    async def ask(self, node: NodeId, task: TaskId) -> Snapshot | None:
        """What `node` has of it; None also when it does not answer."""
        try:
            return read(node, await self._context.queries.ask(node, "task", {"id": task}))
        except MeshError:
            return None


def best(found: Iterable[Snapshot | None]) -> Snapshot | None:
    return max((each for each in found if each is not None), key=lambda each: each.rank, default=None)


def read(node: NodeId, answer: Args) -> Snapshot:
    """Raises `MeshError` when it cannot be read."""
    try:
        return Snapshot(
            node, _submission(_bytes(answer["submission"])), _progress(_bytes(answer["progress"]))
        )
    except (KeyError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MeshError(f"node {node} answered what cannot be read: {error}") from None


def answer(snapshot: Snapshot) -> Args:
    return {"submission": _encode(snapshot.submission), "progress": _encode(snapshot.progress)}


def seen_progress(args: Args) -> Progress:
    return _progress(_bytes(args["seen"]))


def _bytes(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise msgspec.ValidationError("expected bytes")
    return value
