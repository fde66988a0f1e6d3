"""How much faster than life the simulator runs, on one core.

    python -m benchmarks.simulation [--nodes 5 100 1000] [--rounds 3]

Simulated seconds over the seconds that the processor worked on them, which other work on the machine disturbs less
than the clock on the wall does; the median of the rounds, and the slowest and fastest. Each row is one world: how
many nodes, what they do, and whether all properties watch every step. A large world begins as a mesh that has been
there for a while; what that takes is printed beside it, and is not in the ratio.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from openclaw.records import Meta
from sims import warm
from sims.__main__ import GARBAGE_EVERY
from sims.faults import Work
from sims.plan import Plan
from sims.properties import all_properties
from sims.scenario import run
from sims.world import World

SMALL_S = 300.0
PEACE_S = 30.0
TASK_S = 0.5


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds of the world's time, and of the processor's for its beginning and for the rest."""

    simulated_s: float
    begin_s: float
    run_s: float

    @property
    def ratio(self) -> float:
        return self.simulated_s / self.run_s


def small(nodes: int, task_every_s: float | None) -> Took:
    """From the first start to the verdict, as `sims run` does it."""
    peace_s = SMALL_S - PEACE_S
    count = int(peace_s / task_every_s) if task_every_s else 0
    work = tuple(
        Work(at=1.0 + (task_every_s or 0.0) * number, host=f"n{number % nodes}", runs_s=(TASK_S,))
        for number in range(count)
    )
    plan = Plan(seed=1, nodes=nodes, seconds=SMALL_S, peace_s=peace_s, happenings=work)
    began = time.process_time()
    verdict = run(plan)
    took = Took(verdict.at, 0.0, time.process_time() - began)
    if verdict.exit_code:
        raise RuntimeError(f"this world must hold, and does not: {verdict.violation or verdict.unmet}")
    return took


def large(nodes: int, seconds: float, watched: bool) -> Took:
    began = time.process_time()
    world = World(1, properties=all_properties() if watched else ())
    for number in range(nodes):
        world.add_host(f"n{number}", Meta(slots=2))
    warm.start(world)
    there, begin_s = world.now, time.process_time() - began
    world.run(there + seconds)
    return Took(world.now - there, begin_s, time.process_time() - began - begin_s)


ROWS: tuple[tuple[int, str, Callable[[], Took]], ...] = (
    (5, "idle, all properties", lambda: small(5, None)),
    (5, "a task every 10 s, all properties", lambda: small(5, 10.0)),
    (5, "a task every second, all properties", lambda: small(5, 1.0)),
    (100, "idle, all properties", lambda: large(100, 30.0, watched=True)),
    (100, "idle", lambda: large(100, 30.0, watched=False)),
    (1000, "idle, a minute", lambda: large(1000, 60.0, watched=False)),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[5, 100, 1000])
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    gc.set_threshold(GARBAGE_EVERY)  # as `python -m sims` does
    print("simulated over processor seconds: median (slowest to fastest) of", options.rounds)
    for nodes, what, once in ROWS:
        if nodes in options.nodes:
            rounds = [once() for _ in range(options.rounds)]
            ratios = sorted(took.ratio for took in rounds)
            run_s = statistics.median(took.run_s for took in rounds)
            begin_s = statistics.median(took.begin_s for took in rounds)
            before = f", after {begin_s:.1f} s to begin" if begin_s else ""
            print(
                f"{nodes:5} nodes, {what:36} {statistics.median(ratios):7.1f} ({ratios[0]:.1f} to {ratios[-1]:.1f})"
                f"   {rounds[0].simulated_s:g} s in {run_s:.2f} s{before}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
