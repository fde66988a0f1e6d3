"""What must be so a while after the last fault, and what may not stay as it is for long even in between."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Started, StopAsked
from openclaw.ids import NO_EPOCH, Epoch, NodeId, TaskId, Token
from openclaw.messages import Adopt, Ask, Assign, End, Have, Outcomes, Status
from openclaw.messages import Started as Running
from openclaw.notes import Accepted, MemberChanged, TaskMoved, Yielded
from openclaw.records import Exit, Progress, State
from sims.properties.base import Property
from sims.properties.views import Pause, Second, Views, clock

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Executor, Start
    from sims.world import World

_ACTIVE = (State.PLACED, State.RUNNING, State.CANCELLING)
_SLACK_S = 3.0
_WAIT_S_MAX = 120.0  # the longest pause that the owner's settings can make, and some


class EveryTaskEnds(Property):
    name = "every task ends"
    sentence = "Every accepted task reaches a final state or really runs, or its disk was put back to before it came."
    says = (Accepted,)

    def __init__(self) -> None:
        self.accepted: list[TaskId] = []
        self._running: dict[tuple[TaskId, Token], tuple[Host, Executor]] = {}

    def performed(self, host: Host, effect: Effect) -> None:  # noqa: ARG002
        if isinstance(effect, Accepted):
            self.accepted += effect.tasks

    def started(self, host: Host, start: Start) -> None:
        self._running[start.task, start.token] = (host, host.executor)

    def ended(self, host: Host, key: tuple[TaskId, Token], exit: Exit) -> None:  # noqa: ARG002
        self._running.pop(key, None)

    def unmet(self, world: World) -> list[str]:
        rows = [(task, world.row(task)) for task in self.accepted]
        open_ = [(task, row) for task, row in rows if row is not None and not row.state.final]
        return [f"{task} is {row.state}" for task, row in open_ if not self._runs(row)]

    def _runs(self, row: Progress) -> bool:
        """A process that ended with its executor ends without a word."""
        if row.token is None or (row.task, row.token) not in self._running:
            return False
        host, executor = self._running[row.task, row.token]
        return host.executor is executor


class OneLeader(Property):
    name = "one leader"
    sentence = "In a mesh that was left in peace there is one leader, and all name it."

    def unmet(self, world: World) -> list[str]:
        named: dict[Epoch, list[str]] = defaultdict(list)
        for host in world.hosts.values():
            if host.node is not None:
                named[host.node.election.leader or NO_EPOCH].append(host.name)
        if len(named) == 1 and NO_EPOCH not in named:
            return []
        return [f"{epoch} is named by {', '.join(names)}" for epoch, names in sorted(named.items())]


class AllSeeAll(Property):
    name = "one view"
    sentence = "In a mesh that was left in peace every node holds every other for alive, as it is, with what it offers."

    def unmet(self, world: World) -> list[str]:
        complaints = []
        for host in world.hosts.values():
            if host.node is None:
                continue
            members = host.node.membership.members()
            for peer in world.hosts.values():
                seen = members.get(peer.id)
                if seen is None or seen.status is not Status.ALIVE:
                    complaints.append(f"{host.name} sees {peer.name} as {seen and seen.status.name}")
                elif peer.node is None or peer.id in world.clones:
                    continue
                elif seen.incarnation != peer.node.membership.incarnation:
                    complaints.append(f"{host.name} sees {peer.name} in {seen.incarnation}")
                elif seen.meta != peer.meta:
                    complaints.append(f"{host.name} has an old description of {peer.name}")
        return complaints


class NothingIsLeftBehind(Property):
    name = "nothing left behind"
    sentence = "Once all is done, nothing runs or waits, and every outcome is with its owner."

    def unmet(self, world: World) -> list[str]:
        if world.clones or any(
            not row.state.final for host in world.hosts.values() for row in host.disk.tasks()
        ):
            return []
        complaints = []
        for host in world.hosts.values():
            if host.node is not None and (held := host.node.worker.held()):
                complaints.append(f"{host.name} still holds {held}")
            if host.executor.running:
                complaints.append(f"{host.name} still runs {host.executor.running}")
            complaints += [
                f"{host.name} has not fetched {row.task}" for row in host.disk.tasks() if not row.fetched
            ]
        return complaints


class NobodyWaitsForEver(Property):
    name = "a deadline"
    sentence = (
        "An owner with unfinished tasks has a deadline, and an attempt is never left alone: a worker that lives speaks "
        "of it, or is asked; one that is gone is waited for as long as its grace lasts."
    )
    hears = (Started, Pause, Second, Have, Running, Outcomes)
    says = (TaskMoved, Yielded, Assign, Ask, Adopt, End)

    def __init__(self, views: Views) -> None:
        self._views = views
        self._touched: dict[Host, dict[TaskId, float]] = {}
        self._active: dict[Host, dict[TaskId, NodeId]] = {}
        self._looked: dict[Host, float] = {}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        now = clock(host)
        if isinstance(event, Started):
            rows = {row.task: row for row in host.disk.tasks() if row.state in _ACTIVE}
            self._active[host] = {task: row.worker for task, row in rows.items()}
            self._touched[host] = dict.fromkeys(rows, now)
            self._looked[host] = now
        active, touched = self._active.get(host, {}), self._touched.get(host, {})
        for inner, made in self._views.steps(host, event, effects):
            for task in _spoken_of(inner):
                touched[task] = now
            for effect in made:
                match effect:
                    case TaskMoved(task=task, state=state, worker=worker):
                        touched[task] = now
                        if state in _ACTIVE:
                            active[task] = worker
                        else:
                            active.pop(task, None)
                            touched.pop(task, None)
                    case Send(message=Assign(items=items)):
                        touched.update((item.task, now) for item in items)
                    case Send(message=Ask(items=asked) | End(items=asked)):
                        touched.update((task, now) for task, _ in asked if task in active)
                    case Send(message=Adopt(items=adopted)):
                        touched.update((task, now) for task, _, _ in adopted if task in active)
                    case Yielded(copies=copies):
                        for copy in copies:
                            active.pop(copy.progress.task, None)
                    case _:
                        pass
        if self._views.gap_s(host) > 1.0:
            touched.update(dict.fromkeys(touched, now))
        if now - self._looked.get(host, now) > 1.0 and not isinstance(event, StopAsked):
            self._looked[host] = now
            self._look(host, now)

    def _look(self, host: Host, now: float) -> None:
        view, settings = self._views.of(host), host.world.settings
        if host.node is None or view.stopping or not view.settled:
            return
        due = host.node.owner.next_deadline()
        active = self._active[host]
        entries = host.node.owner.ledger.tasks
        known_of = [task for task in active if (entry := entries.get(task)) is not None and not entry.sought]
        if (known_of or host.node.owner.queued) and (due is None or due > now + _WAIT_S_MAX):
            self.fail(f"{host.name} has unfinished tasks, and nothing to do before {due}")
        since = settings.ask_every_s + settings.ask_after_s + _SLACK_S
        for task, worker in active.items():
            if (entry := entries.get(task)) is not None and entry.held is not None:
                self._touched[host][task] = (
                    now  # a stated wait: whoever may have a copy is to know of its intent
                )
                continue
            known = view.members.get(worker)
            lives = worker == host.id or (known is not None and known.status is Status.ALIVE)
            steady = now - max(view.started_at, known.since if known else 0.0, view.woke_at) > since
            if lives and steady and now - self._touched[host].get(task, now) > since:
                self.fail(f"{host.name} has not asked for {task} on {worker} for {since} s")
            graced_s = max(settings.rerun_grace_s_max, settings.keep_restart_grace_s) + since
            gone = worker != host.id and known is not None and known.status >= Status.DOWN
            if gone and now - max(view.started_at, known.since if known else 0.0, view.woke_at) > graced_s:
                self.fail(f"{host.name} still waits for {task} on {worker}, which is gone for {graced_s} s")


def _spoken_of(event: object) -> list[TaskId]:
    match event:
        case Received(message=Have(items=items) | Running(items=items)):
            return [item[0] for item in items]
        case Received(message=Outcomes(items=outcomes)):
            return [outcome.task for outcome in outcomes]
        case _:
            return []


class UpIsNotDown(Property):
    name = "up is not down"
    sentence = "Two nodes that have run and reached each other for a while, without loss, do not hold each other down."
    hears = ()
    says = (MemberChanged,)
    every_s = 0.5

    FOR_S = 15.0
    FOUND_S = 40.0
    HOSTS_MAX = 16

    def __init__(self, views: Views) -> None:
        self._views = views
        self._good_since: dict[tuple[NodeId, NodeId], float] = {}
        self._starts: dict[NodeId, int] = {}
        self._looked = float("-inf")

    def stepped(self, world: World) -> None:
        if len(world.hosts) > self.HOSTS_MAX:
            return
        self._looked = world.now
        hosts = list(world.hosts.values())
        fit = {host.id for host in hosts if self._fit(host)}
        for one in hosts:
            for other in hosts:
                pair = (one.id, other.id)
                if one is other or not (one.id in fit and other.id in fit and self._clear(world, one, other)):
                    self._good_since.pop(pair, None)
                    continue
                since = max(self._good_since.get(pair, world.now), world.network.troubled_at(*pair))
                self._good_since[pair] = since
                if world.now - since > self.FOUND_S:
                    self._found(world, one, other)
        self._starts = {host.id: host.starts for host in hosts}

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        for effect in effects:
            if isinstance(effect, MemberChanged) and effect.status is Status.DOWN:
                pair = (host.id, effect.node)
                since = max(self._good_since.get(pair, self._looked), host.world.network.troubled_at(*pair))
                if self._looked - since > self.FOR_S:
                    self._now(host, host.world.hosts[effect.node], since)

    def _now(self, host: Host, other: Host, since: float) -> None:
        """It was good when it was last looked at; what is it now?"""
        if self._fit(host) and self._fit(other) and self._clear(host.world, host, other):
            self.fail(f"{host.name} finds {other.name} down, with which nothing was wrong since {since:.1f}")

    def _fit(self, host: Host) -> bool:
        same = self._starts.get(host.id) == host.starts
        well = host.awake and not host.lag_s and not host.disk.stalled and host.id not in host.world.clones
        return same and well and not self._views.of(host).stopping

    def _clear(self, world: World, one: Host, other: Host) -> bool:
        network = world.network
        if not (network.troubled or network.lossy):
            return True
        both = network.clear_between(one, other) and network.clear_between(other, one)
        return both and not network.loss_between(one, other) and not network.loss_between(other, one)

    def _found(self, world: World, one: Host, other: Host) -> None:
        known = self._views.of(one).members.get(other.id)
        if known is None or known.status is Status.DOWN:
            self.fail(
                f"{one.name} still holds {other.name} for {known and known.status.name} at {world.now:.1f}"
            )
