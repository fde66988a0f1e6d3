"""`python -m sims mutants`: bugs planted in the core, each of which a property that it names must catch.

For each: failures per 1,000 seeds, the first seed that fails, and what caught it. A harness that lets a planted bug
pass would let the next real one pass as well. Exit code 0 when all are caught, 3 when one survives.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat

from sims.planted import MUTANTS, Mutant
from sims.planted.unit_tests import passed
from sims.scenario import run

SURVIVED = 3


@dataclass(slots=True)
class Caught:
    """How it went: in how many worlds a property that the mutant names failed, from which seed on, and which."""

    name: str
    seeds: int = 0
    first: int | None = None
    failures: int = 0
    by: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    @property
    def mutant(self) -> Mutant:
        return by_name(self.name)

    @property
    def per_1000(self) -> float:
        return 1000 * self.failures / self.seeds if self.seeds else 0.0


def failed(mutant: Mutant, seed: int) -> tuple[str, ...]:
    """What fails in the world of this seed while the bug is there."""
    with mutant.planted():
        return run(mutant.world(seed)).failed


def hunt(mutant: Mutant, seeds: range, enough: int | None = None) -> Caught:
    """Try the seeds, until it was caught `enough` times."""
    caught = Caught(mutant.name)
    for seed in seeds:
        names = failed(mutant, seed)
        caught.seeds += 1
        mine = [name for name in names if name in mutant.caught_by]
        caught.by.update(mine)
        caught.others.update(name for name in names if name not in mutant.caught_by)
        if mine:
            caught.failures += 1
            caught.first = seed if caught.first is None else caught.first
            if caught.failures == enough:
                break
    return caught


def table(rows: list[Caught]) -> str:
    lines = [
        "| planted bug | the rule that it breaks | caught by | per 1,000 seeds | first seed | unit tests |",
        "|---|---|---|---:|---:|---|",
    ]
    for row in rows:
        mutant = row.mutant
        by = ", ".join(name for name, _ in row.by.most_common()) or "nothing"
        first = "none" if row.first is None else str(row.first)
        tests = "pass" if mutant.unseen else "fail"
        lines.append(f"| {mutant.name} | {mutant.breaks} | {by} | {row.per_1000:.0f} | {first} | {tests} |")
    return "\n".join(lines)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="worlds for each")
    parser.add_argument("--first", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--only", help="those whose name contains this")
    parser.add_argument(
        "--unit-tests",
        action="store_true",
        help="instead: run the core's unit tests with each, and say which let it pass",
    )


def main(options: argparse.Namespace) -> int:
    mutants = [mutant for mutant in MUTANTS if not options.only or options.only in mutant.name]
    if options.unit_tests:
        return _unit_tests(mutants)
    names = [mutant.name for mutant in mutants]
    seeds, began = range(options.first, options.first + options.seeds), time.perf_counter()
    with ProcessPoolExecutor(options.jobs) as pool:
        rows = list(pool.map(_by_name, names, repeat(seeds)))
    print(table(rows))
    survivors = [row for row in rows if not row.failures]
    for row in survivors:
        by, others = " or ".join(row.mutant.caught_by), dict(row.others)
        print(f"\n{row.mutant.name}: not caught by {by} in {row.seeds} worlds; others failed: {others}")
    print(f"\n{len(rows) - len(survivors)} of {len(rows)} caught, {time.perf_counter() - began:.0f} s")
    return SURVIVED if survivors else 0


def _unit_tests(mutants: list[Mutant]) -> int:
    """Exit code 0 when `unseen` is true of exactly those that the unit tests let pass."""
    wrong = 0
    for mutant in mutants:
        unseen = passed(mutant.name)
        wrong += unseen is not mutant.unseen
        print(f"{mutant.name}: the core's unit tests {'pass' if unseen else 'fail'}", flush=True)
    return SURVIVED if wrong else 0


def _by_name(name: str, seeds: range) -> Caught:
    return hunt(by_name(name), seeds)


def by_name(name: str) -> Mutant:
    return next(mutant for mutant in MUTANTS if mutant.name == name)
