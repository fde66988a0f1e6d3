"""`python -m sims run`: one world and its verdict, from a seed or from a file; and how a verdict is shown."""

from __future__ import annotations

import argparse
import time

from sims.plan import draw
from sims.scenario import Verdict, run


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120.0, help="of the world's own time")
    parser.add_argument("--plan", action="store_true", help="print what the seed has drawn, too")


def main(options: argparse.Namespace) -> int:
    codes = [_one(seed, options) for seed in range(options.seed, options.seed + options.count)]
    return min((code for code in codes if code), default=0)


def _one(seed: int, options: argparse.Namespace) -> int:
    plan = draw(seed, options.nodes, options.seconds)
    if options.plan:
        print(*(f"  {happening}" for happening in plan.happenings), sep="\n")
    began = time.perf_counter()
    verdict = run(plan)
    _show(verdict, time.perf_counter() - began)
    return verdict.exit_code


def _show(verdict: Verdict, took_s: float) -> None:
    plan = verdict.plan
    word = "SAFETY VIOLATED" if verdict.violation else "LIVENESS UNMET" if verdict.unmet else "held"
    print(
        f"seed {plan.seed}: {word}; {plan.nodes} nodes, {plan.seconds:g} s in {took_s:.2f} s "
        f"({plan.seconds / took_s:.0f} times life), trace {verdict.digest[:16]}"
    )
    print("  " + ", ".join(f"{count} {name}" for name, count in verdict.counts.items()))
    for line in verdict.story:
        print("  |", line)
    if verdict.violation:
        print("  !", verdict.violation)
    for complaint in verdict.unmet:
        print("  ?", complaint)
    if verdict.exit_code:
        print(
            f"  again: python -m sims run --seed {plan.seed} --nodes {plan.nodes} --seconds {plan.seconds:g}"
        )
