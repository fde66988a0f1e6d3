"""What a worker promises of an attempt: who may start it, that it starts once, and that its end is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openclaw.effects import (
    Effect,
    Event,
    ExecutorUp,
    Forget,
    ProcessExited,
    Received,
    RosterChanged,
    Run,
    Send,
    Store,
    Submitted,
)
from openclaw.ids import NO_EPOCH, Epoch, NodeId, TaskId, Token, owner_of
from openclaw.messages import Adopt, Assign, Found, Have, Holding, OutcomesStored, Returned, Seek
from openclaw.notes import Note
from openclaw.records import Attempt, EpochRow, Exit, State, Table
from sims.properties.base import Property
from sims.properties.views import Inside, Views, clock, enrolled

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start

Key = tuple[TaskId, Token]

LEASE_SLACK = 1.2  # clocks drift, and a message waits in an inbox


class TokensStartOnce(Property):
    name = "a token starts once"
    sentence = (
        "A token starts at most once, and per worker and task the started tokens only rise: those of one owner for "
        "ever, those of several as long as the worker does not restart. No two of a task run on one worker at once."
    )

    def __init__(self) -> None:
        self._hosts: dict[Key, str] = {}
        self._highest: dict[tuple[str, TaskId, object], Token] = {}

    def started(self, host: Host, start: Start) -> None:
        key = (start.task, start.token)
        if key in self._hosts:
            self.fail(f"{start.token} of {start.task} starts on {host.name}, after {self._hosts[key]}")
        self._hosts[key] = host.name
        if host.executor.running.count(start.task) > 1:
            self.fail(
                f"{host.name} starts {start.task} under {start.token} while another attempt of it runs there"
            )
        for scope in (start.token.claim, host.starts):
            highest = self._highest.get((host.name, start.task, scope))
            if highest is not None and start.token <= highest:
                self.fail(f"{host.name} starts {start.task} under {start.token} after {highest}")
            self._highest[host.name, start.task, scope] = start.token


class OnceIsOnce(Property):
    name = "once"
    sentence = "A task that was submitted with --once starts at most once, ever."

    hears = (Submitted,)
    says = ()

    def __init__(self) -> None:
        self._once: set[TaskId] = set()
        self._seen: set[TaskId] = set()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        if isinstance(event, Submitted):
            self._once.update(submission.task for submission in event.tasks if submission.once)

    def started(self, host: Host, start: Start) -> None:
        if start.task in self._once:
            if start.task in self._seen:
                self.fail(f"{start.task} starts again on {host.name}")
            self._seen.add(start.task)


@dataclass(frozen=True, slots=True)
class Order:
    """An assignment that has come, and whether its epoch was good when it came."""

    sender: NodeId
    boot: str
    epoch: Epoch
    payload: bytes
    fresh: bool


class OnlyWhatWasAssigned(Inside):
    name = "assigned"
    sentence = (
        "What runs was assigned to this start of this worker by the task's owner, in its own words, under an epoch "
        "that is no older than the worker's newest, or its predecessor's while a grant of it could be good."
    )
    hears = (Assign, Adopt)
    says = (Run,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._adopted: set[tuple[Host, TaskId, Token, NodeId]] = set()
        self._orders: dict[tuple[Host, Key], list[Order]] = {}
        self._epochs: dict[Host, tuple[Epoch, Epoch, float]] = {}  # newest, the one before, since when

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if isinstance(store.value, EpochRow):
                before = self._epochs.get(host, (NO_EPOCH, NO_EPOCH, 0.0))[0]
                self._epochs[host] = (store.value.epoch, before, clock(host))

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        match event:
            case Received(message=Adopt(items=adopted), sender=sender):
                self._adopted.update((host, task, token, sender) for task, token, _ in adopted)
            case Received(message=Assign() as assign, sender=sender):
                fresh = self._fresh(host, assign.epoch)
                for item in assign.items:
                    order = Order(sender, assign.boot, assign.epoch, item.payload, fresh)
                    self._orders.setdefault((host, (item.task, item.token)), []).append(order)
            case _:
                pass
        for effect in effects:
            if isinstance(effect, Run):
                self._judge(host, effect)

    def _fresh(self, host: Host, epoch: Epoch) -> bool:
        newest, before, since = self._epochs.get(host, (NO_EPOCH, NO_EPOCH, 0.0))
        lease_s = host.world.settings.grant_ttl_s * LEASE_SLACK
        return epoch >= newest or (epoch == before and clock(host) < since + lease_s)

    def _judge(self, host: Host, run: Run) -> None:
        orders = self._orders.get((host, (run.task, run.token)), [])
        boot = host.node.boot if host.node is not None else ""
        mine = [order for order in orders if order.boot == boot and order.epoch == run.epoch]
        if not mine:
            self.fail(f"{host.name} runs {run.task} under {run.token}; it was given {orders}")
        if not any(order.fresh for order in mine):
            self.fail(
                f"{host.name} runs {run.task} by a grant of {run.epoch}; it has {self._epochs.get(host)}"
            )
        order = mine[0]
        named = owner_of(run.task) if not run.token.takeover else run.token.owner
        adopted = run.owner != order.sender and (host, run.task, run.token, run.owner) in self._adopted
        if not (order.sender == run.token.owner == named and (run.owner == order.sender or adopted)):
            self.fail(f"{host.name} runs {run.task}, which {order.sender} gave it")
        if order.payload != run.payload:
            self.fail(f"{host.name} runs {run.task} with another payload than it was given")
        if self._views.of(host).stopping:
            self.fail(f"{host.name} starts {run.task} and is stopping")


class StartedIsStored(Property):
    name = "stored before started"
    sentence = "An attempt is on its worker's disk before it is started."
    says = (Run,)

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Run):
            row = host.disk.attempt(effect.task)
            stored = row is not None and row.token == effect.token and row.exit is None
            adopted = row is not None and row.takeover > effect.token.takeover  # in the same batch
            if row is None or not stored or not (row.owner == effect.owner or adopted):
                self.fail(f"{host.name} starts {effect.task} under {effect.token}, and its disk has {row}")


class EndsAreWitnessed(Inside):
    name = "ends are witnessed"
    sentence = "The end that a worker stores of an attempt is what its executor told it, word for word."
    hears = (ProcessExited, ExecutorUp)
    says = (Store,)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._told: dict[tuple[str, Key], Exit] = {}

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        match event:
            case ProcessExited(task=task, token=token, exit=exit):
                self._told[host.name, (task, token)] = exit
            case ExecutorUp(held=held):
                ends = {(one.task, one.token): one.exit for one in held if one.exit is not None}
                self._told.update(((host.name, key), exit) for key, exit in ends.items())
            case _:
                pass
        for effect in effects:
            match effect:
                case Store(value=Attempt(task=task, token=token, exit=Exit() as exit)):
                    told = self._told.get((host.name, (task, token)))
                    if exit != told:
                        self.fail(f"{host.name} stores {exit} of {task}, and was told {told}")
                case _:
                    pass


class NotStartedIsKept(Property):
    name = "not started"
    sentence = (
        "After a worker said that a token was not started, it starts none that is as low, but an older one that it "
        "said it has; and of what its next owner asks about it names what it has, or starts it under no older claim "
        "as long as it runs."
    )
    hears = (Seek,)
    says = (Returned, Have, Found)

    def __init__(self) -> None:
        self._sworn: dict[tuple[str, TaskId], Token] = {}
        self._told: dict[tuple[str, int, TaskId], Token] = {}  # to a next owner, by this start of the worker
        self._said: dict[tuple[str, TaskId], Token] = {}  # an attempt that it says it has
        self._sought: dict[tuple[str, NodeId, int], Seek] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        if isinstance(event, Received) and isinstance(event.message, Seek):
            self._sought[host.name, event.sender, event.message.seq] = event.message

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(message=Returned(items)):
                for refused in items:
                    self._swear(host, refused.task, refused.token)
            case Send(message=Have(items=rows)):
                for task, token, holding in rows:
                    if holding is Holding.NOT_STARTED:
                        self._swear(host, task, token)
                    else:
                        self._said[host.name, task] = token
            case Send(to=to, message=Found(seq=seq, items=rows)):
                seek = self._sought.get((host.name, to, seq))
                if seek is not None:
                    self._found(host, to, seek, {task: token for task, token, _ in rows})
            case _:
                pass

    def _found(self, host: Host, asker: NodeId, seek: Seek, found: dict[TaskId, Token]) -> None:
        for task in seek.tasks:
            row, asked = host.disk.attempt(task), Token(seek.takeover, asker, 0, 0)
            if task in found:
                self._said[host.name, task] = found[task]
            elif row is not None and row.token < asked:
                self.fail(
                    f"{host.name} tells {asker} nothing of {task}, and has {row.token} of it on its disk"
                )
            key = (host.name, host.starts, task)
            self._told[key] = max(asked, self._told.get(key, asked))

    def _swear(self, host: Host, task: TaskId, token: Token) -> None:
        key = (host.name, task)
        self._sworn[key] = max(token, self._sworn.get(key, token))

    def started(self, host: Host, start: Start) -> None:
        key = (host.name, start.task)
        sworn = max(
            filter(None, (self._sworn.get(key), self._told.get((host.name, host.starts, start.task)))),
            default=None,
        )
        older = sworn is not None and start.token < sworn and self._said.get(key) == start.token
        if sworn is not None and start.token <= sworn and not older:
            self.fail(f"{host.name} starts {start.task} under {start.token} after it swore off {sworn}")


class OutcomesAreKept(Inside):
    name = "outcomes are kept"
    sentence = (
        "A worker lets an outcome and its outputs go only when its owner said that it has all of it, or wants it no "
        "more; and an owner says so only when that is on its disk."
    )
    hears = ()
    says = (OutcomesStored, Store, Forget)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._acknowledged: set[Key] = set()

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=OutcomesStored(items=items)):
                    self._acknowledged.update(items)
                case Store(table=Table.ATTEMPTS, key=key, value=None):
                    kept = host.disk.attempt(TaskId(key))
                    told = kept is None or (kept.task, kept.token) in self._acknowledged
                    if kept is not None and kept.exit is not None and not told and not _revoked(event, kept):
                        self.fail(f"{host.name} drops {kept.task}, which nobody acknowledged")
                case _:
                    pass

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(message=OutcomesStored(items=items)):
                for task, token in items:
                    row = host.disk.progress(task)
                    if row is None or row.token != token or row.story[-1].reason.startswith("adopted"):
                        continue
                    if row.state in (State.PLACED, State.RUNNING, State.CANCELLING):
                        self.fail(f"{host.name} acknowledges the end of {task}, and has it as {row.state}")
                    if row.state.final and not row.fetched:
                        self.fail(f"{host.name} acknowledges {task}, and its outputs are not here")
            case Forget(task=task, token=token):
                row = host.world.owner_host(task).disk.progress(task)
                mine = row is not None and (row.token, row.worker) == (token, host.id)
                if mine and row is not None and row.state.final and not row.fetched:
                    self.fail(f"{host.name} forgets the outputs of {task}, which its owner has not fetched")
            case _:
                pass


def _revoked(event: Event | Note, kept: Attempt) -> bool:
    return isinstance(event, RosterChanged) and not enrolled(event.members, kept.owner)
