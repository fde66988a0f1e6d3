"""A machine's own deadlines in one heap. Whoever is called checks whether the reason still stands."""

from __future__ import annotations

from heapq import heappop, heappush

from openclaw.ids import Token


class Timers:
    """Named deadlines: `set` never replaces, `due` hands out in order of time, then of setting."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, str, Token | None]] = []
        self._number = 0

    def set(self, when: float, kind: str, key: str = "", token: Token | None = None) -> None:
        self._number += 1
        heappush(self._heap, (when, self._number, kind, key, token))

    def due(self, now: float) -> list[tuple[str, str, Token | None]]:
        """All that is due at `now`, removed."""
        ready: list[tuple[str, str, Token | None]] = []
        while self._heap and self._heap[0][0] <= now:
            _, _, kind, key, token = heappop(self._heap)
            ready.append((kind, key, token))
        return ready

    def when(self, kind: str, key: str) -> float | None:
        """When such a deadline is, for people who ask: it looks at all of them."""
        return min((when for when, _, k, name, _ in self._heap if (k, name) == (kind, key)), default=None)

    def next(self) -> float | None:
        return self._heap[0][0] if self._heap else None
