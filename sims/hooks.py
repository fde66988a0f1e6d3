"""Which property watches what: each hook calls only those that have something to say to it.

So a property costs nothing at the steps that it does not care about, and a world without properties nothing at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Store
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import AnyMessage
from openclaw.records import Exit
from sims.properties import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World


class Hooks:
    def __init__(self, properties: Sequence[Property]) -> None:
        def own(hook: str) -> list[Property]:
            return [prop for prop in properties if getattr(type(prop), hook) is not getattr(Property, hook)]

        self.delivered: tuple[Callable[[Host, NodeId, AnyMessage], None], ...] = tuple(
            prop.delivered for prop in own("delivered")
        )
        self.handled: tuple[Callable[[Host, Event, Sequence[Effect]], None], ...] = tuple(
            prop.handled for prop in own("handled")
        )
        self.committing: tuple[Callable[[Host, Sequence[Store]], None], ...] = tuple(
            prop.committing for prop in own("committing")
        )
        self.performed: tuple[Callable[[Host, Effect], None], ...] = tuple(
            prop.performed for prop in own("performed")
        )
        self.started: tuple[Callable[[Host, Start], None], ...] = tuple(
            prop.started for prop in own("started")
        )
        self.ended: tuple[Callable[[Host, tuple[TaskId, Token], Exit], None], ...] = tuple(
            prop.ended for prop in own("ended")
        )
        self.stepped: tuple[Callable[[World], None], ...] = tuple(prop.stepped for prop in own("stepped"))
