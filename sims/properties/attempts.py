"""What a worker promises of an attempt: it starts once at most, and its end is kept until the owner has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Send, Store
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Have, Holding, Returned
from openclaw.records import State, Table
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start


class TokensStartOnce(Property):
    name = "a token starts once"
    sentence = "A token starts at most once, and per worker and task the started tokens only rise."

    def __init__(self) -> None:
        self._hosts: dict[tuple[TaskId, Token], str] = {}
        self._highest: dict[tuple[str, TaskId], Token] = {}

    def started(self, host: Host, start: Start) -> None:
        key = (start.task, start.token)
        if key in self._hosts:
            self.fail(f"{start.token} of {start.task} starts on {host.name}, after {self._hosts[key]}")
        self._hosts[key] = host.name
        highest = self._highest.get((host.name, start.task))
        if highest is not None and start.token <= highest:
            self.fail(f"{host.name} starts {start.task} under {start.token} after {highest}")
        self._highest[host.name, start.task] = start.token


class OnceIsOnce(Property):
    name = "once"
    sentence = "A task that was submitted with --once starts at most once, ever."

    def __init__(self) -> None:
        self._seen: set[TaskId] = set()

    def started(self, host: Host, start: Start) -> None:
        owner = host.world.owner_host(start.task)
        submission = owner.disk.submission(start.task)
        if submission is not None and submission.once:
            if start.task in self._seen:
                self.fail(f"{start.task} starts again on {host.name}")
            self._seen.add(start.task)


class NotStartedIsKept(Property):
    name = "not started"
    sentence = "After a worker said that a token was not started, it starts none that is as low."

    def __init__(self) -> None:
        self._sworn: dict[tuple[NodeId, TaskId], Token] = {}

    def performed(self, host: Host, effect: Effect) -> None:
        if not isinstance(effect, Send):
            return
        match effect.message:
            case Returned(items):
                for refused in items:
                    self._swear(host.id, refused.task, refused.token)
            case Have(items=rows):
                for task, token, holding in rows:
                    if holding is Holding.NOT_STARTED:
                        self._swear(host.id, task, token)
            case _:
                pass

    def _swear(self, worker: NodeId, task: TaskId, token: Token) -> None:
        key = (worker, task)
        self._sworn[key] = max(token, self._sworn.get(key, token))

    def started(self, host: Host, start: Start) -> None:
        sworn = self._sworn.get((host.id, start.task))
        if sworn is not None and start.token <= sworn:
            self.fail(f"{host.name} starts {start.task} under {start.token} after it swore off {sworn}")


class OutcomesAreKept(Property):
    name = "outcomes are kept"
    sentence = "A worker lets an outcome go only when its owner has it on disk or no longer wants it."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if store.table is not Table.ATTEMPTS or store.value is not None:
                continue
            kept = host.disk.attempt(TaskId(store.key))
            if kept is None or kept.exit is None:
                continue
            row = host.world.owner_host(kept.task).disk.progress(kept.task)
            wanted = row is not None and row.state in (State.PLACED, State.RUNNING, State.CANCELLING)
            if row is not None and wanted and row.token == kept.token:
                self.fail(f"{host.name} drops {kept.task}, which its owner still has as {row.state}")
