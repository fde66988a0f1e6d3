"""Many election machines under one small clock; the test plays their membership."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterable

import pytest

from openclaw.config import Settings
from openclaw.effects import Effect, Event, MetaChanged, Received, Send, Started, Store, Tick
from openclaw.election.bully import Bully
from openclaw.election.rank import order
from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId
from openclaw.messages import (
    AnyMessage,
    Coordinator,
    DemandOf,
    Offer,
    Status,
)
from openclaw.notes import LeaderChanged, MemberChanged, MetaLearned, Note, OfferTurn, Settled, TurnTaken
from openclaw.records import EpochRow, Meta, Table, Tier

SETTINGS = Settings()
LATENCY_S = 0.002


def node_id(n: int) -> NodeId:
    return NodeId(f"node{n:012d}")


class Loop:
    """Machines that hear each other after `LATENCY_S`; the test plays their membership."""

    def __init__(self, count: int, tiers: dict[int, Tier] | None = None) -> None:
        self.now = 100.0
        self.nodes = [node_id(n) for n in range(count)]
        self.machines: dict[NodeId, Bully] = {}
        self.dead: set[NodeId] = set()
        self.cut: set[tuple[NodeId, NodeId]] = set()
        self.sent: list[tuple[NodeId, NodeId, AnyMessage]] = []
        self.notes: list[tuple[NodeId, Note]] = []
        self.stored: dict[NodeId, list[Epoch]] = {node: [] for node in self.nodes}
        self._queue: list[tuple[float, int, NodeId, Event | Note]] = []
        self._sequence = 0
        for node in self.nodes:
            self.start(node)
        for number, tier in (tiers or {}).items():
            self.tier(self.nodes[number], tier)

    def start(self, node: NodeId) -> None:
        stored = max(self.stored[node], default=NO_EPOCH)
        self.dead.discard(node)
        self.machines[node] = Bully(node, SETTINGS, random.Random(node), stored)
        self.give(node, Started(Meta(), 0.0))

    def tier(self, node: NodeId, tier: Tier) -> None:
        meta = Meta(tier=tier)
        self.give(node, MetaChanged(meta))
        for other in self.alive():
            if other != node:
                self.give(other, MetaLearned(node, 2, meta))

    def alive(self) -> list[NodeId]:
        return [node for node in self.nodes if node not in self.dead]

    def acquaint(self, nodes: Iterable[NodeId] | None = None) -> None:
        nodes = self.alive() if nodes is None else list(nodes)
        for node in nodes:
            for peer in nodes:
                if peer != node:
                    self.member(node, peer, Status.ALIVE)

    def settle(self, nodes: Iterable[NodeId] | None = None) -> None:
        for node in self.alive() if nodes is None else nodes:
            self.give(node, Settled())

    def member(self, at: NodeId, of: NodeId, status: Status, boot: str = "b1") -> None:
        self.give(at, MemberChanged(of, status, Incarnation(1, boot)))

    def kill(self, node: NodeId, noticed_by: Iterable[NodeId] | None = None) -> None:
        self.dead.add(node)
        for other in self.alive() if noticed_by is None else noticed_by:
            self.member(other, node, Status.DOWN)

    def give(self, node: NodeId, event: Event | Note) -> list[Effect]:
        effects = self.machines[node].handle(event, self.now)
        for effect in effects:
            self.perform(node, effect)
        return effects

    def perform(self, node: NodeId, effect: Effect) -> None:
        match effect:
            case Store(Table.META, "epoch", EpochRow(epoch)):
                self.stored[node].append(epoch)
            case Send(to, message):
                if isinstance(message, Coordinator):
                    assert message.epoch in self.stored[node], "announced before it was stored"
                self.sent.append((node, to, message))
                self.post(LATENCY_S, node, to, message)
            case OfferTurn(to, term, expires_s):
                self.notes.append((node, effect))
                self.perform(node, Send(to, Offer(term, expires_s, (DemandOf(node, ()),))))
            case LeaderChanged() | TurnTaken():
                self.notes.append((node, effect))
            case _:
                pytest.fail(f"unexpected {effect}")

    def post(self, delay_s: float, node: NodeId, to: NodeId, message: AnyMessage) -> None:
        self._sequence += 1
        if (node, to) not in self.cut:
            heapq.heappush(self._queue, (self.now + delay_s, self._sequence, to, Received(message, node)))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [
                (at, node) for node in self.alive() if (at := self.machines[node].next_deadline()) is not None
            ]
            tick = min(due, default=(end, self.nodes[0]))
            posted = self._queue[0][0] if self._queue else end
            if min(tick[0], posted) >= end:
                self.now = end
                return
            self.now = max(self.now, min(tick[0], posted))
            if posted <= tick[0]:
                _, _, to, event = heapq.heappop(self._queue)
                if to not in self.dead:
                    self.give(to, event)
            else:
                self.give(tick[1], Tick())

    def leader(self) -> NodeId:
        """The one leader that all live nodes name."""
        named = {self.machines[node].leader for node in self.alive()}
        assert len(named) == 1, named
        epoch = named.pop()
        assert epoch is not None
        assert self.machines[epoch.node].leading
        return epoch.node

    def best(self, term: int) -> NodeId:
        return self.best_first(term, self.alive())[0]

    def best_first(self, term: int, nodes: Iterable[NodeId]) -> list[NodeId]:
        return order(term, nodes, lambda _: Tier.MAINS)

    def took_office(self) -> list[Epoch]:
        """Every epoch that a node began to lead under, in order."""
        return [
            note.epoch
            for node, note in self.notes
            if isinstance(note, LeaderChanged) and note.epoch is not None and note.epoch.node == node
        ]


def meshed(count: int, tiers: dict[int, Tier] | None = None) -> Loop:
    loop = Loop(count, tiers)
    loop.acquaint()
    loop.settle()
    loop.run(2.0)
    loop.sent.clear()
    return loop


def lone(tier: Tier = Tier.MAINS) -> Loop:
    loop = Loop(1, {0: tier})
    loop.settle()
    loop.run(0.1)
    return loop
