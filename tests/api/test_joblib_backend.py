"""joblib's loops on a mesh: only where a node takes pickles, and its failures are joblib's own."""

from __future__ import annotations

from collections.abc import Iterator

import joblib
import pytest

import openclaw.joblib
from benchmarks.local_mesh import LocalMesh
from openclaw.errors import Unavailable


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalMesh]:
    with LocalMesh(("here",)) as nodes:
        yield nodes


def test_nothing_runs_where_nobody_takes_pickles_and_all_where_somebody_does(nodes: LocalMesh) -> None:
    here = nodes["here"].state_dir

    def divide(value: int, by: int) -> float:  # within a function: pickled whole, as from a notebook
        return value / by

    with (
        joblib.parallel_config(openclaw.joblib.NAME, state_dir=here),
        pytest.raises(Unavailable, match=r"--handlers openclaw\.joblib"),
    ):
        joblib.Parallel()([joblib.delayed(divide)(1, 1)])
    nodes["here"].stop()
    nodes["here"].start("--handlers", "openclaw.joblib", "--slots", "2")
    with joblib.parallel_config(openclaw.joblib.NAME, state_dir=here, priority=1):
        parallel = joblib.Parallel()
        assert parallel(joblib.delayed(divide)(n, 2) for n in range(50)) == [n / 2 for n in range(50)]
        with pytest.raises(ZeroDivisionError):
            parallel(joblib.delayed(divide)(1, n) for n in (1, 0, 1))
        assert parallel(joblib.delayed(divide)(n, 1) for n in range(3)) == [0, 1, 2]
