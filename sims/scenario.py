"""A scenario drawn from a seed, run to its verdict: chaos first, then peace, then nothing may be missing."""

from __future__ import annotations

import random
import traceback
from collections import Counter
from dataclasses import dataclass, field

from openclaw.records import State
from sims.faults import Crash, Cut, Happening, Pause, Stop, Work
from sims.network import Weather
from sims.properties import Violated, all_properties
from sims.world import World

PEACE_FROM = 0.45  # of the run: from there on nothing new goes wrong
SETTLE_S = 3.0  # before the first fault
FAULTS_PER_S = 0.3
WORK_PER_S = 0.4


@dataclass(frozen=True, slots=True)
class Plan:
    seed: int
    nodes: int
    seconds: float
    weather: Weather
    happenings: tuple[Happening, ...]


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


def draw(seed: int, nodes: int, seconds: float) -> Plan:
    """All that a seed decides, before anything runs."""
    rng = random.Random(f"{seed}:plan")
    names = [f"n{number}" for number in range(nodes)]
    peace_s = seconds * PEACE_FROM
    weather = Weather(
        latency_s=rng.choice([(0.0002, 0.001), (0.001, 0.02), (0.005, 0.05)]),
        loss=rng.choice([0.0, 0.0, 0.02]),
    )
    faults = [_fault(rng, names, peace_s) for _ in range(max(1, round(peace_s * FAULTS_PER_S)))]
    work = [_work(rng, names, peace_s) for _ in range(max(1, round(peace_s * WORK_PER_S)))]
    happenings = sorted([*faults, *work], key=lambda happening: (happening.at, repr(happening)))
    return Plan(seed, nodes, seconds, weather, tuple(happenings))


def _fault(rng: random.Random, names: list[str], peace_s: float) -> Happening:
    at = rng.uniform(min(SETTLE_S, peace_s / 2), peace_s)
    longest_s = peace_s - at
    for_s = min(longest_s, rng.expovariate(1 / 4.0))
    host = rng.choice(names)
    match rng.choice(["crash", "crash", "machine", "stop", "pause", "cut", "cut"]):
        case "crash":
            return Crash(at, host, rng.randrange(40), machine=False, down_s=for_s)
        case "machine":
            return Crash(at, host, 0, machine=True, down_s=for_s)
        case "stop":
            return Stop(at, host, keep=rng.random() < 0.5, down_s=for_s + 1.0)
        case "pause":
            return Pause(at, host, for_s)
    sources = tuple(sorted(rng.sample(names, rng.randint(1, max(1, len(names) // 2)))))
    others = tuple(name for name in names if name not in sources)
    return Cut(at, sources, others, one_way=rng.random() < 0.4, for_s=for_s)


def _work(rng: random.Random, names: list[str], peace_s: float) -> Work:
    count = rng.choice([1, 1, 3, 10])
    return Work(
        at=rng.uniform(0.5, peace_s),
        host=rng.choice(names),
        runs_s=tuple(round(rng.expovariate(1 / 0.8), 4) for _ in range(count)),
        once=rng.random() < 0.25,
        retries=rng.choice([0, 0, 2]),
        code=rng.choice([0, 0, 0, 3]),
        output_bytes=rng.choice([1, 1, 50_000]),
        cancel_after_s=rng.uniform(0.0, 1.5) if rng.random() < 0.2 else None,
    )


def run(plan: Plan) -> Verdict:
    verdict = Verdict(plan)
    world = World(plan.seed, weather=plan.weather, properties=all_properties())
    hosts = [world.add_host(f"n{number}") for number in range(plan.nodes)]
    starts = world.rng("starts")
    for host in hosts:
        world.at(starts.random() * 0.5, host.start)
    for happening in plan.happenings:
        world.at(happening.at, lambda happening=happening: happening.apply(world))  # type: ignore[misc]
    peace_s = plan.seconds * PEACE_FROM
    try:
        world.run(peace_s)
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
