"""Who should lead in which term: a total order that every node computes alike.

Hashing by term is the rotation: every term has a new order and nobody keeps a list of turns. The tier comes
first, so a laptop on battery leads only where nothing better lives.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from openclaw.ids import NodeId
from openclaw.records import Tier

_BEST_FIRST = tuple(Tier)


def rank(term: int, node: NodeId, tier: Tier) -> tuple[int, bytes]:
    """The place of `node` in `term`: the lower ranks better."""
    return _BEST_FIRST.index(tier), hashlib.sha256(f"{term}:{node}".encode()).digest()


def order(term: int, nodes: Iterable[NodeId], tier: Callable[[NodeId], Tier]) -> list[NodeId]:
    """Who may stand in `term`, best first.

    A `no_lead` node stands only where no other kind lives: a mesh of such nodes alone still needs a leader.
    """
    ranked = sorted(nodes, key=lambda node: rank(term, node, tier(node)))
    willing = [node for node in ranked if tier(node) is not Tier.NO_LEAD]
    return willing or ranked
