"""Ten thousand detached tasks over three nodes: every one runs once, and each leaves a line to prove it."""

from __future__ import annotations

import pytest

from benchmarks.load import with_ledger
from benchmarks.local_mesh import LocalMesh, wait_until

TASKS = 10_000


@pytest.mark.slow
def test_ten_thousand_tasks_none_lost_none_doubled() -> None:
    with LocalMesh(("a", "b", "c"), "--slots", "2") as mesh:
        ledger = with_ledger(mesh, TASKS)
        assert len(ledger) == TASKS
        assert set(ledger.values()) == {1}
        wait_until(
            lambda: mesh["b"].control("status")["tasks"]["succeeded"] >= TASKS, "the counts at another node"
        )
