"""What a seed decides before anything runs: which faults there are at all, how strong, on how good a network.

Each run draws its own mixture (swarm testing): a fault that all others hide in a run with everything shows in one
with little else.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from msgspec.structs import replace

from openclaw.records import Size
from sims.faults import Happening, Work
from sims.kinds import KINDS, Drawing
from sims.network import Weather


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


def knobs(rng: random.Random) -> Knobs:
    share = rng.choice([0.1, 0.3, 0.6, 1.0])
    return Knobs(
        kinds={kind: rng.choice([1.0, 1.0, 4.0]) for kind in KINDS if rng.random() < share},
        faults_per_s=rng.choice([0.05, 0.3, 0.3, 1.0]),
        fault_s_mean=rng.choice([0.5, 4.0, 4.0, 15.0]),
        work_per_s=rng.choice([0.1, 0.4, 0.4, 1.5]),
        task_s_mean=rng.choice([0.1, 0.8, 0.8, 4.0]),
        one_way=rng.choice([0.0, 0.4, 1.0]),
    )


def weather(rng: random.Random) -> Weather:
    latencies = ((0.0002, 0.001), (0.001, 0.02), (0.005, 0.05))
    return Weather(
        mode=rng.choice(["tcp", "tcp", "hostile"]),
        latency=rng.choice(["lan", "tailnet", "mixed"]),
        latency_s=rng.choice([None, rng.choice(latencies)]),
        loss=rng.choice([0.0, 0.0, 0.005, 0.02]),
        bandwidth_bytes_s=rng.choice([0.0, 0.0, 100_000.0]),
        queue_max=rng.choice([1000, 1000, 50]),
    )


def settings(rng: random.Random) -> dict[str, float]:
    """A short reign makes hand-overs meet every other fault, and an impatient guardian returning owners."""
    rotation_s = rng.choice([None, None, 60.0, 15.0])
    drawn = {} if rotation_s is None else {"rotation_s": rotation_s}
    lease_s = rng.choice([1.0, 3.0, 30.0])
    leases = {"lease_s": lease_s, "lease_margin_s": 0.5 + lease_s / 8}
    return drawn | {"guard_grace_s": rng.choice([2.0, 5.0, 30.0])} | leases


def happenings(
    rng: random.Random, hosts: list[str], peace_s: float, busy_s: float, knobs: Knobs
) -> tuple[Happening, ...]:
    """Faults of the kinds that are on, and work beside them for `busy_s` at most, in the order of their times."""
    drawing = Drawing(rng, hosts, peace_s, knobs.fault_s_mean, knobs.one_way)
    faults = [drawing.fault(knobs.kinds) for _ in range(round(peace_s * knobs.faults_per_s)) if knobs.kinds]
    work = []
    for _ in range(max(1, round(peace_s * knobs.work_per_s))):
        work.append(_fitting(_work(rng, rng.choice(hosts), peace_s, knobs.task_s_mean), busy_s))
        busy_s -= sum(work[-1].runs_s) * (1 + work[-1].retries)
        if busy_s <= 0:
            break
    return tuple(sorted([*faults, *work], key=lambda happening: (happening.at, repr(happening))))


def machines(rng: random.Random, slots: tuple[int, ...]) -> tuple[Size, ...]:
    """What the hosts have, dealt out to them in turn as their slots are."""
    return tuple(Size(count, rng.choice([0, 4, 16]), rng.choice([0, 0, 2])) for count in slots)


def demanding(
    rng: random.Random, happenings: tuple[Happening, ...], machines: tuple[Size, ...], busy_s: float
) -> tuple[Happening, ...]:
    """Some of the work asks for as much as one of the machines has, or for less; all of that one by one in `busy_s`.

    Priorities are drawn as well.
    """
    share = rng.choice([0.0, 0.2, 0.6])
    drawn: list[Happening] = []
    for one in happenings:
        if isinstance(one, Work) and rng.random() < share:
            one = replace(one, priority=rng.choice([0, 0, 1, 5]))
            takes_s = sum(one.runs_s) * (1 + one.retries)
            machine = rng.choice(machines)
            if machine.slots and takes_s <= busy_s:
                busy_s -= takes_s
                one = _asking(rng, one, machine)
        drawn.append(one)
    return tuple(drawn)


def cancelling(
    rng: random.Random, happenings: tuple[Happening, ...], hosts: list[str]
) -> tuple[Happening, ...]:
    """Half of what is cancelled is cancelled from anywhere."""
    return tuple(
        replace(one, cancel_at=rng.choice(hosts))
        if isinstance(one, Work) and one.cancel_after_s is not None and rng.random() < 0.5
        else one
        for one in happenings
    )


def _asking(rng: random.Random, work: Work, machine: Size) -> Work:
    return replace(
        work,
        cpus=rng.randint(0, machine.slots),
        memory_bytes=rng.randint(0, machine.memory_bytes),
        gpus=rng.randint(0, machine.gpus),
    )


def _fitting(work: Work, busy_s: float) -> Work:
    """As many of its tasks as there is time for; the first in any case, and no longer than that time."""
    each_s = busy_s / (1 + work.retries)
    fitting: list[float] = []
    for runs_s in work.runs_s:
        if fitting and sum(fitting) + runs_s > each_s:
            break
        fitting.append(min(runs_s, each_s))
    return replace(work, runs_s=tuple(fitting))


def _work(rng: random.Random, host: str, peace_s: float, task_s_mean: float) -> Work:
    count = rng.choice([1, 1, 3, 10])
    return Work(
        at=rng.uniform(0.5, peace_s),
        host=host,
        runs_s=tuple(round(rng.expovariate(1 / task_s_mean), 4) for _ in range(count)),
        once=rng.random() < 0.25,
        no_overlap=rng.random() < 0.25,
        retries=rng.choice([0, 0, 2]),
        code=rng.choice([0, 0, 0, 3]),
        output_bytes=rng.choice([1, 1, 50_000]),
        cancel_after_s=rng.uniform(0.0, 1.5) if rng.random() < 0.2 else None,
    )
