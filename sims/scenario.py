"""A plan run to its verdict: chaos first, then peace, then nothing may be missing."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

from openclaw.records import State
from sims.plan import Plan
from sims.properties import Violated, all_properties
from sims.world import World


@dataclass(slots=True)
class Verdict:
    plan: Plan
    violation: str | None = None
    unmet: list[str] = field(default_factory=list)
    story: list[str] = field(default_factory=list)
    digest: str = ""
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return 1 if self.violation else 2 if self.unmet else 0


def run(plan: Plan) -> Verdict:
    verdict = Verdict(plan)
    world = World(plan.seed, weather=plan.link, properties=all_properties())
    hosts = [world.add_host(f"n{number}") for number in range(plan.nodes)]
    starts = world.rng("starts")
    for host in hosts:
        world.at(starts.random() * 0.5, host.start)
    for happening in plan.happenings:
        world.at(happening.at, lambda happening=happening: happening.apply(world))  # type: ignore[misc]
    try:
        world.run(plan.peace_s)
        for host in hosts:
            host.calm()
        world.run(plan.seconds)
    except Violated as violated:
        verdict.violation, verdict.story = str(violated), world.trace.last()
    except Exception:  # whatever the core raises is its own misuse, and a verdict
        verdict.violation, verdict.story = traceback.format_exc(), world.trace.last()
    else:
        verdict.unmet = [
            f"{prop.name}: {complaint}" for prop in world.properties for complaint in prop.unmet(world)
        ]
    verdict.digest = world.trace.digest
    verdict.counts = _counts(world)
    return verdict


def _counts(world: World) -> dict[str, int]:
    finals = Counter(str(row.state) for host in world.hosts.values() for row in host.disk.tasks())
    return {
        "steps": world.trace.counts["steps"],
        "effects": world.trace.counts["effects"],
        "messages": sum(world.trace.sent.values()),
        "dropped": world.network.dropped,
        "elections": max(host.disk.epoch.term for host in world.hosts.values()),
        "starts": len(world.starts),
        "duplicate starts": _duplicates(world),
        **{f"tasks {state}": count for state, count in sorted(finals.items())},
    }


def _duplicates(world: World) -> int:
    """Starts beyond the first, but for retries that were asked for: what a lost worker or owner cost."""
    extra = 0
    for task, count in Counter(start.task for start in world.starts).items():
        row = world.owner_host(task).disk.progress(task)
        failures = row.failures if row is not None else 0
        ended_by_failure = row is not None and row.state in (State.FAILED, State.TIMED_OUT)
        extra += max(0, count - max(1, failures + (not ended_by_failure)))
    return extra
