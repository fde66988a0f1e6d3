"""One real machine that all hosts of a world share: its cores, and its disk.

For comparisons with real nodes that do so. In other worlds computing costs no time, and every disk is a good one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from heapq import heapreplace

from openclaw.effects import Event, LinkUp


@dataclass(frozen=True, slots=True)
class Costs:
    """In seconds: of each event (or wake without one), of a new connection beside that, of some commits."""

    event_s: float
    link_s: float
    commits_s: Sequence[float]


FREE = Costs(0.0, 0.0, (0.0,))


class Shared:
    """`events` counts what was paid for."""

    def __init__(self, cores: int, costs: Costs = FREE) -> None:
        self.events = 0
        self._free_at = [0.0] * cores
        self._costs = costs

    @property
    def free_at(self) -> float:
        """When the first core has nothing to do."""
        return self._free_at[0]

    def spend(self, events: Collection[Event], now: float) -> float:
        """Take the first core for these; for how long. A connection takes it beside them, in threads of its own."""
        paid = max(1, len(events))
        self.events += paid
        took_s = self._costs.event_s * paid
        heapreplace(self._free_at, now + took_s)
        for _ in range(sum(isinstance(event, LinkUp) for event in events)):
            heapreplace(self._free_at, max(now, self._free_at[0]) + self._costs.link_s)
        return took_s

    def commit_s(self, chance: float) -> float:
        """How long one commit takes."""
        return self._costs.commits_s[int(chance * len(self._costs.commits_s))]
