"""Least tasks: which worker gets the next task, by the leader's own count.

Promises: a class that has had no place for too long gets the next one, whatever its priority, so nothing starves; then
a more urgent class is served first; among equals owners take turns, and the jobs of an owner in its turns, one task
each (deficit round robin with equal costs); each task goes to the eligible worker with the fewest tasks per slot, ties
by fewest tasks and then by lot (a task counts once for each slot that it takes). No worker is filled past what its
slots and the class's run-ahead allow, nor with what asks for more than a slot past what it has; and where something
waits that may not run ahead, nothing does that is no more urgent.
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
"""An owner and one of its jobs: what takes turns. An owner's own turn is remembered under no job's name."""

_Jobs = deque[tuple[Flow, deque["Want"]]]
_OWNER = "\0"

SeatsFor = Callable[[Needs], list[Seat]]


@dataclass(slots=True, eq=False)
class Want:
    """One class of one owner. It may fill a worker to `depth` tasks a slot, if each takes one slot and no more.

    `since_s` is when it got a place last, or began to wait, on the leader's clock.
    """

    owner: NodeId
    row: int
    needs: Needs
    priority: int
    job: str
    count: int
    depth: float = 1.0
    runtime_s: float = -1.0
    since_s: float = 0.0
    places: dict[Seat, int] = field(default_factory=dict)
    size: Size = field(init=False)

    def __post_init__(self) -> None:
        self.size = self.needs.size

    @property
    def patient(self) -> bool:
        """It takes a slot that is free and waits behind nobody."""
        return self.depth <= 1 and self.size is ONE_SLOT


class Scheduler:
    """Remembers only whose turn it is."""

    def __init__(self, rng: Rng, flows_max: int, starve_s: float) -> None:
        self._rng = rng
        self._flows_max = flows_max
        self._starve_s = starve_s
        self._turn: dict[Flow, int] = {}
        self._turns = 0

    def place(self, wants: Sequence[Want], seats_for: SeatsFor, now: float) -> int:
        """Fill `places` of the wants and raise the load of the seats; how many places that were."""
        room = _Pass(self._rng, seats_for)
        starving = [want for want in wants if want.count > 0 and now - want.since_s >= self._starve_s]
        placed = _relieve(sorted(starving, key=_longest), room) if starving else 0
        for _, equals in groupby(sorted(wants, key=_urgency), key=_urgency):
            queues: dict[Flow, deque[Want]] = {}
            for want in equals:
                if want.count > 0:
                    room.claim(want)
                    queues.setdefault((want.owner, want.job), deque()).append(want)
            placed += self._round_robin(self._in_turn(queues), room)
        room.close()
        return placed

    def _in_turn(self, queues: dict[Flow, deque[Want]]) -> deque[tuple[Flow, _Jobs]]:
        """Owners, and the jobs of each, whoever was served longest ago first."""
        owners: dict[Flow, _Jobs] = {}
        for flow in sorted(queues, key=self._last):
            owners.setdefault((flow[0], _OWNER), deque()).append((flow, queues[flow]))
        return deque(sorted(owners.items(), key=lambda item: self._last(item[0])))

    def _round_robin(self, order: deque[tuple[Flow, _Jobs]], room: _Pass) -> int:
        placed = 0
        while order:
            owner, jobs = order[0]
            flow, wants = jobs[0]
            want = wants[0]
            seat = _fewest(room.heap(want.needs), want) if want.count > 0 else None
            if seat is None:
                _pass_over(order)
                continue
            want.count -= 1
            want.places[seat] = want.places.get(seat, 0) + 1
            placed += 1
            if len(jobs) > 1:
                jobs.rotate(-1)
                self._served(flow)
            if len(order) > 1:
                order.rotate(-1)
                self._served(owner)
        return placed

    def _last(self, flow: Flow) -> tuple[int, Flow]:
        return self._turn.get(flow, 0), flow

    def _served(self, flow: Flow) -> None:
        if len(self._turn) >= self._flows_max:
            self._turn.clear()
        self._turns += 1
        self._turn[flow] = self._turns


_Heap = list[tuple[float, int, float, int, Seat]]


class _Pass:
    """The seats of one pass, by fewest tasks a slot for each class of needs."""

    def __init__(self, rng: Rng, seats_for: SeatsFor) -> None:
        self._lot = rng.random
        self._seats_for = seats_for
        self._heaps: dict[Needs, _Heap] = {}
        self._claimed: set[Needs] = set()
        self.kept: Seat | None = None

    def heap(self, needs: Needs) -> _Heap:
        heap = self._heaps.get(needs)
        if heap is None:
            seats = enumerate(self._seats_for(needs))
            lot, kept = self._lot, self.kept
            heap = [(s.load / s.slots, s.load, lot(), i, s) for i, s in seats if s is not kept]
            heapify(heap)
            self._heaps[needs] = heap
        return heap

    def claim(self, want: Want) -> None:
        """From here on in this pass nothing runs ahead where `want` waits for a slot."""
        if want.patient and want.needs not in self._claimed:
            self._claimed.add(want.needs)
            for seat in self._seats_for(want.needs):
                seat.claimed = True

    def keep(self, want: Want) -> None:
        """The emptiest seat that is large enough takes nothing else in this pass, until what is large fits there."""
        if self.kept is None:
            able = [entry for entry in self.heap(want.needs) if entry[-1].holds(want.size)]
            self.kept = min(able)[-1] if able else None
            self._heaps.clear()

    def close(self) -> None:
        for needs in self._claimed:
            for seat in self._seats_for(needs):
                seat.claimed = False


def _pass_over(order: deque[tuple[Flow, _Jobs]]) -> None:
    """What is first finds no place any more in this pass."""
    jobs = order[0][1]
    jobs[0][1].popleft()
    if not jobs[0][1]:
        jobs.popleft()
    if not jobs:
        order.popleft()


def _relieve(starving: Sequence[Want], room: _Pass) -> int:
    """One place for each; at most one seat is kept free for what is too large to fit now."""
    placed = 0
    for want in starving:
        room.claim(want)
        seat = _fewest(room.heap(want.needs), want)
        if seat is not None:
            want.count -= 1
            want.places[seat] = want.places.get(seat, 0) + 1
            placed += 1
        elif want.size is not ONE_SLOT:
            room.keep(want)
    return placed


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
        if ratio >= 1 and seat.claimed:
            heappop(heap)
            continue
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


def _longest(want: Want) -> float:
    return want.since_s
