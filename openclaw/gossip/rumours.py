"""News on its way: what is piggybacked on every message, and how often.

Each rumour is sent a bounded number of times, least sent first, which reaches everyone with high probability
(SWIM: a factor times the logarithm of the mesh). A newer claim about a node replaces the older ones at once,
so nothing that is known to be outdated is ever repeated. The queue is bounded by what was sent most often.

What a message or a piece of news costs does not grow with the queue: in a mesh that starts, everyone is news.
"""

from __future__ import annotations

from itertools import islice
from math import ceil, log2

from openclaw.config import Settings
from openclaw.gossip.member import claim
from openclaw.ids import NodeId
from openclaw.messages import Rumour


class Rumours:
    """The queue. Accusations of one suspect by different accusers are different news."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._sent: dict[NodeId, dict[Rumour, int]] = {}  # of each node: how often
        self._levels: dict[int, dict[Rumour, None]] = {}  # the same by how often, the longest waiting first
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, rumour: Rumour) -> None:
        for held in tuple(self._sent.get(rumour.node, ())):
            if held.accuser == rumour.accuser or claim(held) != claim(rumour):
                self._remove(held)
        if self._size >= self._settings.rumours_queued_max:
            self._remove(next(iter(self._levels[max(self._levels)])))
        self._add(rumour, 0)

    def drop(self, node: NodeId) -> None:
        for held in tuple(self._sent.get(node, ())):
            self._remove(held)

    def pick(self, members: int, copies: int = 1) -> tuple[Rumour, ...]:
        """What the next message carries, charged for `copies` of it."""
        if not self._size:
            return ()
        chosen: list[tuple[Rumour, int]] = []
        for sent, level in sorted(self._levels.items()):
            left = self._settings.rumours_per_message_max - len(chosen)
            chosen += ((rumour, sent) for rumour in islice(level, left))
        budget = self._settings.rumour_sends_factor * ceil(log2(members + 1))
        for rumour, sent in chosen:
            self._remove(rumour)
            if sent + copies < budget:
                self._add(rumour, sent + copies)
        return tuple(rumour for rumour, _ in chosen)

    def _add(self, rumour: Rumour, sent: int) -> None:
        self._sent.setdefault(rumour.node, {})[rumour] = sent
        self._levels.setdefault(sent, {})[rumour] = None
        self._size += 1

    def _remove(self, rumour: Rumour) -> None:
        of_node = self._sent[rumour.node]
        level = self._levels[of_node[rumour]]
        del level[rumour]
        if not level:
            del self._levels[of_node[rumour]]
        del of_node[rumour]
        if not of_node:
            del self._sent[rumour.node]
        self._size -= 1
