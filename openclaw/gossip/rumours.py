"""News on its way: what is piggybacked on every message, and how often.

Each rumour is sent a bounded number of times, least sent first, which reaches everyone with high probability
(SWIM: a factor times the logarithm of the mesh). A newer claim about a node replaces the older ones at once,
so nothing that is known to be outdated is ever repeated. The queue is bounded by its oldest.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from math import ceil, log2

from openclaw.config import Settings
from openclaw.gossip.member import claim
from openclaw.ids import NodeId
from openclaw.messages import Rumour


@dataclass(slots=True)
class _Queued:
    rumour: Rumour
    sent: int = 0


class Rumours:
    """The queue. Accusations of one suspect by different accusers are different news."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._queue: dict[tuple[NodeId, NodeId], _Queued] = {}

    def __len__(self) -> int:
        return len(self._queue)

    def put(self, rumour: Rumour) -> None:
        held = [key for key in self._queue if key[0] == rumour.node]
        for key in held:
            if claim(self._queue[key].rumour) != claim(rumour):
                del self._queue[key]
        key = (rumour.node, rumour.accuser)
        self._queue.pop(key, None)
        self._queue[key] = _Queued(rumour)
        while len(self._queue) > self._settings.rumours_queued_max:
            self._queue.pop(next(iter(self._queue)))

    def drop(self, node: NodeId) -> None:
        for key in [key for key in self._queue if key[0] == node]:
            del self._queue[key]

    def pick(self, members: int, copies: int = 1) -> tuple[Rumour, ...]:
        """What the next message carries, charged for `copies` of it."""
        if not self._queue:
            return ()
        limit = self._settings.rumours_per_message_max
        chosen = nsmallest(limit, self._queue.items(), key=lambda item: item[1].sent)
        budget = self._settings.rumour_sends_factor * ceil(log2(members + 1))
        for key, queued in chosen:
            queued.sent += copies
            if queued.sent >= budget:
                del self._queue[key]
        return tuple(queued.rumour for _, queued in chosen)
