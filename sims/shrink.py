"""The smallest scenario that still fails as this one does, written to `sims/bugs/`, where it stays as a test.

Seeds rot when the code changes; what happened does not. Happenings, tasks, nodes and seconds are taken away (delta
debugging) for as long as the same property fails.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from openclaw.records import Tier
from sims.faults import Happening, Work
from sims.network import Weather
from sims.plan import Plan, draw, names
from sims.scenario import Verdict, run
from sims.single import add_size
from sims.tomlfile import BUGS, dumps, load

T = TypeVar("T")
Fails = Callable[[Plan], bool]

replace = msgspec.structs.replace
ROUNDS_MAX = 6
RUNS_MAX = 2000


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("shrink", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a scenario that fails, instead of a seed")
    parser.add_argument("--seed", type=int, default=1)
    add_size(parser)
    parser.add_argument("--name", help="of the file, without .toml")


def main(options: argparse.Namespace) -> int:
    plan = load(options.file) if options.file else draw(options.seed, options.nodes, options.seconds)
    verdict = run(plan)
    if not verdict.failed:
        print(f"seed {plan.seed} holds: there is nothing to shrink")
        return 0
    failed = verdict.failed[0]
    print(f"seed {plan.seed} fails: {failed}; {size(plan)}")
    small = shrink(plan, Failing(failed), verdict)
    path = BUGS / f"{options.name or _slug(f'{failed} {plan.seed}')}.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(dumps(replace(small, about=f"{failed} did not hold (found by seed {plan.seed})")))
    print(f"{size(small)}: {path}\n  again: python -m sims run {path}")
    return verdict.exit_code


class Failing:
    """Whether a plan fails in this way; gives up saying so after `RUNS_MAX` runs."""

    def __init__(self, failed: str) -> None:
        self._failed = failed
        self._runs = 0

    def __call__(self, plan: Plan) -> bool:
        self._runs += 1
        return self._runs <= RUNS_MAX and self._failed in run(plan).failed


def shrink(plan: Plan, fails: Fails, verdict: Verdict | None = None) -> Plan:
    """Smaller and smaller, until nothing more can be taken away; `fails` holds of the result as of `plan`."""
    if verdict is not None and verdict.violation:
        plan = _first(plan, [_until(plan, verdict.at)], fails)
    for _ in range(ROUNDS_MAX):
        before = plan
        for smaller in (_happenings, _work, _nodes, _simpler, _sooner):
            plan = smaller(plan, fails)
        if plan == before:
            break
    return plan


def size(plan: Plan) -> str:
    tasks = sum(len(happening.runs_s) for happening in plan.happenings if isinstance(happening, Work))
    return f"{len(plan.happenings)} happenings, {tasks} tasks, {plan.nodes} nodes, {plan.seconds:g} s"


def ddmin(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> tuple[T, ...]:
    """A part of `items` that still fails, and of which no single item can be left out (Zeller's ddmin)."""
    items, parts = tuple(items), 2
    if items and fails(()):
        return ()
    while len(items) >= 2:
        length = -(-len(items) // parts)
        without = (items[:at] + items[at + length :] for at in range(0, len(items), length))
        smaller = next((rest for rest in without if fails(rest)), None)
        if smaller is not None:
            items, parts = smaller, max(parts - 1, 2)
        elif parts >= len(items):
            break
        else:
            parts = min(parts * 2, len(items))
    return items


def _happenings(plan: Plan, fails: Fails) -> Plan:
    kept = ddmin(plan.happenings, lambda some: fails(replace(plan, happenings=tuple(some))))
    return replace(plan, happenings=kept)


def _work(plan: Plan, fails: Fails) -> Plan:
    for index, happening in enumerate(plan.happenings):
        if isinstance(happening, Work):
            plan = _fewer_tasks(plan, index, happening, fails)
    return plan


def _fewer_tasks(plan: Plan, index: int, work: Work, fails: Fails) -> Plan:
    runs_s = ddmin(work.runs_s, lambda some: fails(_with(plan, index, replace(work, runs_s=tuple(some)))))
    plan = _with(plan, index, replace(work, runs_s=runs_s))
    return _first(plan, [_with(plan, index, Work(work.at, work.host, runs_s))], fails)


def _nodes(plan: Plan, fails: Fails) -> Plan:
    """Without the last node, and all that happens to it; or without another, the last one in its place."""
    while plan.nodes > 1:
        smaller = _first(plan, (_without(plan, name) for name in reversed(names(plan.nodes))), fails)
        if smaller is plan:
            break
        plan = smaller
    return plan


def _without(plan: Plan, name: str) -> Plan:
    last = names(plan.nodes)[-1]
    there = [_renamed(happening, name, last) for happening in plan.happenings]
    return replace(
        plan,
        nodes=plan.nodes - 1,
        happenings=tuple(happening for happening in there if happening is not None),
    )


def _renamed(happening: Happening, gone: str, last: str) -> Happening | None:
    """The happening without the host that is gone, whose name the last one takes; None when nothing is left of it."""
    fields = msgspec.to_builtins(happening)
    for key, value in fields.items():
        if key == "do":
            continue
        if value == gone:
            return None
        if value == last:
            fields[key] = gone
        elif isinstance(value, list | tuple) and any(isinstance(item, str) for item in value):
            fields[key] = [gone if item == last else item for item in value if item != gone]
            if not fields[key]:
                return None
        elif key == "pairs":
            fields[key] = [
                [gone if end == last else end for end in pair] for pair in value if gone not in pair
            ]
    return _happening(fields)


def _happening(fields: dict[str, object]) -> Happening:
    happening: Happening = msgspec.convert(fields, Happening)
    return happening


def _simpler(plan: Plan, fails: Fails) -> Plan:
    """A network, nodes and times that need no explaining."""
    plan = _first(plan, [replace(plan, link=Weather())], fails)
    plan = _first(plan, [replace(plan, settings={})], fails)
    plan = _first(plan, [replace(plan, slots=(2,), tiers=(Tier.MAINS,))], fails)
    for index in range(len(plan.happenings)):
        plan = _first(
            plan, (_with(plan, index, round_) for round_ in _rounded(plan.happenings[index])), fails
        )
    return plan


def _rounded(happening: Happening) -> Iterator[Happening]:
    fields = msgspec.to_builtins(happening)
    for digits in (0, 1, 2, 3):
        rounded = {
            key: round(value, digits) if isinstance(value, float) else value for key, value in fields.items()
        }
        if rounded == fields:
            return
        yield _happening(rounded)


def _sooner(plan: Plan, fails: Fails) -> Plan:
    """Peace as soon as the last thing has happened; whatever is expected moves with it."""
    last = max((happening.at for happening in plan.happenings), default=0.0)
    return _first(plan, (_peace(plan, last + after_s) for after_s in (1.0, 5.0, 20.0)), fails)


def _peace(plan: Plan, peace_s: float) -> Plan:
    earlier_s = plan.peace_s - peace_s
    if earlier_s <= 0:
        return plan
    expect = tuple(
        replace(expect, from_s=expect.from_s - earlier_s) if expect.from_s >= plan.peace_s else expect
        for expect in plan.expect
    )
    return replace(plan, peace_s=peace_s, seconds=plan.seconds - earlier_s, expect=expect)


def _until(plan: Plan, at: float) -> Plan:
    """Nothing after the failure matters to it."""
    happened = tuple(happening for happening in plan.happenings if happening.at <= at)
    return replace(
        plan, seconds=at + 1.0, peace_s=min(plan.peace_s, at + 1.0), happenings=happened, expect=()
    )


def _with(plan: Plan, index: int, happening: Happening) -> Plan:
    happenings = [*plan.happenings[:index], happening, *plan.happenings[index + 1 :]]
    return replace(plan, happenings=tuple(happenings))


def _first(plan: Plan, smaller: Sequence[Plan] | Iterator[Plan], fails: Fails) -> Plan:
    """The first of these that fails too, or the plan as it is."""
    return next((other for other in smaller if other != plan and fails(other)), plan)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
