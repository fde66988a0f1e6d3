"""What is counted and shown, and never fails: the cost of the faults, not a broken promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event
from openclaw.ids import Epoch, TaskId
from openclaw.messages import Status
from openclaw.notes import Duplicate, LeaderChanged, MemberChanged
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World


class Counted(Property):
    name = "counted"
    sentence = (
        "Starts beyond the first, false suspicions and deaths, elections that were no turn, copies found, and how "
        "unevenly work was spread."
    )
    hears = ()
    says = (MemberChanged, LeaderChanged, Duplicate)

    def __init__(self) -> None:
        self.suspicions = 0
        self.false_suspicions = 0
        self.false_deaths = 0
        self.unplanned = 0
        self.copies_found = 0
        self._starts: Counter[TaskId] = Counter()
        self._by_host: Counter[str] = Counter()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        for effect in effects:
            match effect:
                case MemberChanged(node=node, status=status) if node in host.world.hosts:
                    awake = any(bearer.awake for bearer in host.world.bearers(node))
                    self.suspicions += status is Status.SUSPECT
                    self.false_suspicions += status is Status.SUSPECT and awake
                    self.false_deaths += status is Status.DOWN and awake
                case LeaderChanged(epoch=Epoch(node=node), reason=reason) if node == host.id:
                    self.unplanned += reason != "turn"
                case Duplicate():
                    self.copies_found += 1
                case _:
                    pass

    def started(self, host: Host, start: Start) -> None:
        self._starts[start.task] += 1
        self._by_host[host.name] += 1

    def shown(self, world: World) -> dict[str, float]:
        """For people. Load skew is the busiest host's starts a slot over the mean of all."""
        ratios = [
            self._by_host[host.name] / host.meta.slots for host in world.hosts.values() if host.meta.slots
        ]
        mean = sum(ratios) / len(ratios) if ratios else 0.0
        return {
            "suspicions": self.suspicions,
            "false suspicions": self.false_suspicions,
            "false deaths": self.false_deaths,
            "unplanned elections": self.unplanned,
            "repeated starts": sum(count - 1 for count in self._starts.values()),
            "copies found": self.copies_found,
            "load skew": round(max(ratios, default=0.0) / mean, 2) if mean else 1.0,
        }
