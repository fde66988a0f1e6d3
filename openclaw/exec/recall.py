"""Work that waits at a worker while another has nothing to do: who is asked to give some of it back.

Grants run ahead of slots for short tasks, and sometimes a long one comes first. Promises: nobody is asked while no
other worker has a free slot that nothing wants; a worker is asked for half of what waits there, so that both have work;
one that has nothing to give is asked ever more rarely.
"""

from __future__ import annotations

from collections.abc import Iterable

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Send
from openclaw.exec.seat import Seat
from openclaw.ids import Epoch


def recall(
    hoarding: Iterable[Seat], idle: Iterable[Seat], epoch: Epoch, now: float, settings: Settings
) -> tuple[list[Effect], float | None]:
    """Asks the workers with the longest queues, one for each of `idle`, the emptiest first; and when to look again."""
    longest = sorted(hoarding, key=lambda seat: (-seat.waiting, seat.node))
    ready = [seat for seat in longest if seat.asked_s + seat.pause_s <= now]
    emptiest = sorted(idle, key=lambda seat: (seat.load - seat.slots, seat.node))
    effects: list[Effect] = []
    for full, empty in zip(ready, emptiest, strict=False):
        full.asked_s = now
        full.pause_s = min(max(2 * full.pause_s, settings.recall_s_min), settings.recall_s_max)
        effects.append(Send(full.node, m.Recall(epoch, (full.waiting + 1) // 2, empty.node)))
    more = [seat.asked_s + seat.pause_s for seat in longest]
    return effects, min(more, default=None)
