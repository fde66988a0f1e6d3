"""What is looked at every half second of a run: the deadlines that a plan expects, and who leads beside whom."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from sims.plan import Expect, Plan

if TYPE_CHECKING:
    from sims.properties import Property
    from sims.world import World


class Watch:
    """`split_s`: how long there were two leaders that could reach each other, to the half second."""

    def __init__(self, plan: Plan, world: World) -> None:
        self.complaints: list[tuple[str, str]] = []
        self.split_s = 0.0
        self._world = world
        self._looked = world.now
        by_name: dict[str, Property] = {prop.name: prop for prop in world.properties}
        unknown = [expect.property for expect in plan.expect if expect.property not in by_name]
        if unknown:
            raise ValueError(f"no property is called {unknown[0]!r}; there are {', '.join(sorted(by_name))}")
        self._open = [(expect, by_name[expect.property]) for expect in plan.expect]
        self._since: dict[Expect, float] = {}

    def look(self) -> None:
        now = self._world.now
        if self._split():
            self.split_s += now - self._looked
        self._looked = now
        for expect, prop in list(self._open):
            if expect.to_s is not None and now > expect.to_s:
                self._open.remove((expect, prop))
            elif now >= expect.from_s:
                self._ask(expect, prop)

    def _ask(self, expect: Expect, prop: Property) -> None:
        now, unmet = self._world.now, prop.unmet(self._world)
        if not unmet:
            self._since.pop(expect, None)
        elif now - self._since.setdefault(expect, now) >= expect.slack_s:
            self.complaints.append((prop.name, f"at {now:g} s, {'; '.join(unmet)}"))
            self._open.remove((expect, prop))

    def _split(self) -> bool:
        leaders = [host.id for host in self._world.hosts.values() if host.node and host.node.election.leading]
        clear = self._world.network.clear
        return any(clear(a, b) and clear(b, a) for a, b in combinations(leaders, 2))
