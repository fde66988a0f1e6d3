"""Every file in `scenarios/` and `bugs/`: the cases that have a name, each with what must hold in it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from sims.plan import variants
from sims.scenario import run
from sims.single import shown
from sims.tomlfile import BUGS, SCENARIOS, load


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("scenarios", description=__doc__)
    parser.add_argument("name", nargs="*", help="only files whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")


def main(options: argparse.Namespace) -> int:
    paths = [path for path in files() if not options.name or any(word in path.stem for word in options.name)]
    if not paths:
        print("no scenario is called like that: `python -m sims scenarios --list` names them all")
        return 3
    codes = [_listed(path) if options.list else _run(path) for path in paths]
    return min((code for code in codes if code), default=0)


def files() -> list[Path]:
    return [*sorted(SCENARIOS.glob("*.toml")), *sorted(BUGS.glob("*.toml"))]


def _listed(path: Path) -> int:
    print(f"{path.parent.name}/{path.stem}: {load(path).about}")
    return 0


def _run(path: Path) -> int:
    began = time.perf_counter()
    verdicts = [run(plan) for plan in variants(load(path))]
    took_s = time.perf_counter() - began
    bad = [verdict for verdict in verdicts if verdict.exit_code]
    word = f"FAILED: {', '.join(bad[0].failed)}" if bad else "held"
    simulated_s = sum(verdict.at for verdict in verdicts)
    speed = f"{simulated_s:g} s in {took_s:.1f} s, {simulated_s / took_s:.0f} times life"
    print(f"{path.parent.name}/{path.stem}: {word} ({speed})", flush=True)
    if bad:
        print(f"  {bad[0].plan.about}")
        print("\n".join(shown(bad[0], took_s, f"python -m sims run {path}")))
    return min((verdict.exit_code for verdict in bad), default=0)
