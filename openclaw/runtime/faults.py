"""Fault points of a node (`openclaw.faultpoints`): one at everything that its core stores, says, hears or has done.

The taps below wrap what the node is put together from, once, at its start: when no test asked for faults they return
it as it is. A point is named by what happens: `storing.` and `stored.` around a commit, `sent.` once a message has
left, `received.` before the core hears of it, `performed.` after an effect, `answered.` when a request's last frame is
out. What a task's rows and copies say is part of the name, since that is what a step of its life is: `stored.progress.
placed`, `sent.Guard.final`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeVar

from openclaw.effects import Effect, Event, Received, Store
from openclaw.faultpoints import FaultFile
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage, Demand, Guard
from openclaw.records import Attempt, Copy, Progress, State
from openclaw.runtime.control import Emit, Frame, Operation

T = TypeVar("T")
SendMessage = Callable[[NodeId, AnyMessage], bool]


class Faults:
    """The taps of one node. `file` is None unless a test asked for faults."""

    def __init__(self, file: FaultFile | None) -> None:
        self._file = file

    def committing(self, commit: Callable[[Sequence[Store]], None]) -> Callable[[Sequence[Store]], None]:
        if (file := self._file) is None:
            return commit

        def faulty(stores: Sequence[Store]) -> None:
            for store in stores:
                file.passed("storing." + row_name(store))
            commit(stores)
            for store in stores:
                file.passed("stored." + row_name(store))

        return faulty

    def performing(self, perform: Callable[[Sequence[Effect]], None]) -> Callable[[Sequence[Effect]], None]:
        if (file := self._file) is None:
            return perform

        def faulty(effects: Sequence[Effect]) -> None:
            perform(effects)
            for effect in effects:
                file.passed("performed." + type(effect).__name__)

        return faulty

    def sending(self, send: SendMessage) -> SendMessage:
        if (file := self._file) is None:
            return send

        def faulty(to: NodeId, message: AnyMessage) -> bool:
            left = send(to, message)
            if left:
                file.passed("sent." + message_name(message))
            return left

        return faulty

    def hearing(self, take: Callable[[Event], T]) -> Callable[[Event], T]:
        if (file := self._file) is None:
            return take

        def faulty(event: Event) -> T:
            file.passed("received." + event_name(event))
            return take(event)

        return faulty

    def answering(self, operations: dict[str, Operation]) -> dict[str, Operation]:
        if (file := self._file) is None:
            return operations
        return {name: _answered(file, name, operation) for name, operation in operations.items()}


def _answered(file: FaultFile, name: str, operation: Operation) -> Operation:
    async def faulty(request: Frame, emit: Emit) -> Frame:
        answer = await operation(request, emit)
        asyncio.get_running_loop().call_soon(file.passed, "answered." + name)  # by then it is written
        return answer

    return faulty


def row_name(store: Store) -> str:
    match store.value:
        case None:
            return f"{store.table}.gone"
        case Progress(state=state) | Copy(progress=Progress(state=state)):
            return f"{store.table}.{_state(state)}"
        case Attempt(exit=exit):
            return f"{store.table}.{'running' if exit is None else 'final'}"
        case _:
            return str(store.table)


def message_name(message: AnyMessage) -> str:
    name = type(message).__name__
    match message:
        case Guard(items=(*_, kept)):
            return f"{name}.{_state(kept.progress.state)}"
        case Demand(rows=()):
            return f"{name}.none"
        case _:
            return name


def event_name(event: Event) -> str:
    return message_name(event.message) if isinstance(event, Received) else type(event).__name__


def _state(state: State) -> str:
    return "final" if state.final else str(state)
