"""The clocks of one simulated machine: one that only goes on, at a rate of its own, and one for people.

The first counts sleep and is what the core is given; it differs from every other machine's, so that a time that
slipped onto the wire would be nonsense. The second can be set by anybody, and is read once, when a node starts.
"""

from __future__ import annotations

OFFSET_S_MAX = 1e5


class Clock:
    def __init__(self, offset_s: float) -> None:
        self.wrong_s = 0.0  # by how much the wall clock is
        self._rate = 1.0
        self._base = offset_s
        self._since = 0.0

    def read(self, now: float) -> float:
        """What the steady clock shows at the world's `now`."""
        return self._base + (now - self._since) * self._rate

    def when(self, shows: float) -> float:
        """At what time of the world the steady clock shows this, as it runs now."""
        return self._since + (shows - self._base) / self._rate

    def drift(self, rate: float, now: float) -> None:
        if rate <= 0.0:
            raise ValueError(f"a clock that runs at {rate} times real time does not go on")
        self._base, self._since = self.read(now), now
        self._rate = rate

    def jump(self, by_s: float) -> None:
        self.wrong_s += by_s
