"""`python -m sims run --seed 17`: one world, its verdict, and how much faster than life it ran.

Exit code 0 when everything held, 1 when a safety property did not, 2 when a liveness property did not.
"""

from __future__ import annotations

import argparse
import sys
import time

from sims.plan import draw
from sims.scenario import Verdict, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m sims", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="run the worlds of one or more seeds")
    one.add_argument("--seed", type=int, default=1, help="the first seed")
    one.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    one.add_argument("--nodes", type=int, default=5)
    one.add_argument("--seconds", type=float, default=120.0, help="of the world's own time")
    one.add_argument("--plan", action="store_true", help="print what the seed has drawn, too")
    options = parser.parse_args()
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


if __name__ == "__main__":
    sys.exit(main())
