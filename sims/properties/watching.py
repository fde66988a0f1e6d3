"""What an owner promises of attempts that it does not hear of: time to come back, and an end to what it gave up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Started, Store
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Assign, End, Have, Holding, Status
from openclaw.messages import Started as Running
from openclaw.notes import Contested, MemberChanged, Note, TaskMoved
from openclaw.records import Progress, State
from sims.properties.base import Property
from sims.properties.views import PAUSE_S, Inside, Known, Pause, Second, Views, clock

if TYPE_CHECKING:
    from sims.host import Host

_SLACK = 0.95  # clocks drift, and a worker's start is told late
_SOON_S = 0.5


class GraceIsGiven(Inside):
    name = "grace"
    sentence = (
        "An attempt on a worker that is down is given up after a tenth of what it had run, at most a minute; one that "
        "is --once, or whose worker said that it is back soon, after the whole of it. What ran then took it with it."
    )
    hears = ()
    says = (MemberChanged, TaskMoved, Assign)

    def __init__(self, views: Views) -> None:
        super().__init__(views)
        self._ran_since: dict[tuple[Host, int, TaskId], float] = {}
        self._workers: dict[tuple[Host, int, NodeId], Known] = {}
        self._assigned: set[tuple[TaskId, Token]] = set()

    def step(self, host: Host, event: Event | Note, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, MemberChanged):
                now = clock(host)
                known = Known(effect.status, effect.incarnation, now, now, effect.back_soon)
                self._workers[host, host.starts, effect.node] = known
            if isinstance(effect, Send) and isinstance(effect.message, Assign):
                self._assigned.update((item.task, item.token) for item in effect.message.items)
            if not isinstance(effect, TaskMoved):
                continue
            key = (host, host.starts, effect.task)
            if effect.state is State.RUNNING:
                self._ran_since[key] = clock(host)
            elif effect.state in (State.QUEUED, State.LOST, State.FAILED) and not isinstance(
                event, Received | Contested
            ):
                row = host.disk.progress(effect.task)
                if row is not None and row.state in (State.PLACED, State.RUNNING) and row.worker != host.id:
                    self._judge(host, row, key)
                    self._counted(host, row, effects)

    def _counted(self, host: Host, old: Progress, effects: Sequence[Effect]) -> None:
        known = self._workers.get((host, host.starts, old.worker))
        for effect in effects:
            match effect:
                case Store(value=Progress(task=old.task, state=State.QUEUED) as new):
                    ran = known is not None and known.status is Status.DOWN and _was(new) is State.RUNNING
                    if ran and new.deaths != old.deaths + 1:
                        self.fail(f"{new.task} ran as {new.worker} went down, and has {new.deaths} deaths")
                case _:
                    pass

    def _judge(self, host: Host, row: Progress, key: tuple[Host, int, TaskId]) -> None:
        known = self._workers.get((host, host.starts, row.worker))
        now, settings = clock(host), host.world.settings
        submission = host.disk.submission(row.task)
        if known is None or submission is None or row.token is None:
            return
        if (row.task, row.token) not in self._assigned and submission.exclusive:
            return  # it waited for its intent to be kept, and its worker never heard of it
        if known.status not in (Status.DOWN, Status.LEFT):
            self.fail(f"{host.name} gives {row.task} up on {row.worker}, which is {known.status.name}")
        waited_s = now - known.since
        ran_s = max(0.0, known.since - self._ran_since.get(key, known.since))
        if submission.once or (known.back_soon and row.state is State.RUNNING):
            grace_s = min(settings.rerun_grace_s_max, settings.keep_restart_grace_s)
        elif row.state is State.RUNNING and known.status is Status.DOWN:
            grace_s = min(ran_s * settings.rerun_grace_factor, settings.rerun_grace_s_max)
        else:
            return
        if waited_s < grace_s * _SLACK - 0.01:
            self.fail(
                f"{host.name} gives {row.task} up on {row.worker} after {waited_s:.2f} s of {grace_s:.2f} s"
            )


def _was(row: Progress) -> State | None:
    """The state before its present one."""
    return row.story[-2].state if len(row.story) > 1 else None


class CopiesAreEnded(Property):
    name = "copies are ended"
    sentence = "Who hears that an attempt runs that it gave up for another, or for good, has it ended."
    hears = (Started, Pause, Second, Running, Have)
    says = (End, TaskMoved)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._owed: dict[Host, dict[tuple[NodeId, TaskId, Token], float]] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        now = clock(host)
        if isinstance(event, Started) or self._views.gap_s(host) > PAUSE_S:
            self._owed[host] = {}
        owed = self._owed.setdefault(host, {})
        self._overdue(host, owed, self._views.of(host).now)
        for inner, made in self._views.steps(host, event, effects):
            if isinstance(inner, Received):
                self._heard(host, inner, owed, now)
            for effect in made:
                match effect:
                    case Send(to=to, message=End(items=items)):
                        for task, token in items:
                            owed.pop((to, task, token), None)
                    case TaskMoved(task=task):
                        for key in [key for key in owed if key[1] == task]:
                            del owed[key]
                    case _:
                        pass
        self._overdue(host, owed, now)

    def _overdue(self, host: Host, owed: dict[tuple[NodeId, TaskId, Token], float], now: float) -> None:
        for (worker, task, token), since in owed.items():
            if now - since > _SOON_S:
                self.fail(f"{host.name} lets {task} run on {worker} under {token}, which it gave up")

    def _heard(
        self, host: Host, event: Received, owed: dict[tuple[NodeId, TaskId, Token], float], now: float
    ) -> None:
        """Judged by what the node has of the task once it handled this."""
        items: list[tuple[TaskId, Token]] = []
        match event.message:
            case Running(items=started):
                items = [(task, token) for task, token, _ in started]
            case Have(items=held):
                runs = (Holding.RUNNING, Holding.WAITING)
                items = [(task, token) for task, token, holding in held if holding in runs]
            case _:
                return
        for task, token in items:
            row = host.node.owner.active(task) if host.node is not None else None
            if row is None and host.node is not None and host.node.guardian.copy(task) is not None:
                continue  # another owns it now, and is told
            if row is None or row.state.final or row.token != token or row.worker != event.sender:
                owed.setdefault((event.sender, task, token), now)
