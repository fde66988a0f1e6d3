"""What a worker promises of order and of ends: first come, first served, and nobody is ended without a word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import (
    Effect,
    Event,
    ExecutorUp,
    Kill,
    Received,
    RosterChanged,
    Run,
    Send,
    StopAsked,
)
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Adopt, Assign, End, Have, Holding, Returned
from openclaw.notes import LoadChanged, Note
from openclaw.records import ONE_SLOT, State
from sims.properties.attempts import Key
from sims.properties.base import Property
from sims.properties.views import Inside, Views, enrolled

if TYPE_CHECKING:
    from sims.host import Host


class FirstComeFirstServed(Inside):
    name = "first come, first served"
    sentence = (
        "A worker starts what waits in the order in which it came, but what must wait for a lease first, and leaves no "
        "room that the first fits in."
    )
    hears = (Assign, End, RosterChanged)
    says = (Returned, Have, Run, LoadChanged)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._waiting: dict[tuple[Host, str], dict[Key, None]] = {}
        self._large: set[Host] = (
            set()
        )  # has ever been given what takes more than a slot: it may have to wait for room

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        if host.node is None:
            return
        waiting = self._waiting.setdefault((host, host.node.boot), {})
        match event:
            case Received(message=Assign(boot=boot, items=items)) if boot == host.node.boot:
                for item in items:
                    if not item.no_overlap:
                        waiting.setdefault((item.task, item.token))
                    if item.needs.size != ONE_SLOT:
                        self._large.add(host)
            case Received(message=End(items=ends)):
                for key in ends:
                    waiting.pop(key, None)
            case RosterChanged(members=members):
                for key in [key for key in waiting if not enrolled(members, key[1].owner)]:
                    del waiting[key]
            case _:
                pass
        for effect in effects:
            for key in _given_back(effect):
                waiting.pop(key, None)
        for effect in effects:
            if isinstance(effect, Run):
                self._judge(host, waiting, (effect.task, effect.token))
            elif isinstance(effect, LoadChanged):
                self._idle(host, event, effect)

    def _judge(self, host: Host, waiting: dict[Key, None], key: Key) -> None:
        if key not in waiting:
            return  # asked of the executor again, which had not heard of it
        task, token = key
        first = next(iter(waiting))[0]
        if first != task:
            self.fail(f"{host.name} starts {task} before {first}, which came earlier")
        for older in [other for other in waiting if other[0] == task and other[1] <= token]:
            del waiting[older]  # a newer attempt takes the place of an older one

    def _idle(self, host: Host, event: Event | Note, load: LoadChanged) -> None:
        view = self._views.of(host)
        up = view.executor_up or isinstance(event, ExecutorUp)
        if (
            up
            and host not in self._large
            and load.queued
            and load.running < host.meta.slots
            and not view.stopping
        ):
            self.fail(f"{host.name} runs {load.running} of {host.meta.slots} while {load.queued} wait")


def _given_back(effect: Effect) -> list[Key]:
    match effect:
        case Send(message=Returned(items)):
            return [(refused.task, refused.token) for refused in items]
        case Send(message=Have(items=rows)):
            return [(task, token) for task, token, holding in rows if holding is not Holding.WAITING]
        case _:
            return []


class KilledWhenTold(Inside):
    name = "killed when told"
    sentence = (
        "What runs is ended only when its owner says so, its node stops, or nobody knows it; and what its owner ended "
        "before it began never does."
    )
    hears = (Adopt, End, StopAsked)
    says = (Kill, Run)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._told: dict[Host, set[tuple[TaskId, Token, str]]] = {}
        self._adopted: set[tuple[NodeId, TaskId, Token]] = set()  # by whoever owns their tasks now
        self._stopping: set[str] = set()

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        told = self._told.setdefault(host, set())
        match event:
            case Received(message=Adopt(items=adopted), sender=sender):
                self._adopted.update((sender, task, token) for task, token, _ in adopted)
            case Received(message=End(items=items, reason=reason), sender=sender):
                for task, token in items:
                    if token.owner == sender or (sender, task, token) in self._adopted:
                        told.add((task, token, reason))
            case StopAsked(keep=False) if host.node is not None:
                self._stopping.add(host.node.boot)
            case _:
                pass
        for effect in effects:
            if isinstance(effect, Kill) and not self._allowed(host, event, effect):
                self.fail(f"{host.name} ends {effect.task} ({effect.reason}), which nobody asked for")
            if isinstance(effect, Run) and (effect.task, effect.token) in {key[:2] for key in told}:
                self.fail(f"{host.name} begins {effect.task} under {effect.token}, which it was told to end")

    def _allowed(self, host: Host, event: Event | Note, kill: Kill) -> bool:
        if kill.reason == "stop":
            return host.node is not None and host.node.boot in self._stopping
        if isinstance(event, RosterChanged):
            return kill.reason == "cancel" and not enrolled(event.members, kill.token.owner)
        stray = isinstance(event, ExecutorUp) and kill.reason == "superseded"
        return stray or (kill.task, kill.token, kill.reason) in self._told[host]


class NobodyEndsWhatCounts(Property):
    name = "what counts goes on"
    sentence = "An owner ends the attempt that counts only to cancel it."
    says = (End,)

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(to=to, message=End(items=items, reason=reason)):
                for task, token in items:
                    row = host.disk.progress(task)
                    if row is None or row.token != token or row.worker != to:
                        continue
                    if reason == "superseded" and row.state in (State.PLACED, State.RUNNING):
                        self.fail(f"{host.name} ends {task} on {to}, where it is {row.state}")
                    if reason == "cancel" and row.state is not State.CANCELLING and not row.state.final:
                        self.fail(f"{host.name} cancels {task}, which is {row.state}")
            case _:
                pass
