"""Carries out committed effects, in their order: each kind has one place that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from openclaw.effects import Effect, Extend, Fetch, Forget, Kill, Recall, Recalled, Redial, Run, Send, Stopped
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Status
from openclaw.notes import (
    Accepted,
    Cloned,
    Duplicate,
    Forgotten,
    IncarnationRaised,
    LeaderChanged,
    MemberChanged,
    MetaLearned,
    RosterDiffers,
    TaskFetched,
    TaskMoved,
    Yielded,
)
from openclaw.records import Meta
from openclaw.runtime.context import Context
from openclaw.runtime.docs import node_ref, utc
from openclaw.runtime.feed import Line
from openclaw.runtime.retention import Retention
from openclaw.runtime.staging import Staging
from openclaw.runtime.submit import Submissions

FORGET_MAX = 4096  # in one frame


class Perform:
    """`perform(effects)` for `CoreLoop`; the callables are the services that a note concerns."""

    def __init__(
        self,
        context: Context,
        staging: Staging,
        submissions: Submissions,
        retention: Retention,
        *,
        meta_learned: Callable[[NodeId, Meta], None],
        roster_differs: Callable[[NodeId], None],
        stopped: Callable[[bool], None],
        cloned: Callable[[str], None],
        raised: Callable[[], None],
    ) -> None:
        self._context, self._staging = context, staging
        self._submissions, self._retention = submissions, retention
        self._meta_learned, self._roster_differs = meta_learned, roster_differs
        self._stopped, self._cloned, self._raised = stopped, cloned, raised

    def __call__(self, effects: Sequence[Effect]) -> None:
        runs: list[Run] = []
        over: list[tuple[TaskId, Token]] = []
        for effect in effects:
            match effect:
                case Forget(task, token):
                    over.append((task, token))
                case Run():
                    runs.append(effect)
                case Send(to, message):
                    self._context.send(to, message)
                case _:
                    if runs:  # a Kill must not overtake the Run that it ends
                        self._staging.run(runs)
                        runs = []
                    self._one(effect)
        if runs:
            self._staging.run(runs)
        for start in range(0, len(over), FORGET_MAX):
            self._context.link.forget(over[start : start + FORGET_MAX])

    def _one(self, effect: Effect) -> None:
        match effect:
            case TaskMoved():
                self._context.moves.moved(effect.task, ended=effect.state.final)
                self._context.feed.add(partial(self._task_line, effect, self._context.wall()))
            case TaskFetched(task):
                self._context.moves.moved(task)
            case Accepted():
                self._submissions.accepted(effect)
            case Forgotten():
                self._retention.forgotten(effect)
            case Kill():
                self._staging.kill(effect)
            case Extend(task, token, until_s):
                self._context.link.extend(task, token, until_s)
            case Redial(peer):
                self._context.transport.redial(peer)
            case Fetch():
                self._staging.fetch(effect)
            case Recall(number, tasks):
                self._context.post(Recalled(number, self._context.store.ends(tasks)))
            case Yielded(copies):
                for copy in copies:
                    self._context.moves.moved(copy.progress.task)
            case MetaLearned(node, _, meta):
                self._meta_learned(node, meta)
            case RosterDiffers(peer):
                self._roster_differs(peer)
            case Stopped(keep):
                self._stopped(keep)
            case MemberChanged(node, status):
                self._member_line(node, status)
            case LeaderChanged():
                self._leader_line(effect)
            case Duplicate(task, token):
                self._line("duplicate", f"{task} ran twice (attempt {token.attempt})", task=task)
            case Cloned(boot):
                self._cloned(boot)
            case IncarnationRaised():
                self._raised()
            case _:
                pass  # notes that only machines care about

    def _task_line(self, moved: TaskMoved, wall: float) -> Line:
        """Made when somebody reads it: there are several for every task, and mostly nobody does."""
        place = f" on {self._context.name_of(moved.worker)}" if moved.worker else ""
        reason = f": {moved.reason}" if moved.reason else ""
        text = f"{moved.task} {moved.state}{place}{reason}"
        return {"at": utc(wall), "kind": "task", "text": text, "task": moved.task, "state": str(moved.state)}

    def _member_line(self, node: NodeId, status: Status) -> None:
        name = self._context.name_of(node)
        self._line(
            "member",
            f"{name} is {status.name.lower()}",
            node=node_ref(node, self._context.name_of),
            state=status.name.lower(),
        )

    def _leader_line(self, changed: LeaderChanged) -> None:
        epoch = changed.epoch
        reason = f" ({changed.reason})" if changed.reason else ""
        if epoch is None:
            self._line("leader", f"nobody leads{reason}", leader=None)
            return
        leader = {**(node_ref(epoch.node, self._context.name_of) or {}), "term": epoch.term}
        self._line("leader", f"{leader['name']} leads term {epoch.term}{reason}", leader=leader)

    def _line(self, kind: str, text: str, **fields: object) -> None:
        line: Line = {"at": utc(self._context.wall()), "kind": kind, "text": text, **fields}
        self._context.feed.add(lambda: line)
