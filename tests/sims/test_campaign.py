"""A campaign tells all that is needed to see a failure again, and fails when it has seen too little."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import replace

import pytest

from sims import campaign
from sims.__main__ import main
from sims.campaign import elsewhere
from sims.marks import MARKS, REQUIRED
from sims.mutants import by_name
from sims.plan import draw
from sims.scenario import run

SEEDS = 200


def test_two_hundred_seeds_hold_repeat_and_see_all_that_may_happen(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["campaign", "--seeds", str(SEEDS), "--jobs", str(os.cpu_count() or 1)])
    out = capsys.readouterr().out
    with capsys.disabled():
        print("\n" + "\n".join(out.splitlines()[-3:]))
    assert code == 0, out
    assert f"{SEEDS} seeds, 0 failed" in out
    assert "NOT HIT" not in out
    repeated = re.search(r"(\d+) repeated elsewhere, 0 of them not alike", out)
    assert repeated is not None
    assert int(repeated[1]) >= SEEDS * campaign.REPEATED / 2
    assert "times life" in out
    assert "duplicate starts" in out
    assert "split-leader seconds" in out


def test_a_failure_is_told_with_all_that_repeats_it(capsys: pytest.CaptureFixture[str]) -> None:
    with by_name("attempt unstored").planted():
        arguments = [
            "campaign",
            "--seeds",
            "3",
            "--jobs",
            "1",
            "--nodes",
            "4",
            "--seconds",
            "30",
            "--no-marks",
        ]
        assert main(arguments) == campaign.SAFETY
        out = capsys.readouterr().out
        (command,) = re.findall(r"again: python -m sims (.*)", out)
        assert main(command.split()) == campaign.SAFETY
    assert "stored before started" in out
    assert "options: " in out
    assert "link: Weather(" in out
    assert "  |  " in out
    assert "of 1,000 seeds, first 1" in out
    assert f"smaller: python -m sims {command.replace('run', 'shrink', 1)}" in out


def test_a_run_that_does_not_repeat_itself_is_inconclusive(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(campaign, "REPEATED", 1.0)
    monkeypatch.setattr(campaign, "elsewhere", lambda *_: "another trace")
    arguments = ["campaign", "--seeds", "1", "--jobs", "1", "--nodes", "2", "--seconds", "10", "--no-marks"]
    assert main(arguments) == campaign.INCONCLUSIVE
    assert "seed 1 did not repeat itself" in capsys.readouterr().out


def test_what_was_never_seen_makes_it_inconclusive(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["campaign", "--seeds", "1", "--jobs", "1", "--nodes", "2", "--seconds", "10"]
    assert main(arguments) == campaign.INCONCLUSIVE
    assert "NOT HIT" in capsys.readouterr().out
    assert set(REQUIRED) < set(MARKS)


def test_a_run_repeats_to_the_hash_under_another_hash_seed() -> None:
    assert elsewhere("python -m sims run --seed 9 --nodes 3 --seconds 20", 9) == run(draw(9, 3, 20.0)).digest


def test_what_fails_first_by_kind_decides_the_exit_code() -> None:
    result = campaign.Result(
        1, campaign.LIVENESS, ("one leader",), (), 1.0, 1.0, {}, Counter(), repeated=False, strayed=False
    )
    both = campaign.Campaign()
    both.add(result)
    assert both.code(marked=False) == campaign.LIVENESS
    both.add(replace(result, code=campaign.SAFETY))
    assert both.code(marked=False) == campaign.SAFETY
