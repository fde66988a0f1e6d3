"""Commands that came before there was a slot for them.

Promises: first come, first served; none starts past the slots that there are; what waits longer than HAND_BACK_S can
be handed back, and then never starts from here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from openclaw.executor.process import Spec

HAND_BACK_S = 0.1
FOREVER = float("inf")


class Queue:
    def __init__(self) -> None:
        self.taken = 0  # slots, by the commands that run
        self.others = 0  # and by what else does
        self._waiting: OrderedDict[str, tuple[Spec, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, name: str) -> bool:
        return name in self._waiting

    def __iter__(self) -> Iterator[Spec]:
        return (spec for spec, _ in self._waiting.values())

    def fits(self, spec: Spec, slots: int) -> bool:
        """Whether it may start now where there are `slots`. What is larger than all of them runs alone."""
        taken = self.taken + self.others
        return not taken or taken + spec.slots <= slots

    def add(self, name: str, spec: Spec, now: float) -> None:
        self._waiting[name] = spec, now + HAND_BACK_S

    def take(self, slots: int) -> tuple[str, Spec] | None:
        """The next, if there is room for it."""
        name = next(iter(self._waiting), None)
        if name is None or not self.fits(self._waiting[name][0], slots):
            return None
        return name, self._waiting.pop(name)[0]

    def drop(self, name: str) -> Spec | None:
        spec, _ = self._waiting.pop(name, (None, 0.0))
        return spec

    @property
    def due(self) -> float:
        """When the first has waited long enough."""
        return next((at for _, at in self._waiting.values()), FOREVER)

    def overdue(self, now: float) -> list[Spec]:
        """All that waits, the last first, if the first has waited long enough: what it waits for is long."""
        return self.clear()[::-1] if now >= self.due else []

    def clear(self) -> list[Spec]:
        specs = list(self)
        self._waiting.clear()
        return specs
