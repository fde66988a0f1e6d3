"""What a second copy is good for: that it is there when somebody relies on it, and that one end stands of all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Received, Send, Store
from openclaw.ids import Claim, NodeId, TaskId
from openclaw.messages import Assign, Guard, Guarded, Released, Seek, Status, Superseded
from openclaw.notes import Accepted, TakeOver
from openclaw.records import Copy, Progress
from sims.properties.base import Property
from sims.properties.views import Views, clock

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

_SLACK = 0.9  # clocks drift


def kept(host: Host, task: TaskId) -> Progress | None:
    """What this disk has of a task, its own or a copy."""
    copy = host.disk.copy_of(task)
    return host.disk.progress(task) or (None if copy is None else copy.progress)


class GuardedIsKept(Property):
    name = "guarded is kept"
    sentence = (
        "Who says that it keeps a copy has it on its disk, and who says that it is gone has it not; an acceptance "
        "names only who said so; and a copy that an owner told only grows while it is the owner."
    )
    hears = (Guarded,)
    says = (Guarded, Released, Accepted)

    def __init__(self) -> None:
        self._said: set[tuple[NodeId, TaskId]] = set()

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(message=Guarded(items=items)):
                for task, claim, moves in items:
                    row = kept(host, task)
                    older = row is None or row.claim < claim or (row.claim == claim and row.moves < moves)
                    if older:
                        self.fail(
                            f"{host.name} says that it keeps {task} as of {moves}, and has {row and row.moves}"
                        )
                    self._said.add((host.id, task))
            case Send(to=to, message=Released(tasks=tasks)):
                for task in tasks:
                    copy = host.disk.copy_of(task)
                    if copy is not None and not copy.progress.state.final and copy.progress.claim.owner == to:
                        self.fail(f"{host.name} says that its copy of {task} is gone, and has it")
            case Accepted(tasks=tasks, guardians=guardians):
                for task in tasks:
                    silent = [node for node in guardians if (node, task) not in self._said]
                    if silent:
                        self.fail(f"{host.name} promises {task} to be at {silent}, who never said so")
            case _:
                pass

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            new = store.value
            if not (isinstance(new, Copy) and new.told):
                continue
            old = host.disk.copy_of(new.progress.task)
            if old is None or not old.told or old.progress.claim != new.progress.claim:
                continue
            # What is over may be kept anew by word from before, until its owner is asked: it is not forgotten.
            if not old.progress.state.final and old.progress.moves > new.progress.moves:
                self.fail(
                    f"{host.name} keeps {new.progress.state} of {store.key} in place of {old.progress.state}"
                )


class EndsAreKeptTwice(Property):
    name = "ends are kept twice"
    sentence = "An end is no longer provisional only once its guardian has it on its disk, if there is one."

    def __init__(self, views: Views) -> None:
        self._views = views

    def committing(self, host: Host, stores: Sequence[Store]) -> None:
        for store in stores:
            row = store.value
            if not (isinstance(row, Progress) and row.state.final and not row.provisional and row.guardians):
                continue
            before = host.disk.progress(row.task)
            if before is None or not before.provisional:
                continue
            guardian = row.guardians[0]
            known = self._views.of(host).members.get(guardian)
            there = kept(host.world.hosts[guardian], row.task)
            lives = known is not None and known.status is Status.ALIVE
            if lives and (there is None or not there.state.final):
                self.fail(f"{host.name} settles {row.task}, which {guardian} has as {there and there.state}")


class IntentsAreKept(Property):
    name = "intents are kept"
    sentence = (
        "What may not start twice is assigned only when every node that could take it over has its intent."
    )
    says = (Assign,)

    def performed(self, host: Host, effect: Effect) -> None:
        match effect:
            case Send(message=Assign(items=items)):
                for item in items:
                    own = host.disk.progress(item.task)
                    if not item.once or own is None:
                        continue
                    for other in host.world.hosts.values():
                        copy = other.disk.copy_of(item.task)
                        live = copy is not None and not copy.progress.state.final and other is not host
                        if (
                            live
                            and copy is not None
                            and copy.progress.claim == own.claim
                            and not copy.progress.intent
                        ):
                            self.fail(f"{host.name} assigns {item.task}, and {other.name} knows of no intent")
            case _:
                pass


class TakeoversAreEarned(Property):
    name = "takeovers are earned"
    sentence = (
        "A task is taken over when its owner left for good or was down for the grace, and everybody who is up is asked "
        "about it in the same moment."
    )
    hears = ()
    says = (TakeOver,)

    def __init__(self, views: Views) -> None:
        self._views = views

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        asked = {
            (effect.to, task)
            for effect in effects
            if isinstance(effect, Send) and isinstance(effect.message, Seek)
            for task in effect.message.tasks
        }
        for effect in effects:
            for copy in effect.copies if isinstance(effect, TakeOver) else ():
                self._judge(host, copy)
                task = copy.progress.task
                for peer in host.world.peers(host):
                    if self._status(host, peer) is Status.ALIVE and (peer, task) not in asked:
                        self.fail(f"{host.name} takes {task} over and does not ask {peer}")

    def _judge(self, host: Host, copy: Copy) -> None:
        owner = copy.progress.claim.owner
        known = self._views.of(host).members.get(owner)
        if known is None or known.status is Status.LEFT:
            return
        if known.status is not Status.DOWN:
            self.fail(
                f"{host.name} takes {copy.progress.task} over from {owner}, which is {known.status.name}"
            )
        settings = host.world.settings
        grace_s = min(settings.guard_grace_s, settings.keep_restart_grace_s) * _SLACK
        if clock(host) - known.since < grace_s - 0.01:
            self.fail(f"{host.name} takes {copy.progress.task} over after {clock(host) - known.since:.2f} s")

    def _status(self, host: Host, peer: NodeId) -> Status | None:
        known = self._views.of(host).members.get(peer)
        return None if known is None else known.status


class LowerClaimsYield(Property):
    name = "lower claims yield"
    sentence = "Whoever hears that a task of its own has an owner with a higher claim yields, at once."
    hears = (Superseded, Guard)
    says = ()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:  # noqa: ARG002
        heard: list[tuple[TaskId, Claim]] = []
        match event:
            case Received(message=Superseded(items=items)):
                heard = list(items)
            case Received(message=Guard(items=kept_items), sender=sender):
                claims = [(item.progress.task, item.progress.claim) for item in kept_items]
                heard = [(task, claim) for task, claim in claims if claim.owner == sender]
            case _:
                return
        for task, claim in heard:
            mine = host.node.owner.claim_of(task) if host.node is not None else None
            if mine is not None and mine < claim:
                self.fail(f"{host.name} goes on as owner of {task} by {mine}, and heard of {claim}")


class OneEndStands(Property):
    name = "one end stands"
    sentence = "In a mesh that was left in peace all who own or owned a task agree on its end."

    def unmet(self, world: World) -> list[str]:
        if world.clones:
            return []
        complaints = []
        ends: dict[TaskId, dict[str, object]] = defaultdict(dict)
        for host in world.hosts.values():
            for row in host.disk.tasks():
                if row.state.final:
                    ends[row.task][host.name] = (row.state, row.token)
        for task, said in ends.items():
            if len(set(said.values())) > 1:
                complaints.append(f"{task} ended as {said}")
        return complaints
