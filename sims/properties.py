"""What must hold: each property with a name and a sentence, watching every step of a world.

Safety raises `Violated` in the step that broke it. Liveness is asked once, after the faults have ended and the
stated time has passed: `unmet` says what is still not so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Send, Store
from openclaw.ids import NO_EPOCH, Epoch, NodeId, TaskId, Token
from openclaw.messages import (
    Ack,
    Assign,
    Coordinator,
    Gossip,
    Have,
    Head,
    Holding,
    Ping,
    PingRequest,
    Returned,
    Status,
)
from openclaw.notes import Accepted, LeaderChanged
from openclaw.records import EpochRow, Number, Progress, State, Table

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start
    from sims.world import World


class Violated(AssertionError):
    """A safety property does not hold."""

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name


class Property:
    """`name` is short, `sentence` says what must hold. A subclass watches what it needs."""

    name = ""
    sentence = ""

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        """These rows are about to be on the host's disk, which still holds the old ones."""

    def performed(self, host: Host, effect: Effect) -> None:
        """This effect is leaving the core; everything stored with it is on disk, unless it leaves early."""

    def started(self, host: Host, start: Start) -> None:
        """A process has really started on this host."""

    def unmet(self, world: World) -> list[str]:  # noqa: ARG002
        """What is not so, long after the last fault."""
        return []

    def fail(self, detail: str) -> None:
        raise Violated(self.name, f"{self.sentence} But: {detail}")


class AcceptedIsDurable(Property):
    name = "accepted is durable"
    sentence = "A task that was promised is on its owner's disk, and stays there."

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, Accepted):
            for task in effect.tasks:
                if host.disk.submission(task) is None or host.disk.progress(task) is None:
                    self.fail(f"{task} was promised by {host.name} and is not on its disk")

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if store.table in (Table.TASKS, Table.PROGRESS) and store.value is None:
                self.fail(f"{host.name} deletes {store.key}")


class OneFinal(Property):
    name = "one final"
    sentence = "A final state is reached once and never changes."

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            if not isinstance(store.value, Progress):
                continue
            old, new = host.disk.progress(store.value.task), store.value
            if old is not None and old.state.final and (old.state, old.exit) != (new.state, new.exit):
                self.fail(f"{new.task} was {old.state} and becomes {new.state}")


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


class IntentFirst(Property):
    name = "intent first"
    sentence = "An assignment leaves only when its token is on its owner's disk and the task has no final."

    def performed(self, host: Host, effect: Effect) -> None:
        if not (isinstance(effect, Send) and isinstance(effect.message, Assign)):
            return
        for item in effect.message.items:
            row = host.disk.progress(item.task)
            if row is None or row.token is None or row.token < item.token:
                self.fail(f"{host.name} assigns {item.task} under {item.token}, which is not on its disk")
            elif row.state.final:
                self.fail(f"{host.name} assigns {item.task}, which is {row.state}")


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


class StoredBeforeSaid(Property):
    name = "stored before said"
    sentence = "An epoch or incarnation that anyone hears of is on its origin's disk, and neither ever falls."

    def __init__(self) -> None:
        self._boots: dict[tuple[NodeId, int], str] = {}

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            match store.value:
                case EpochRow(epoch) if epoch <= host.disk.epoch:
                    self.fail(f"{host.name} stores {epoch} over {host.disk.epoch}")
                case Number(value) if value <= host.disk.number(store.key):
                    self.fail(f"{host.name} stores {store.key} {value} over {host.disk.number(store.key)}")

    def performed(self, host: Host, effect: Effect) -> None:
        if not isinstance(effect, Send):
            return
        match effect.message:
            case Coordinator(epoch):
                self._said(host, epoch)
            case Ping(head=head) | Ack(head=head) | PingRequest(head=head) | Gossip(head=head):
                self._said(host, head.epoch)
                self._vouched(host, head)
            case _:
                pass

    def _said(self, host: Host, epoch: Epoch) -> None:
        if epoch > host.disk.epoch:
            self.fail(f"{host.name} names {epoch}, and has only {host.disk.epoch} on disk")

    def _vouched(self, host: Host, head: Head) -> None:
        counter, boot = head.incarnation
        if counter > host.disk.number("incarnation"):
            self.fail(f"{host.name} says {head.incarnation}, and has not stored it")
        if self._boots.setdefault((host.id, counter), boot) != boot:
            self.fail(f"{host.name} uses incarnation {counter} in two of its starts")


class NeverAnOlderLeader(Property):
    name = "never an older leader"
    sentence = "The epochs that a node follows never fall, across its restarts."

    def __init__(self) -> None:
        self._highest: dict[NodeId, Epoch] = {}

    def performed(self, host: Host, effect: Effect) -> None:
        if isinstance(effect, LeaderChanged) and effect.epoch is not None:
            highest = self._highest.get(host.id, NO_EPOCH)
            if effect.epoch < highest:
                self.fail(f"{host.name} follows {effect.epoch} after {highest}")
            self._highest[host.id] = effect.epoch


class SlotsAreKept(Property):
    name = "slots"
    sentence = "No node runs more than its slots."

    def started(self, host: Host, start: Start) -> None:
        if host.executor.running > host.meta.slots:
            self.fail(f"{host.name} runs {host.executor.running} with {start.task}")


class EveryTaskEnds(Property):
    name = "every task ends"
    sentence = "Every accepted task reaches a final state."

    def __init__(self) -> None:
        self.accepted: list[TaskId] = []

    def performed(self, host: Host, effect: Effect) -> None:  # noqa: ARG002
        if isinstance(effect, Accepted):
            self.accepted += effect.tasks

    def unmet(self, world: World) -> list[str]:
        rows = [(task, world.owner_host(task).disk.progress(task)) for task in self.accepted]
        return [f"{task} is {row and row.state}" for task, row in rows if row is None or not row.state.final]


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
    sentence = "In a mesh that was left in peace every node counts every other as alive."

    def unmet(self, world: World) -> list[str]:
        complaints = []
        for host in world.hosts.values():
            if host.node is None:
                continue
            members = host.node.membership.members()
            for peer in world.hosts.values():
                status = members[peer.id].status if peer.id in members else None
                if status is not Status.ALIVE:
                    complaints.append(f"{host.name} sees {peer.name} as {status and status.name}")
        return complaints


def all_properties() -> tuple[Property, ...]:
    return (
        AcceptedIsDurable(),
        OneFinal(),
        TokensStartOnce(),
        OnceIsOnce(),
        IntentFirst(),
        NotStartedIsKept(),
        OutcomesAreKept(),
        StoredBeforeSaid(),
        NeverAnOlderLeader(),
        SlotsAreKept(),
        EveryTaskEnds(),
        OneLeader(),
        AllSeeAll(),
    )
