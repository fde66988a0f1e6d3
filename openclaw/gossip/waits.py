"""Deadlines: the first of a few, and those of many members, where the first is known without looking at all."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from openclaw.ids import NodeId

SPARE = 64


def earliest(*waits: float | None) -> float | None:
    """The first of these deadlines, if there is any."""
    first: float | None = None
    for at in waits:
        if at is not None and (first is None or at < first):
            first = at
    return first


class Waits:
    """One deadline for each member. To set it again replaces it."""

    def __init__(self) -> None:
        self._at: dict[NodeId, float] = {}
        self._heap: list[tuple[float, NodeId]] = []  # those that no longer hold are passed over

    def __contains__(self, node: NodeId) -> bool:
        return node in self._at

    def __len__(self) -> int:
        return len(self._at)

    def set(self, node: NodeId, at: float) -> None:
        self._at[node] = at
        heappush(self._heap, (at, node))
        if len(self._heap) > 2 * len(self._at) + SPARE:
            self._heap = [(at, node) for node, at in self._at.items()]
            heapify(self._heap)

    def drop(self, node: NodeId) -> None:
        self._at.pop(node, None)

    def get(self, node: NodeId) -> float | None:
        return self._at.get(node)

    def next(self) -> float | None:
        heap = self._heap
        while heap and self._at.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> list[NodeId]:
        """Whose time has come, sorted by name. Each keeps its deadline until another is set."""
        at = self.next()
        if at is None or at > now:
            return []
        return sorted(node for node, at in self._at.items() if at <= now)
