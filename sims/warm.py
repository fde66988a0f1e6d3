"""A mesh that has been there for a while: everybody knows everybody, and one node leads.

Thousands of nodes that all start from nothing at once would first spend hours of our time on meeting each other.
Here each is told at its start, through its own door, what a long life would have taught it. What it would pass on
as news, or ask for again, is then taken from it: to the others none of it is new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from openclaw.effects import Received
from openclaw.ids import Epoch, Incarnation
from openclaw.messages import Coordinator, Digest, MetaHave, Rumour, Status

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

ALONE_S = 3.0  # until the first one leads, for want of others
SETTLE_S = 1.0
SOON_S = 0.0005  # after a start's first batch, before it speaks
EPOCH_TERM = 1


def start(world: World) -> None:
    """Start all hosts of a new world, and run it until they are one mesh."""
    world.network.warm = True
    leader, *others = world.hosts.values()
    leader.start(warm=True)
    world.run(world.now + ALONE_S)
    entries = tuple(
        Rumour(host.id, Incarnation(1, f"{host.name}.1"), Status.ALIVE, meta_version=1)
        for host in world.hosts.values()
    )
    for host in others:
        _start(host, leader, entries)
    _introduce(leader, others[0], entries)
    world.run(world.now + SETTLE_S)


def _start(host: Host, leader: Host, entries: tuple[Rumour, ...]) -> None:
    host.start(warm=True)
    _introduce(host, leader, entries)
    host.post(Received(Coordinator(Epoch(EPOCH_TERM, leader.id)), leader.id))


def _introduce(host: Host, by: Host, entries: tuple[Rumour, ...]) -> None:
    host.post(Received(Digest(entries, reply=True), by.id))
    host.world.after(SOON_S, lambda: _acquaint(host, by))


def _acquaint(host: Host, by: Host) -> None:
    """It has heard from each of them before, and what it knows of them is no news."""
    assert host.node is not None
    roll = host.node.membership._roll
    for row in roll.rows.values():
        row.told, row.told_version = row.claim.incarnation, row.claim.meta_version
        row.last_heard = row.since
        row.epoch = host.node.election.leader or row.epoch
        roll.rumours.drop(row.claim.node)
    roll.news = False
    for peer in host.world.hosts.values():
        if peer is not host:
            host.post(Received(MetaHave(peer.id, 1, peer.meta), by.id))
