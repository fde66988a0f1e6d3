"""One world and its verdict: from a seed, or from a file; and how a verdict is shown."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sims.plan import Plan, draw, variants
from sims.scenario import Verdict, run
from sims.tomlfile import dumps, load


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("run", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a scenario, instead of a seed")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--count", type=int, default=1, help="how many seeds, one after the other")
    add_size(parser)
    parser.add_argument("--plan", action="store_true", help="print the scenario as a file, too")
    parser.add_argument("--digest", action="store_true", help="print the hash of the trace, nothing else")


def add_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--nodes", type=int, help="without it the seed decides")
    parser.add_argument("--seconds", type=float, help="of the world's own time; without it the seed decides")


def main(options: argparse.Namespace) -> int:
    if options.file is not None:
        plans = variants(load(options.file))
    else:
        seeds = range(options.seed, options.seed + options.count)
        plans = [draw(seed, options.nodes, options.seconds) for seed in seeds]
    codes = [_one(plan, again(plan.seed, options), options) for plan in plans]
    return min((code for code in codes if code), default=0)


def again(seed: int, options: argparse.Namespace) -> str:
    """The one command that repeats a run."""
    if getattr(options, "file", None) is not None:
        return f"python -m sims run {options.file}"
    nodes = "" if options.nodes is None else f" --nodes {options.nodes}"
    seconds = "" if options.seconds is None else f" --seconds {options.seconds:g}"
    return f"python -m sims run --seed {seed}{nodes}{seconds}"


def _one(plan: Plan, command: str, options: argparse.Namespace) -> int:
    if options.plan:
        print(dumps(plan))
    began = time.perf_counter()
    verdict = run(plan)
    if options.digest:
        print(verdict.digest)
    else:
        print("\n".join(shown(verdict, time.perf_counter() - began, command)))
    return verdict.exit_code


def shown(verdict: Verdict, took_s: float, command: str) -> list[str]:
    """A verdict for people: a line each for the result and the counts; what failed is told whole."""
    plan = verdict.plan
    word = "SAFETY VIOLATED" if verdict.violation else "LIVENESS UNMET" if verdict.unmet else "held"
    lines = [
        f"seed {plan.seed}: {word}; {plan.nodes} nodes, {verdict.at:g} s in {took_s:.2f} s "
        f"({verdict.at / took_s:.0f} times life), trace {verdict.digest[:16]}",
        "  " + ", ".join(f"{count:g} {name}" for name, count in verdict.counts.items()),
    ]
    if verdict.exit_code:
        lines += [f"  options: {plan.about}", f"  link: {plan.link}"]
        lines += [f"  | {line}" for line in verdict.story]
        lines += [f"  ! {verdict.violation}"] if verdict.violation else []
        lines += [f"  ? {complaint}" for complaint in verdict.unmet]
        lines.append(f"  again: {command}")
    return lines
