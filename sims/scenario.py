"""A plan run to its verdict: chaos first, then peace, then nothing may be missing."""

from __future__ import annotations

import dataclasses
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from openclaw.config import Settings
from openclaw.records import Meta, State
from sims import warm
from sims.marks import Marks
from sims.plan import Plan, names, slack_s
from sims.properties import Property, Violated, all_properties
from sims.watch import Watch
from sims.world import World

Observer = Callable[[float, str, object], None]

LOOK_EVERY_S = 0.5
SETTLE_S = 1.0
STARTS_WITHIN_S = 0.5


@dataclass(slots=True)
class Verdict:
    """`failed` names what did not hold, `at` says when it was found; `counts` are never a verdict by themselves."""

    plan: Plan
    violation: str | None = None
    unmet: list[str] = field(default_factory=list)
    failed: tuple[str, ...] = ()
    at: float = 0.0
    story: list[str] = field(default_factory=list)
    digest: str = ""
    counts: dict[str, float] = field(default_factory=dict)
    marks: Counter[str] = field(default_factory=Counter)

    @property
    def exit_code(self) -> int:
        return 1 if self.violation else 2 if self.unmet else 0


def build(plan: Plan, properties: Sequence[Property] = (), observers: Sequence[Observer] = ()) -> World:
    """The world of a plan, with all that will happen in it, before its first instant; a warm one has met already."""
    settings = dataclasses.replace(Settings(), **plan.settings)  # type: ignore[arg-type]
    world = World(plan.seed, settings, weather=plan.link, properties=properties)
    world.trace.observers += observers
    starts = world.rng("starts")
    for number, name in enumerate(names(plan.nodes)):
        meta = Meta(
            slots=plan.slots[number % len(plan.slots)],
            tier=plan.tiers[number % len(plan.tiers)],
            memory_bytes=plan.memory_bytes[number % len(plan.memory_bytes)],
            gpus=plan.gpus[number % len(plan.gpus)],
        )
        world.add_host(name, meta)
    if plan.warm:
        warm.start(world)
    else:
        for host in world.hosts.values():
            world.at(starts.random() * STARTS_WITHIN_S, host.start)
    for happening in plan.happenings:
        world.at(happening.at, lambda happening=happening: happening.apply(world))  # type: ignore[misc]
    return world


def run(plan: Plan, observers: Sequence[Observer] = (), marks: Marks | None = None) -> Verdict:
    """What became of a plan. `marks` note on the way what of all that can happen did."""
    verdict = Verdict(plan)
    properties = all_properties()
    world = build(plan, properties if marks is None else (*properties, marks), observers)
    if marks is not None:
        marks.watch(world)
    watch = Watch(plan, world)
    try:
        _advance(world, watch, plan.peace_s)
        world.calm()
        _advance(world, watch, plan.seconds)
        _settle(world)
    except Violated as violated:
        verdict.violation, verdict.failed = str(violated), (violated.name,)
    except Exception as error:  # whatever the core raises is its own misuse, and a verdict
        verdict.violation, verdict.failed = traceback.format_exc(), (_place(error),)
    else:
        _judge(verdict, world, watch)
    verdict.at = world.now
    if verdict.failed:
        verdict.story = world.trace.last()
    verdict.digest = world.trace.digest
    verdict.counts = counts(world, watch)
    if marks is not None:
        verdict.marks = marks.hit
    return verdict


def _advance(world: World, watch: Watch, until: float) -> None:
    while world.now < until:
        world.run(min(until, world.now + LOOK_EVERY_S))
        watch.look()


def _settle(world: World) -> None:
    """A leader that hands over just now is given the time to do so, and a link that stalls the time to go on."""
    until = world.now + SETTLE_S + slack_s(world.network.weather)
    while world.now < until and any(prop.unmet(world) for prop in world.properties):
        world.run(min(until, world.now + LOOK_EVERY_S))


def _judge(verdict: Verdict, world: World, watch: Watch) -> None:
    plan, complaints = verdict.plan, list(watch.complaints)
    for prop in world.properties:
        complaints += [(prop.name, complaint) for complaint in prop.unmet(world)]
    counted = counts(world, watch)
    for name, limit in plan.at_most.items():
        if counted.get(name, 0) > limit:
            complaints.append((name, f"{counted.get(name, 0)}, and at most {limit:g} are expected"))
    for name, limit in plan.at_least.items():
        if counted.get(name, 0) < limit:
            complaints.append((name, f"{counted.get(name, 0)}, and at least {limit:g} are expected"))
    verdict.unmet = [f"{name}: {complaint}" for name, complaint in complaints]
    verdict.failed = tuple(dict.fromkeys(name for name, _ in complaints))


def _place(error: Exception) -> str:
    """Where the program itself gave up: the name of such a failure."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}"


def counts(world: World, watch: Watch) -> dict[str, float]:
    finals = Counter(str(row.state) for host in world.hosts.values() for row in host.disk.tasks())
    return {
        "steps": world.trace.counts["steps"],
        "effects": world.trace.counts["effects"],
        "messages": sum(world.trace.sent.values()),
        "dropped": world.network.dropped,
        "elections": max(host.disk.epoch.term for host in world.hosts.values()),
        "split-leader seconds": watch.split_s,
        "starts": len(world.starts),
        "duplicate starts": _duplicates(world),
        **{name: count for prop in world.properties for name, count in prop.shown(world).items()},
        **{f"tasks {state}": count for state, count in sorted(finals.items())},
    }


def _duplicates(world: World) -> int:
    """Starts beyond the first, but for retries that were asked for: what a lost worker or owner cost."""
    extra = 0
    for task, count in Counter(start.task for start in world.starts).items():
        row = world.owner_host(task).disk.progress(task)
        if row is not None:  # of what was deleted nobody knows how often it was to run
            ended_by_failure = row.state in (State.FAILED, State.TIMED_OUT)
            extra += max(0, count - max(1, row.failures + (not ended_by_failure)))
    return extra
