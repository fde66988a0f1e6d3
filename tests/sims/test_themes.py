"""A theme adds to what a seed drew, and changes nothing else of it; each is drawn, and a world outlives it."""

from __future__ import annotations

import random

import pytest

from sims.faults import Forget
from sims.plan import draw, names, plain
from sims.scenario import run
from sims.themes import THEMES

SEEDS = range(1, 61)


def test_a_third_of_the_seeds_has_one_and_each_is_drawn() -> None:
    drawn = [draw(seed).about.rpartition("; ")[2] for seed in SEEDS]
    themed = [about for about in drawn if about in THEMES]
    assert set(themed) == set(THEMES)
    assert len(SEEDS) / 5 < len(themed) < len(SEEDS) / 2


def test_all_that_was_drawn_still_happens_and_in_order() -> None:
    for seed in SEEDS:
        before, after = plain(seed), draw(seed)
        assert set(before.happenings) <= set(after.happenings)
        assert [one.at for one in after.happenings] == sorted(one.at for one in after.happenings)


def test_what_is_over_is_deleted_in_some_and_not_in_others() -> None:
    forgetful = sum(any(isinstance(one, Forget) for one in draw(seed).happenings) for seed in SEEDS)
    assert len(SEEDS) / 4 < forgetful < 3 * len(SEEDS) / 4


@pytest.mark.parametrize("theme", THEMES)
def test_a_world_holds_under_each(theme: str) -> None:
    plan = THEMES[theme](random.Random(1), plain(1, 4, 40.0), names(4))
    assert run(plan).failed == ()
