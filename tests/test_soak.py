"""A minute of what `make soak` does for an hour, through the same code, but that what the nodes weigh is not judged."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest

from benchmarks.soak import plot
from benchmarks.soak.__main__ import soak
from benchmarks.soak.fleet import NODES
from benchmarks.soak.work import KINDS

SEED = 1
KILL_EVERY_S = 8.0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_minute_of_deaths_loses_nothing(tmp_path: Path) -> None:
    verdict, scales, fleet = soak(1, SEED, KILL_EVERY_S, out=tmp_path)
    print("\n".join(verdict.lines()))
    assert verdict.failures == []
    assert sum(verdict.ended.values()) == sum(verdict.accepted.values()) > 0
    assert set(verdict.accepted) <= set(KINDS)
    assert sum(verdict.deaths.values()) == len(fleet.deaths) > 0
    assert verdict.starts > verdict.accepted["short"]
    assert json.loads((tmp_path / "soak.json").read_text())["failures"] == []
    rows = list(csv.DictReader((tmp_path / "samples.csv").read_text().splitlines()))
    assert {row["node"] for row in rows} == {f"n{number}" for number in range(1, NODES + 1)}
    drawn = plot.svg("x", scales.samples, fleet.deaths)
    assert drawn.count(plot.MARK) == len(plot.PANELS) * len(fleet.deaths)
