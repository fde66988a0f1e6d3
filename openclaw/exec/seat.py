"""A worker as the leader counts it: what it has, what it reported, what was granted and not yet seen there.

Promises: what a grant takes is counted from the instant that it is given until the worker took it, its owner gave it
back, or its lease is over; a report that was sent before a grant arrived does not wipe that out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from openclaw.ids import NodeId
from openclaw.records import ONE_SLOT, Size


@dataclass(slots=True, eq=False)
class Seat:
    """`load`, `memory_bytes` and `gpus` are taken of `slots` (none while it drains) and of what `whole` has."""

    node: NodeId
    boot: str
    slots: int
    whole: Size = ONE_SLOT  # its slots as of the last report stand in `slots`
    claimed: bool = False  # in this pass: something waits for a slot here that may not run ahead
    waiting: int = 0  # of its tasks, as of its last report
    asked_s: float = float("-inf")  # when it was last asked to give some of them back
    pause_s: float = 0.0  # until it is asked again, unless it gave some
    load: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    granted: dict[int, tuple[int, Size]] = field(
        default_factory=dict
    )  # by number of the grant: so many of a size

    def fits(self, size: Size) -> bool:
        """Whether a task of `size` could start there now, as far as the leader knows."""
        return (
            self.load + size.slots <= self.slots
            and self.memory_bytes + size.memory_bytes <= self.whole.memory_bytes
            and self.gpus + size.gpus <= self.whole.gpus
        )

    def holds(self, size: Size) -> bool:
        """Whether it would have room for it, if nothing else were there."""
        return (
            size.slots <= self.slots
            and size.memory_bytes <= self.whole.memory_bytes
            and size.gpus <= self.whole.gpus
        )

    def take(self, size: Size, count: int = 1) -> None:
        self.load += count * size.slots
        self.memory_bytes += count * size.memory_bytes
        self.gpus += count * size.gpus

    def report(self, size: Size) -> None:
        """All that it has takes `size`; what is on its way there comes on top."""
        self.load, self.memory_bytes, self.gpus = size.slots, size.memory_bytes, size.gpus
        for count, each in self.granted.values():
            self.take(each, count)

    def grant(self, number: int, size: Size, count: int) -> None:
        """`count` places, which `take` has counted already, go out under this number: all of one size."""
        before = self.granted.get(number, (0, size))[0]
        self.granted[number] = (before + count, size)

    def release(self, number: int, count: int | None = None) -> None:
        """`count` places of a grant (None is all) are no longer outstanding: taken, given back, or expired."""
        left, size = self.granted.pop(number, (0, ONE_SLOT))
        released = left if count is None else min(left, count)
        self.take(size, -released)
        if released < left:
            self.granted[number] = (left - released, size)
