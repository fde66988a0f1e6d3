"""Many seeds, a world each; what failed with everything that is needed to see it again.

One seed in twenty runs once more in a fresh process under another `PYTHONHASHSEED` and must leave the same trace.
Together the seeds must hit every coverage mark: a campaign that never saw a refuted suspicion proves nothing of it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from sims.marks import REQUIRED, Marks
from sims.plan import draw
from sims.scenario import run
from sims.single import add_size, again, shown

ROOT = Path(__file__).parents[1]
SAFETY, LIVENESS, INCONCLUSIVE = 1, 2, 3
REPEATED = 0.05
PATIENCE_S = 300  # of real time for one world: what takes longer does not come to an end
SUMMED = ("duplicate starts", "split-leader seconds", "starts", "elections", "messages")


@dataclass(frozen=True, slots=True)
class Result:
    """What is left of one world when it is gone. `strayed`: it did not repeat itself."""

    seed: int
    code: int
    failed: tuple[str, ...]
    lines: tuple[str, ...]
    simulated_s: float
    took_s: float
    counts: dict[str, float]
    marks: Counter[str]
    repeated: bool
    strayed: bool


@dataclass(slots=True)
class Campaign:
    """All results so far, added up."""

    seeds: int = 0
    failures: list[Result] = field(default_factory=list)
    strayed: list[int] = field(default_factory=list)
    repeated: int = 0
    simulated_s: float = 0.0
    took_s: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.repeated += result.repeated
        self.simulated_s += result.simulated_s
        self.took_s += result.took_s
        self.marks += result.marks
        for name in SUMMED:
            self.counts[name] += result.counts.get(name, 0)  # type: ignore[assignment]
        if result.code:
            self.failures.append(result)
        if result.strayed:
            self.strayed.append(result.seed)

    @property
    def unhit(self) -> list[str]:
        return [name for name in REQUIRED if not self.marks[name]]

    def code(self, marked: bool) -> int:
        if self.failures:
            return min(result.code for result in self.failures)
        return INCONCLUSIVE if self.strayed or (marked and self.unhit) else 0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("campaign", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--no-marks", action="store_true", help="coverage marks may stay unhit")
    parser.add_argument("--all", action="store_true", help="every failure whole, not the first of each kind")
    add_size(parser)


def main(options: argparse.Namespace) -> int:
    campaign, began = Campaign(), time.perf_counter()
    told: set[str] = set()
    for result in results(options):
        campaign.add(result)
        _tell(result, options, told)
        if campaign.seeds % 100 == 0:
            print(f"{campaign.seeds} seeds, {len(campaign.failures)} failed", flush=True)
    _summary(campaign, time.perf_counter() - began, marked=not options.no_marks)
    return campaign.code(marked=not options.no_marks)


def results(options: argparse.Namespace) -> Iterator[Result]:
    """In the order of the seeds, however many processes there are."""
    one = partial(judge, options=options)
    seeds = range(options.first, options.first + options.seeds)
    if options.jobs == 1:
        yield from map(one, seeds)
        return
    with ProcessPoolExecutor(options.jobs) as pool:
        yield from pool.map(one, seeds)


def judge(seed: int, options: argparse.Namespace) -> Result:
    began = time.perf_counter()
    signal.signal(signal.SIGALRM, _endless)
    signal.alarm(PATIENCE_S)
    verdict = run(draw(seed, options.nodes, options.seconds), marks=Marks())
    signal.alarm(0)
    took_s = time.perf_counter() - began
    repeat = random.Random(f"{seed}:again").random() < REPEATED
    command = again(seed, options)
    return Result(
        seed=seed,
        code=verdict.exit_code,
        failed=verdict.failed,
        lines=tuple(shown(verdict, took_s, command)) if verdict.exit_code else (),
        simulated_s=verdict.at,
        took_s=took_s,
        counts=verdict.counts,
        marks=verdict.marks,
        repeated=repeat,
        strayed=repeat and elsewhere(command, seed) != verdict.digest,
    )


def _endless(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"still not done after {PATIENCE_S} s of real time")


def elsewhere(command: str, seed: int) -> str:
    """The trace of the same run in a fresh process, whose sets and dicts of strings have another order."""
    words = command.split()[1:]
    ran = subprocess.run(
        [sys.executable, *words, "--digest"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": str(1 + seed % 4_000_000_000)},
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout.strip()


def _tell(result: Result, options: argparse.Namespace, told: set[str]) -> None:
    """The first failure of each kind whole, of the others the seed."""
    if result.strayed:
        print(f"seed {result.seed} did not repeat itself: {again(result.seed, options)} --digest")
    if not result.code:
        return
    if options.all or not told.issuperset(result.failed):
        told.update(result.failed)
        print("\n".join(result.lines))
        print(f"  smaller: {again(result.seed, options).replace(' run ', ' shrink ')}", flush=True)
    else:
        print(f"seed {result.seed}: again {', '.join(result.failed)}", flush=True)


def _summary(campaign: Campaign, elapsed_s: float, marked: bool) -> None:
    for name, count in Counter(name for result in campaign.failures for name in result.failed).most_common():
        first = next(result.seed for result in campaign.failures if name in result.failed)
        print(f"{name}: {count * 1000 / campaign.seeds:g} of 1,000 seeds, first {first}")
    for name in REQUIRED:
        print(f"mark {name}: {campaign.marks[name] or 'NOT HIT' if marked else campaign.marks[name]}")
    print(
        f"{campaign.seeds} seeds, {len(campaign.failures)} failed, {campaign.repeated} repeated elsewhere, "
        f"{len(campaign.strayed)} of them not alike"
    )
    print(
        f"{campaign.simulated_s:.0f} s simulated in {elapsed_s:.0f} s: "
        f"{campaign.simulated_s / elapsed_s:.0f} times life "
        f"({campaign.simulated_s / max(campaign.took_s, 1e-9):.0f} a core)"
    )
    print(", ".join(f"{campaign.counts[name]:g} {name}" for name in SUMMED))
