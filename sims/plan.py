"""A scenario as data: who takes part, how good the links are, what happens, and what must hold in the end.

`draw(seed, …)` decides all of it by chance; a `.toml` file says it by hand. Both read and print alike.
"""

from __future__ import annotations

import random

import msgspec

from sims.faults import Crash, Cut, Happening, Pause, Stop, Work
from sims.network import Weather

PEACE_FROM = 0.45  # of a drawn run: from there on nothing new goes wrong
SETTLE_S = 3.0  # before the first fault
FAULTS_PER_S = 0.3
WORK_PER_S = 0.4


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`peace_s`: from there on the world heals what is still broken, and liveness must follow until `seconds`."""

    seed: int
    nodes: int
    seconds: float
    peace_s: float
    link: Weather = Weather()
    happenings: tuple[Happening, ...] = ()


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
    return Plan(seed, nodes, seconds, peace_s, weather, tuple(happenings))


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
