"""Which property watches what: each hook calls only those that have something to say to it.

So a property costs nothing at the steps that it does not care about, and a world without properties nothing at all.
Whom a certain mixture of kinds concerns is found out once, and looked up from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import inf
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Store
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import AnyMessage, Beat, Digest, Rumour
from openclaw.notes import Note
from openclaw.records import Exit
from sims.properties import Property
from sims.properties.membership import HEADED
from sims.properties.views import Step, Views

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World

Handled = tuple[Callable[["Host", Event, Sequence[Effect]], None], ...]
Performed = tuple[Callable[["Host", Effect], None], ...]
Kinds = frozenset[type]
_PACKED = (Received, Send)
_NOTHING: Kinds = frozenset()


def kind(what: Event | Effect | Note) -> type:
    """What an event or effect is about: of a message, which one."""
    cls = type(what)
    return type(what.message) if cls is Received or cls is Send else cls  # type: ignore[union-attr]


def kinds(what: Event | Effect | Note) -> Kinds:
    """All that this is about, and what its message carries."""
    if not isinstance(what, _PACKED):
        cls: type = type(what)
        return _kinds(cls)
    message = what.message
    if isinstance(message, HEADED):
        head = message.head
        return _kinds(type(message), bool(head.rumours), bool(head.beats))
    return _kinds(type(message), isinstance(message, Digest))


@cache
def _kinds(about: type, rumours: bool = False, beats: bool = False) -> Kinds:
    return frozenset([about] + [Rumour] * rumours + [Beat] * beats)


def _all_kinds(those: Sequence[Event | Effect | Note]) -> Kinds:
    if not those:
        return _NOTHING
    return kinds(those[0]) if len(those) == 1 else _NOTHING.union(*map(kinds, those))


class Hooks:
    def __init__(self, properties: Sequence[Property]) -> None:
        def own(hook: str) -> tuple[Property, ...]:
            return tuple(
                prop for prop in properties if getattr(type(prop), hook) is not getattr(Property, hook)
            )

        self.delivered: tuple[Callable[[Host, NodeId, AnyMessage], None], ...] = tuple(
            prop.delivered for prop in own("delivered")
        )
        self.committing: tuple[Callable[[Host, Sequence[Store]], None], ...] = tuple(
            prop.committing for prop in own("committing")
        )
        self.started: tuple[Callable[[Host, Start], None], ...] = tuple(
            prop.started for prop in own("started")
        )
        self.ended: tuple[Callable[[Host, tuple[TaskId, Token], Exit], None], ...] = tuple(
            prop.ended for prop in own("ended")
        )
        self._stepped = own("stepped")
        self._handled, self._performed = own("handled"), own("performed")
        self._views = next((prop for prop in properties if isinstance(prop, Views)), None)
        self._handled_by: dict[tuple[Kinds, Kinds, tuple[type, ...]], Handled] = {}
        self._performed_by: dict[type, Performed] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        """What a node sends to itself counts as well."""
        if not self._handled:
            return
        views = self._views
        steps: Sequence[Step] = ((event, effects),) if views is None else views.steps(host, event, effects)
        times: tuple[type, ...] = () if views is None else views.times(host)
        if len(steps) == 1:
            heard, said = kinds(steps[0][0]), _all_kinds(steps[0][1])
        else:
            heard = _all_kinds([inner for inner, _ in steps])
            said = _all_kinds([effect for _, made in steps for effect in made])
        key = (heard, said, times)
        concerned = self._handled_by.get(key)
        if concerned is None:
            concerned = self._handled_by[key] = tuple(
                prop.handled for prop in self._handled if _concerns(prop, heard.union(times), said)
            )
        for tell in concerned:
            tell(host, event, effects)

    def performed(self, host: Host, effect: Effect) -> None:
        said = kind(effect)
        concerned = self._performed_by.get(said)
        if concerned is None:
            concerned = self._performed_by[said] = tuple(
                prop.performed for prop in self._performed if prop.says is None or said in prop.says
            )
        for tell in concerned:
            tell(host, effect)

    def stepped(self, world: World) -> float:
        """Tell those that watch the world as a whole; when to tell them again."""
        for prop in self._stepped:
            prop.stepped(world)
        return world.now + min((prop.every_s for prop in self._stepped), default=inf)


def _concerns(prop: Property, heard: Kinds, said: Kinds) -> bool:
    if prop.hears is None or not heard.isdisjoint(prop.hears):
        return True
    return prop.says is None or not said.isdisjoint(prop.says)
