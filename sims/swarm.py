"""What a seed decides before anything runs: which faults there are at all, how strong, on how good a network.

Each run draws its own mixture (swarm testing): a fault that all others hide in a run with everything shows in one
with little else.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sims.faults import Crash, Cut, Happening, Pause, Stop, Work
from sims.network import Weather

SETTLE_S = 3.0  # before the first fault


@dataclass(frozen=True, slots=True)
class Knobs:
    """How strong everything is in one run."""

    kinds: dict[str, float]  # which happen at all, and how often beside each other
    faults_per_s: float
    fault_s_mean: float
    work_per_s: float
    task_s_mean: float
    one_way: float

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {weight:g}" for kind, weight in self.kinds.items())
        return (
            f"{self.faults_per_s:g} faults a second of {self.fault_s_mean:g} s ({kinds or 'none'}), "
            f"{self.one_way:g} of the cuts one way, {self.work_per_s:g} submissions a second of "
            f"{self.task_s_mean:g} s"
        )


class Drawing:
    """One fault at a time: where, when and how long."""

    def __init__(self, rng: random.Random, hosts: list[str], peace_s: float, knobs: Knobs) -> None:
        self.rng, self.hosts, self.peace_s, self.knobs = rng, hosts, peace_s, knobs

    def at(self) -> float:
        return self.rng.uniform(min(SETTLE_S, self.peace_s / 2), self.peace_s)

    def host(self) -> str:
        return self.rng.choice(self.hosts)

    def for_s(self, at: float) -> float:
        """How long, but over before peace."""
        return min(self.peace_s - at, self.rng.expovariate(1 / self.knobs.fault_s_mean))

    def some(self) -> tuple[str, ...]:
        return tuple(sorted(self.rng.sample(self.hosts, self.rng.randint(1, max(1, len(self.hosts) // 2)))))


def _crash(draw: Drawing) -> Happening:
    at = draw.at()
    return Crash(at, draw.host(), draw.rng.randrange(40), machine=False, down_s=draw.for_s(at))


def _machine(draw: Drawing) -> Happening:
    at = draw.at()
    return Crash(at, draw.host(), 0, machine=True, down_s=draw.for_s(at))


def _stop(draw: Drawing) -> Happening:
    at = draw.at()
    return Stop(at, draw.host(), keep=draw.rng.random() < 0.5, down_s=draw.for_s(at) + 1.0)


def _pause(draw: Drawing) -> Happening:
    at = draw.at()
    return Pause(at, draw.host(), draw.for_s(at))


def _cut(draw: Drawing) -> Happening:
    at, sources = draw.at(), draw.some()
    others = tuple(name for name in draw.hosts if name not in sources)
    return Cut(at, sources, others, one_way=draw.rng.random() < draw.knobs.one_way, for_s=draw.for_s(at))


KINDS: dict[str, Callable[[Drawing], Happening]] = {
    "crash": _crash,
    "machine": _machine,
    "stop": _stop,
    "pause": _pause,
    "cut": _cut,
}


def knobs(rng: random.Random) -> Knobs:
    share = rng.choice([0.2, 0.5, 1.0])
    kinds = {kind: rng.choice([1.0, 1.0, 4.0]) for kind in KINDS if rng.random() < share}
    return Knobs(
        kinds=kinds,
        faults_per_s=rng.choice([0.05, 0.3, 0.3, 1.0]),
        fault_s_mean=rng.choice([0.5, 4.0, 4.0, 15.0]),
        work_per_s=rng.choice([0.1, 0.4, 0.4, 1.5]),
        task_s_mean=rng.choice([0.1, 0.8, 0.8, 4.0]),
        one_way=rng.choice([0.0, 0.4, 1.0]),
    )


def weather(rng: random.Random) -> Weather:
    return Weather(
        latency_s=rng.choice([(0.0002, 0.001), (0.001, 0.02), (0.005, 0.05)]),
        loss=rng.choice([0.0, 0.0, 0.02]),
    )


def settings(rng: random.Random) -> dict[str, float]:
    """A short reign makes hand-overs meet every other fault."""
    rotation_s = rng.choice([None, None, 60.0, 15.0])
    return {} if rotation_s is None else {"rotation_s": rotation_s}


def happenings(
    rng: random.Random, hosts: list[str], peace_s: float, busy_s: float, knobs: Knobs
) -> tuple[Happening, ...]:
    """Faults of the kinds that are on, and work beside them for `busy_s` at most, in the order of their times."""
    drawing = Drawing(rng, hosts, peace_s, knobs)
    faults = [_fault(drawing) for _ in range(round(peace_s * knobs.faults_per_s)) if knobs.kinds]
    work = []
    for _ in range(max(1, round(peace_s * knobs.work_per_s))):
        work.append(_work(drawing))
        busy_s -= sum(work[-1].runs_s) * (1 + work[-1].retries)
        if busy_s < 0:
            break
    return tuple(sorted([*faults, *work], key=lambda happening: (happening.at, repr(happening))))


def _fault(draw: Drawing) -> Happening:
    kinds = draw.knobs.kinds
    (kind,) = draw.rng.choices(list(kinds), list(kinds.values()))
    return KINDS[kind](draw)


def _work(draw: Drawing) -> Work:
    rng = draw.rng
    return Work(
        at=rng.uniform(0.5, draw.peace_s),
        host=draw.host(),
        runs_s=tuple(
            round(rng.expovariate(1 / draw.knobs.task_s_mean), 4) for _ in range(rng.choice([1, 1, 3, 10]))
        ),
        once=rng.random() < 0.25,
        retries=rng.choice([0, 0, 2]),
        code=rng.choice([0, 0, 0, 3]),
        output_bytes=rng.choice([1, 1, 50_000]),
        cancel_after_s=rng.uniform(0.0, 1.5) if rng.random() < 0.2 else None,
    )
