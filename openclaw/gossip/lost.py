"""Calling after the lost: members that we do not hear are called for ever, ever more rarely.

In a small mesh all that are due are called at once. In a large one a few at a time: the first that answers brings
its view of all the others, so a mesh that starts does not greet itself with the square of its size.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from openclaw.config import Settings
from openclaw.effects import Rng
from openclaw.gossip.member import NEVER
from openclaw.gossip.waits import Waits
from openclaw.ids import NodeId


@dataclass(slots=True)
class _Calls:
    pause_s: float
    called_at: float = NEVER
    reached_at: float = NEVER


class Lost:
    """Who is called, when next, and how rarely by now."""

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self._settings = settings
        self._rng = rng
        self._calls: dict[NodeId, _Calls] = {}
        self._waits = Waits()
        self._not_before = NEVER

    def __contains__(self, node: NodeId) -> bool:
        return node in self._calls

    def __len__(self) -> int:
        return len(self._calls)

    def nodes(self) -> Iterable[NodeId]:
        return self._calls.keys()

    def add(self, node: NodeId, at: float) -> None:
        self._calls[node] = _Calls(self._settings.dead_probe_every_s)
        self._waits.set(node, at)

    def drop(self, node: NodeId) -> None:
        if self._calls.pop(node, None) is not None:
            self._waits.drop(node)

    def all_due(self, at: float) -> None:
        for node in self._calls:
            self._waits.set(node, at)

    def hint(self, node: NodeId, now: float) -> None:
        """It may be there again: do not wait for its turn, but do not repeat yourself either."""
        calls, at = self._calls.get(node), self._waits.get(node)
        if calls is not None and at is not None:
            again = max(now, calls.called_at + self._settings.repeat_note_s)
            self._waits.set(node, min(at, again))

    def reached(self, node: NodeId, now: float) -> None:
        """There is a way to it since just now: whatever was called before did not get there."""
        if node in self._calls:
            self._calls[node].reached_at = now
            self._waits.set(node, now)

    def stale(self, node: NodeId, now: float) -> bool:
        """Whether the way to it is as old as a call that brought nothing."""
        calls = self._calls[node]
        patience_s = self._settings.dead_probe_every_s
        return calls.called_at != NEVER and now - calls.reached_at >= patience_s

    def called(self, node: NodeId, now: float) -> None:
        calls = self._calls.get(node)
        if calls is not None:
            calls.called_at = now
            self._waits.set(node, now + calls.pause_s * (0.75 + 0.5 * self._rng.random()))
            calls.pause_s = min(calls.pause_s * 2, self._pause_s_max())

    def due(self, now: float, *, may_speak: bool) -> list[NodeId]:
        """Whom to call at this moment; a call that nobody hears is none."""
        due = self._waits.due(now) if now >= self._not_before else []
        if not due:
            return due
        if not may_speak:
            for node in due:
                self._waits.set(node, now + self._settings.coalesce_s)
            return []
        if len(due) > self._settings.flood_nodes_max:
            self._not_before = now + self._settings.coalesce_s
            due = sorted(self._rng.sample(due, self._settings.rumour_fanout))
        return due

    def next_deadline(self) -> float | None:
        at = self._waits.next()
        return None if at is None else max(at, self._not_before)

    def _pause_s_max(self) -> float:
        """Many that are lost are each called more rarely, so that the whole stays two pings a second."""
        return max(self._settings.dead_probe_s_max, len(self) * self._settings.probe_every_s)
