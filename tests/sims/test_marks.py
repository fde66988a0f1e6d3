"""Coverage marks: each is hit where what it says happens, and none where nothing does."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from sims.faults import DiskFull, Drain, Forget, Stop, Work
from sims.marks import MARKS, REQUIRED, SELDOM, Marks
from sims.plan import Plan
from sims.planted.worlds import draining, dying, hasty, hostile, hurried, mute, sleepy, turning
from sims.properties import all_properties
from sims.scenario import build

ROUNDS = 30


def busy(seed: int) -> Plan:
    """Much is cancelled as it runs or ends, disks are full, nodes stop and come back soon, and one forgets."""
    work = [
        Work(
            at=2.0 + k / 2,
            host=f"n{k % 4}",
            runs_s=(0.6,) * 2,
            output_bytes=50_000,
            cancel_after_s=0.6 * (k % 3),
        )
        for k in range(30)
    ]
    full = [DiskFull(at=4.0 + 5 * k, host=f"n{k}", for_s=2.0) for k in range(3)]
    stops = [Stop(at=5.0 + 5 * k, host=f"n{k}", keep=k % 2 == 0, down_s=1.0) for k in range(4)]
    drains = [Drain(at=3.0 + k, host=f"n{k % 4}", for_s=0.5) for k in range(14)]
    forgets = [Forget(at=15.0 + k, host=f"n{k % 4}") for k in range(8)]
    plan = hostile(seed)
    happenings = sorted([*plan.happenings, *work, *full, *stops, *drains, *forgets], key=lambda one: one.at)
    return replace(plan, happenings=tuple(happenings), settings={"rotation_s": 4.0})


WORLDS = (busy, draining, dying, hurried, hasty, mute, sleepy, turning)


def marked(plan: Plan) -> Marks:
    marks = Marks()
    world = build(plan, (*all_properties(), marks))
    marks.watch(world)
    world.run(plan.peace_s)
    world.calm()
    world.run(plan.seconds)
    return marks


def test_each_has_a_sentence_and_what_is_seldom_is_not_required() -> None:
    assert all(sentence.endswith(".") for sentence in MARKS.values())
    assert set(MARKS) >= SELDOM
    assert set(REQUIRED) == set(MARKS) - SELDOM
    assert len(set(MARKS.values())) == len(MARKS)


def test_where_nothing_happens_nothing_is_marked() -> None:
    plan = Plan(seed=1, nodes=3, seconds=20.0, peace_s=10.0)
    assert set(+marked(plan).hit) <= {"refused at the door"}


@pytest.fixture(scope="module")
def hit() -> set[str]:
    """What some worlds hit: no more of them than it takes."""
    found: set[str] = set()
    for seed in range(1, ROUNDS):
        for world in WORLDS:
            found |= set(+marked(world(seed)).hit)
            if found >= set(MARKS):
                return found
    return found


@pytest.mark.parametrize("name", MARKS)
def test_it_can_be_hit(name: str, hit: set[str]) -> None:
    assert name in hit
