"""What a property is: something that watches every step of a world and may say no.

Safety raises `Violated` in the step that broke it. Liveness is asked once, after the faults have ended and the
stated time has passed: `unmet` says what is still not so. A property sees what an outsider could see: events,
effects, disks and real processes, and only in `unmet` what a node holds in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from openclaw.effects import Effect, Event, Store
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import AnyMessage
from openclaw.records import Exit

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World


class Violated(AssertionError):
    """A safety property does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Property:
    """`name` is short, `sentence` says what must hold. A subclass overrides the hooks that it needs.

    It may say what it cares about, which spares much time: `handled` is called when an event of a kind in `hears`,
    or an effect of a kind in `says`, went through the node; `performed` for effects in `says`. A message counts as
    what it is, be it heard or said, and as `Rumour` or `Beat` where it carries some. None stands for everything.
    """

    name = ""
    sentence = ""
    hears: ClassVar[tuple[type, ...] | None] = None
    says: ClassVar[tuple[type, ...] | None] = None
    every_s: ClassVar[float] = 0.0  # how long after one call of `stepped` the next may come

    def delivered(self, host: Host, sender: NodeId, message: AnyMessage) -> None:
        """A message reaches a node: it is in its inbox, and will be handled if the node lives on."""

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        """The core of this host has just handled `event`; nothing of `effects` has happened yet."""

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        """These rows are about to be on the host's disk, which still holds the old ones."""

    def performed(self, host: Host, effect: Effect) -> None:
        """This effect is leaving the core; everything stored with it is on disk, unless it leaves early."""

    def started(self, host: Host, start: Start) -> None:
        """A process has really started on this host."""

    def ended(self, host: Host, key: tuple[TaskId, Token], exit: Exit) -> None:
        """A process has really ended on this host."""

    def stepped(self, world: World) -> None:
        """The world has taken a step."""

    def unmet(self, world: World) -> list[str]:  # noqa: ARG002
        """What is not so, long after the last fault."""
        return []

    def shown(self, world: World) -> dict[str, float]:  # noqa: ARG002
        """What was counted on the way, for people: never a verdict."""
        return {}

    def fail(self, detail: str) -> None:
        raise Violated(self.name, f"{self.sentence} But: {detail}")
