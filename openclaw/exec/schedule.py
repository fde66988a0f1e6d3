"""Least tasks: which worker gets the next task, by the leader's own count.

Promises: a more urgent class is served first; among equals owners and jobs take turns, one task each (deficit
round robin with equal costs); each task goes to the eligible worker with the fewest tasks per slot, ties by
fewest tasks and then by lot (a task counts once for each slot that it takes); no worker is filled past what its
slots and the class's run-ahead allow, nor with what asks for more than a slot past what it has.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import groupby

from openclaw.effects import Rng
from openclaw.exec.seat import Seat
from openclaw.ids import NodeId
from openclaw.records import ONE_SLOT, Needs, Size

Flow = tuple[NodeId, str]
"""An owner and one of its jobs: what takes turns."""


@dataclass(slots=True, eq=False)
class Want:
    """One class of one owner. It may fill a worker to `depth` tasks a slot, if each takes one slot and no more."""

    owner: NodeId
    row: int
    needs: Needs
    priority: int
    job: str
    count: int
    depth: float = 1.0
    runtime_s: float = -1.0
    places: dict[Seat, int] = field(default_factory=dict)
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.needs.size


class Scheduler:
    """Remembers only whose turn it is."""

    def __init__(self, rng: Rng, flows_max: int) -> None:
        self._rng = rng
        self._flows_max = flows_max
        self._turn: dict[Flow, int] = {}
        self._turns = 0

    def place(self, wants: Sequence[Want], seats_for: Callable[[Needs], list[Seat]]) -> int:
        """Fill `places` of the wants and raise the load of the seats; how many places that were."""
        heaps: dict[Needs, _Heap] = {}
        placed = 0
        for _, equals in groupby(sorted(wants, key=_urgency), key=_urgency):
            queues: dict[Flow, deque[Want]] = {}
            for want in equals:
                if want.needs not in heaps:
                    heaps[want.needs] = self._heap(seats_for(want.needs))
                queues.setdefault((want.owner, want.job), deque()).append(want)
            order = deque(sorted(queues.items(), key=lambda flow: (self._turn.get(flow[0], 0), flow[0])))
            placed += self._round_robin(order, heaps)
        return placed

    def _heap(self, seats: list[Seat]) -> _Heap:
        lot = self._rng.random
        heap = [(seat.load / seat.slots, seat.load, lot(), i, seat) for i, seat in enumerate(seats)]
        heapify(heap)
        return heap

    def _round_robin(self, order: deque[tuple[Flow, deque[Want]]], heaps: dict[Needs, _Heap]) -> int:
        placed = 0
        while order:
            flow, wants = order[0]
            want = wants[0]
            seat = _fewest(heaps[want.needs], want) if want.count > 0 else None
            if seat is None:
                wants.popleft()
                if not wants:
                    order.popleft()
                continue
            want.count -= 1
            want.places[seat] = want.places.get(seat, 0) + 1
            placed += 1
            if len(order) > 1:
                order.rotate(-1)
                self._served(flow)
        return placed

    def _served(self, flow: Flow) -> None:
        if len(self._turn) >= self._flows_max:
            self._turn.clear()
        self._turns += 1
        self._turn[flow] = self._turns


_Heap = list[tuple[float, int, float, int, Seat]]


def _fewest(heap: _Heap, want: Want) -> Seat | None:
    """The seat with the fewest tasks a slot, one task fuller now; None when all are full.

    The heap is lazy: loads only rise during a pass, so an entry that is too low is put right when it surfaces.
    """
    if want.size is not ONE_SLOT:
        return _fitting(heap, want.size)
    depth = want.depth
    while heap:
        ratio, load, lot, i, seat = heap[0]
        if load != seat.load:
            heapreplace(heap, (seat.load / seat.slots, seat.load, lot, i, seat))
            continue
        if ratio >= depth:
            return None
        load = seat.load = load + 1
        heapreplace(heap, (load / seat.slots, load, lot, i, seat))
        return seat
    return None


def _fitting(heap: _Heap, size: Size) -> Seat | None:
    """As `_fewest`, of the seats that have room for the whole of `size` now."""
    passed: _Heap = []
    found: Seat | None = None
    while heap and found is None:
        _, load, lot, i, seat = heap[0]
        if load == seat.load and not seat.fits(size):
            passed.append(heappop(heap))
            continue
        if load == seat.load:
            seat.take(size)
            found = seat
        heapreplace(heap, (seat.load / seat.slots, seat.load, lot, i, seat))
    for entry in passed:
        heappush(heap, entry)
    return found


def _urgency(want: Want) -> int:
    return -want.priority
