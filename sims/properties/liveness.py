"""What must be so a while after the last fault."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from openclaw.effects import Effect
from openclaw.ids import NO_EPOCH, Epoch, TaskId
from openclaw.messages import Status
from openclaw.notes import Accepted
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World


class EveryTaskEnds(Property):
    name = "every task ends"
    sentence = "Every accepted task reaches a final state."

    def __init__(self) -> None:
        self.accepted: list[TaskId] = []

    def performed(self, host: Host, effect: Effect) -> None:  # noqa: ARG002
        if isinstance(effect, Accepted):
            self.accepted += effect.tasks

    def unmet(self, world: World) -> list[str]:
        rows = [(task, world.owner_host(task).disk.progress(task)) for task in self.accepted]
        return [f"{task} is {row and row.state}" for task, row in rows if row is None or not row.state.final]


class OneLeader(Property):
    name = "one leader"
    sentence = "In a mesh that was left in peace there is one leader, and all name it."

    def unmet(self, world: World) -> list[str]:
        named: dict[Epoch, list[str]] = defaultdict(list)
        for host in world.hosts.values():
            if host.node is not None:
                named[host.node.election.leader or NO_EPOCH].append(host.name)
        if len(named) == 1 and NO_EPOCH not in named:
            return []
        return [f"{epoch} is named by {', '.join(names)}" for epoch, names in sorted(named.items())]


class AllSeeAll(Property):
    name = "one view"
    sentence = "In a mesh that was left in peace every node counts every other as alive."

    def unmet(self, world: World) -> list[str]:
        complaints = []
        for host in world.hosts.values():
            if host.node is None:
                continue
            members = host.node.membership.members()
            for peer in world.hosts.values():
                status = members[peer.id].status if peer.id in members else None
                if status is not Status.ALIVE:
                    complaints.append(f"{host.name} sees {peer.name} as {status and status.name}")
        return complaints
