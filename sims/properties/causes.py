"""What an owner and a worker may say of an attempt: only what they were told of that very one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import (
    Effect,
    Event,
    ExecutorDown,
    ExecutorUp,
    Received,
    Send,
    Started,
    Store,
    Submitted,
)
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import (
    Adopt,
    AnyMessage,
    Ask,
    Assign,
    End,
    Found,
    Guard,
    Have,
    Holding,
    Known,
    Outcomes,
    Returned,
    Seek,
    Superseded,
)
from openclaw.notes import MemberChanged, Note
from openclaw.records import Needs, Progress, State, Submission, Table
from sims.properties.views import Inside, Views

if TYPE_CHECKING:
    from sims.host import Host

Class = tuple[Needs, int, str]
"""What has the same needs, priority and job."""

_GIVEN_UP = (State.QUEUED, State.RETRYING, State.LOST)
_OF_OWNERS = (Guard, Known, Superseded, Found)
_OVER = (Holding.NOT_STARTED, Holding.MAYBE_STARTED)


class GivenUpForCause(Inside):
    name = "given up for cause"
    sentence = (
        "What a peer says ends an attempt that counts only if its own worker says it of that very token, or another "
        "owner of the task speaks."
    )
    hears = (Started, Returned, Have, Outcomes)
    says = (Store,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._rows: dict[Host, dict[TaskId, Progress]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._rows[host] = {}
        super().handled(host, event, effects)

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        rows = self._rows.setdefault(host, {})
        for effect in effects:
            match effect:
                case Store(value=Progress() as new):
                    old = rows.get(new.task) or host.disk.progress(new.task)
                    if isinstance(event, Received) and old is not None:
                        self._judge(host, event, old, new)
                    rows[new.task] = new
                case _:
                    pass

    def _judge(self, host: Host, event: Received, old: Progress, new: Progress) -> None:
        counts = old.state in (State.PLACED, State.RUNNING) and old.token is not None
        if not counts or new.state not in _GIVEN_UP or isinstance(event.message, _OF_OWNERS):
            return
        if event.sender != old.worker or (old.task, old.token) not in _spoken_of(event.message):
            said = type(event.message).__name__
            self.fail(
                f"{host.name} has {new.task} as {new.state}, which was {old.state} on {old.worker} under {old.token}, "
                f"after a {said} of {event.sender}"
            )


def _spoken_of(message: AnyMessage) -> list[tuple[TaskId, Token]]:
    """The attempts that are over, or never began, by this word of their worker."""
    match message:
        case Returned(items=refused):
            return [(one.task, one.token) for one in refused]
        case Outcomes(items=outcomes):
            return [(one.task, one.token) for one in outcomes]
        case Have(items=rows):
            return [(task, token) for task, token, holding in rows if holding in _OVER]
        case _:
            return []


class FirstInFirstPlaced(Inside):
    name = "first in, first placed"
    sentence = "Of the tasks of a class that were never placed an owner places the one that came first."
    hears = (Started,)
    says = (Store,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._lines: dict[Host, dict[Class, dict[TaskId, None]]] = {}
        self._classes: dict[Host, dict[TaskId, Class]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Started):
            self._lines[host], self._classes[host] = {}, {}
            restored = host.disk.restored()
            for submission, row in zip(restored.submissions, restored.progress, strict=True):
                if row.state is State.QUEUED and not row.attempt and not row.takeover:
                    self._joins(host, submission)
        super().handled(host, event, effects)

    def _joins(self, host: Host, submission: Submission) -> None:
        group = (submission.needs, submission.priority, submission.job)
        self._lines[host].setdefault(group, {})[submission.task] = None
        self._classes[host][submission.task] = group

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Store(value=Submission() as submission) if isinstance(event, Submitted):
                    self._joins(host, submission)
                case Store(value=Progress(state=State.PLACED) as row):
                    self._leaves(host, row.task, placed=True)
                case Store(table=Table.PROGRESS, key=key, value=row):
                    if not isinstance(row, Progress) or row.state is not State.QUEUED or row.attempt:
                        self._leaves(host, TaskId(key), placed=False)
                case _:
                    pass

    def _leaves(self, host: Host, task: TaskId, *, placed: bool) -> None:
        group = self._classes.get(host, {}).pop(task, None)
        if group is None:
            return
        line = self._lines[host][group]
        first = next(iter(line))
        if placed and first != task:
            self.fail(f"{host.name} places {task} before {first}, which came earlier")
        del line[task]


class AnswersAreInformed(Inside):
    name = "informed answers"
    sentence = (
        "A worker that is asked what it has answers once its executor has told what that holds, not before."
    )
    hears = (Started, Ask, Seek, Assign, Adopt, End, ExecutorUp, ExecutorDown)
    says = (Have, Found, MemberChanged)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._asked: defaultdict[Host, set[tuple[NodeId, object]]] = defaultdict(set)  # while it was away
        self._up: set[Host] = set()  # who has its executor

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        asked, away = self._asked[host], host not in self._up
        match event:
            case Started() | ExecutorDown():
                self._up.discard(host)
                asked.clear()
            case ExecutorUp():
                self._up.add(host)
                asked.clear()
            case Received(message=Ask(items=items), sender=sender) if away:
                asked.update((sender, key) for key in items)
            case Received(message=Seek(seq=seq), sender=sender) if away:
                asked.add((sender, seq))
            case Received(message=Assign(items=items), sender=sender):
                asked.difference_update((sender, (item.task, item.token)) for item in items)
            case Received(message=End(items=items), sender=sender):
                asked.difference_update((sender, key) for key in items)
            case Received(message=Adopt(items=adopted), sender=sender):
                asked.difference_update((sender, (task, token)) for task, token, _ in adopted)
            case MemberChanged(node=node):
                asked -= {one for one in asked if one[0] == node}  # who is back is told without asking
            case _:
                pass
        for effect in effects if asked else ():
            match effect:
                case Send(to=to, message=Have(items=rows)):
                    early = any((to, (task, token)) in asked for task, token, _ in rows)
                case Send(to=to, message=Found(seq=seq)):
                    early = (to, seq) in asked
                case _:
                    continue
            if early:
                self.fail(f"{host.name} answers {to} by {effect.message}, and its executor has not spoken")
