"""The worlds that the bugs are tried in."""

from __future__ import annotations

from msgspec.structs import replace

from sims.faults import Drain
from sims.links import Weather
from sims.plan import Plan, draw

NODES = 4
SECONDS = 40.0


def mixed(seed: int) -> Plan:
    """As any campaign draws them, but small."""
    return draw(seed, NODES, SECONDS)


def hostile(seed: int) -> Plan:
    """Links that repeat and reorder."""
    return replace(mixed(seed), link=Weather(mode="hostile", duplicate=0.2, stray=0.2))


def turning(seed: int) -> Plan:
    """The lead goes on every few seconds."""
    return replace(mixed(seed), settings={"rotation_s": 4.0})


def hasty(seed: int) -> Plan:
    """The lead goes on all the time, and grants run out before slow messages arrive."""
    plan = replace(mixed(seed), settings={"rotation_s": 1.0, "grant_ttl_s": 0.05})
    return replace(plan, link=Weather(mode="hostile", latency="mixed", stray=0.3))


def draining(seed: int) -> Plan:
    """Every node stops to take tasks now and then."""
    plan = hostile(seed)
    drains = [Drain(at=2.0 + 1.5 * k, host=f"n{k % NODES}", for_s=1.0) for k in range(10)]
    return replace(plan, happenings=tuple(sorted([*plan.happenings, *drains], key=lambda one: one.at)))
