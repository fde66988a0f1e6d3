"""Members only, and the worker has the last word: judged by what each node was told of the roster and of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Run, Send
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Assign
from openclaw.notes import Note
from openclaw.records import Needs
from sims.properties.base import Property
from sims.properties.placing import refused
from sims.properties.views import Inside, Views, enrolled

if TYPE_CHECKING:
    from sims.host import Host


class WorkerHasTheLastWord(Inside):
    name = "the last word"
    sentence = "What starts was submitted by a member that may, and is something that this worker takes."
    hears = (Assign,)
    says = (Run,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._needs: dict[tuple[Host, TaskId, Token], tuple[Needs, NodeId]] = {}

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        match event:
            case Received(message=Assign(items=items), sender=sender):
                for item in items:
                    self._needs[host, item.task, item.token] = (item.needs, sender)
            case _:
                pass
        for effect in effects:
            if isinstance(effect, Run):
                known = self._needs.get((host, effect.task, effect.token))
                why = (
                    "nobody gave it"
                    if known is None
                    else refused(known[0], host.id, known[1], self._views.of(host))
                )
                if why:
                    self.fail(f"{host.name} starts {effect.task}: {why}")


class MembersOnly(Property):
    name = "members only"
    sentence = "A stranger, or one that was revoked, is told nothing and changes nothing."

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if not isinstance(event, Received):
            return
        roster = self._views.of(host).roster
        if not roster or enrolled(roster, event.sender):
            return
        for effect in effects:
            if isinstance(effect, Send) and effect.to == event.sender:
                self.fail(f"{host.name} answers {effect.to}, which is not a member: {effect.message}")
