"""What becomes of a cancellation, wherever somebody asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import CancelAsked, Effect, Event, Kill, Received, Send, Started
from openclaw.ids import TaskId, owner_of
from openclaw.messages import Cancel, End
from openclaw.notes import TaskMoved
from openclaw.records import State
from sims.properties.base import Property
from sims.properties.views import clock

if TYPE_CHECKING:
    from sims.host import Host


class CancelReachesItsWorker(Property):
    name = "cancel"
    sentence = (
        "Who asks for a cancellation, anywhere, gets one: its owner is told, and cancels at once, or by telling the "
        "worker that it knows of, or the task was done."
    )
    hears = (CancelAsked, Cancel, Started)
    says = (TaskMoved, End, Kill)

    def __init__(self) -> None:
        self._telling: dict[tuple[Host, TaskId], float] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):  # what it asked of its former self may not have come to its disk
            self._telling = {key: at for key, at in self._telling.items() if key[0] is not host}
        for effect in effects:
            match effect:
                case TaskMoved(task=task, state=State.CANCELLING):
                    row = host.node.owner.active(task) if host.node is not None else None
                    if row is not None and not row.takeover:  # who took it over asks everybody first
                        self._telling[host, task] = clock(host)
                case Send(message=End(items=items, reason="cancel")):
                    for task, _ in items:
                        self._telling.pop((host, task), None)
                case Kill(task=task, reason="cancel"):  # the worker is the owner itself: nothing is sent
                    self._telling.pop((host, task), None)
                case _:
                    pass
        match event:
            case CancelAsked(tasks=tasks):
                self._asked(host, tasks)
                self._passed_on(host, tasks, effects)
            case Received(message=Cancel(tasks=tasks)):
                self._asked(host, tasks)
            case _:
                pass

    def _passed_on(self, host: Host, tasks: Sequence[TaskId], effects: Sequence[Effect]) -> None:
        said = [
            (e.to, e.message.tasks) for e in effects if isinstance(e, Send) and isinstance(e.message, Cancel)
        ]
        for task in tasks:
            owner = owner_of(task)
            if (
                host.disk.submission(task) is None
                and owner != host.id
                and not any(to == owner and task in passed_on for to, passed_on in said)
            ):
                self.fail(f"{host.name} was asked to cancel {task}, and does not tell {owner}")

    def _asked(self, host: Host, tasks: Sequence[TaskId]) -> None:
        for task in tasks:
            row = host.node.owner.active(task) if host.node is not None else None
            if row is not None and row.state is not State.CANCELLING and not row.state.final:
                self.fail(f"{host.name} was asked to cancel {task}, which stays {row.state}")

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, TaskMoved) and effect.state.final:
            told_at = self._telling.pop((host, effect.task), None)
            if told_at is not None and clock(host) - told_at > 0.5:
                self.fail(f"{host.name} never told the worker of {effect.task} to end it")
