"""What some seeds have much of: a queue, hand-overs, strays, owners that are away, quick restarts, GPUs.

A fault drawn by itself seldom meets the one other thing that it takes. A third of all seeds get one theme on top of
what they drew, and in half of them what is over is deleted, with dice of their own: that changes nothing else.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from sims.faults import Crash, Drain, Forget, Happening, Work

if TYPE_CHECKING:
    from sims.plan import Plan

Theme = Callable[[random.Random, "Plan", list[str]], "Plan"]

replace = msgspec.structs.replace


def themed(seed: int, plan: Plan, hosts: list[str]) -> Plan:
    plan = _with(plan, _forgetting(random.Random(f"{seed}:forgetting"), plan, hosts))
    rng = random.Random(f"{seed}:theme")
    theme = rng.choice([*THEMES, *(None,) * 2 * len(THEMES)])
    if theme is None:
        return plan
    plan = THEMES[theme](rng, plan, hosts)
    return replace(plan, about=f"{plan.about}; {theme}")


def _forgetting(rng: random.Random, plan: Plan, hosts: list[str]) -> list[Forget]:
    """In half of the runs what is over is deleted now and then, while all else goes on."""
    count = rng.choice([0, 0, 1, 4])
    return [
        Forget(rng.uniform(plan.peace_s / 4, 1.2 * plan.peace_s), rng.choice(hosts)) for _ in range(count)
    ]


def queue(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """Several owners want more places than there are, for work of several jobs, some of it more urgent."""
    at = rng.uniform(2.0, plan.peace_s / 2)
    work = [
        Work(
            at=at + rng.uniform(0.0, 2.0),
            host=host,
            runs_s=(rng.choice([0.02, 0.1, 0.2]),) * rng.randint(4, 16),
            priority=rng.choice([0, 0, 0, 3]),
            job=rng.choice(["", "nightly"]),
        )
        for host in _some(rng, hosts, 3)
        for _ in range(4)
    ]
    return _with(plan, work)


def hand_overs(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """The lead goes on every few seconds, and grants run out before slow messages arrive."""
    settings = {"rotation_s": rng.choice([2.0, 4.0]), "grant_ttl_s": rng.choice([0.05, 1.0, 10.0])}
    link = replace(plan.link, mode="hostile", latency="mixed", stray=rng.choice([0.1, 0.3]))
    return _with(
        replace(plan, link=link, settings=plan.settings | settings),
        _trickle(rng, plan.peace_s, hosts, 30, once=0.1),
    )


def strays(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """Much arrives twice, or late, while nodes drain and take tasks again."""
    link = replace(plan.link, mode="hostile", duplicate=0.2, stray=0.2)
    drains = [
        Drain(at=rng.uniform(2.0, plan.peace_s), host=rng.choice(hosts), for_s=rng.uniform(0.2, 2.0))
        for _ in range(6)
    ]
    return _with(replace(plan, link=link), [*drains, *_trickle(rng, plan.peace_s, hosts, 20, once=0.2)])


def owners_away(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """Owners lose power for longer than their guardians wait, with work that must not be done twice."""
    deaths = [
        Crash(rng.uniform(3.0, plan.peace_s), host, effects=0, machine=True, down_s=rng.uniform(3.0, 9.0))
        for host in _some(rng, hosts, 4)
    ]
    settings = {"guard_grace_s": 2.0, "keep_restart_grace_s": 3.0}
    plan = replace(plan, settings=plan.settings | settings)
    return _with(plan, [*deaths, *_trickle(rng, plan.peace_s, hosts, 16, once=0.5)])


def quick_restarts(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """Processes end and are back at once, and what was meant for them before still finds them."""
    link = replace(plan.link, mode="hostile", latency="mixed", stray=0.3)
    crashes = [
        Crash(
            rng.uniform(2.0, plan.peace_s),
            rng.choice(hosts),
            effects=rng.choice([0, 0, 5]),
            machine=False,
            down_s=rng.choice([0.01, 0.2]),
        )
        for _ in range(16)
    ]
    return _with(replace(plan, link=link), [*crashes, *_trickle(rng, plan.peace_s, hosts, 20, once=0.1)])


def gpus(rng: random.Random, plan: Plan, hosts: list[str]) -> Plan:
    """Every machine has two GPUs, and much work wants one of them."""
    work = [
        replace(one, gpus=rng.choice([0, 1, 1, 2]))
        for one in _trickle(rng, plan.peace_s, hosts, 20, once=0.0)
    ]
    return _with(replace(plan, gpus=(2,)), work)


THEMES: dict[str, Theme] = {
    "a queue": queue,
    "hand-overs": hand_overs,
    "strays": strays,
    "owners away": owners_away,
    "quick restarts": quick_restarts,
    "GPUs": gpus,
}


def _trickle(rng: random.Random, peace_s: float, hosts: list[str], count: int, once: float) -> list[Work]:
    """Small work at any time of the trouble, at any host."""
    return [
        Work(
            at=rng.uniform(1.0, peace_s),
            host=rng.choice(hosts),
            runs_s=(rng.choice([0.02, 0.2, 1.0]),) * rng.randint(1, 3),
            once=rng.random() < once,
        )
        for _ in range(count)
    ]


def _some(rng: random.Random, hosts: list[str], most: int) -> list[str]:
    return sorted(rng.sample(hosts, min(most, len(hosts))))


def _with(plan: Plan, more: Sequence[Happening]) -> Plan:
    return replace(plan, happenings=tuple(sorted([*plan.happenings, *more], key=lambda one: one.at)))
