"""Nodes that share one machine wait for its cores and its disk, as real ones do."""

from __future__ import annotations

from collections import defaultdict

from openclaw.effects import LinkUp, Tick
from openclaw.ids import NodeId
from sims import experiments
from sims.bench import OURS, Bench
from sims.experiments import Samples
from sims.shared import Costs, Shared

PEER = NodeId("peer")


def spread_s(shared: Shared | None) -> float:
    bench = Bench(OURS, 6, seed=1, shared=shared)
    bench.found()
    samples: Samples = defaultdict(list)
    experiments.join(bench, samples)
    return samples["join_spread_s"][0]


def test_who_comes_third_to_two_cores_waits_for_the_first_that_is_free() -> None:
    shared = Shared(2, Costs(event_s=0.1, link_s=0.0, commits_s=(0.0,)))
    assert shared.spend((Tick(), Tick()), 1.0) == 0.2
    assert shared.free_at <= 1.0
    assert shared.spend((), 1.0) == 0.1
    assert shared.free_at == 1.1
    assert shared.events == 3


def test_a_connection_takes_a_core_and_does_not_hold_its_node_up() -> None:
    shared = Shared(1, Costs(event_s=0.1, link_s=2.0, commits_s=(0.0,)))
    assert shared.spend((LinkUp(PEER),), 1.0) == 0.1
    assert shared.free_at == 3.1


def test_a_commit_takes_as_long_as_one_of_those_that_were_measured() -> None:
    shared = Shared(1, Costs(0.0, 0.0, commits_s=(1.0, 2.0, 4.0)))
    assert [shared.commit_s(chance) for chance in (0.0, 0.5, 0.999)] == [1.0, 2.0, 4.0]


def test_the_same_takes_longer_where_computing_costs_and_no_time_where_it_is_free() -> None:
    slow = Shared(1, Costs(event_s=0.01, link_s=0.0, commits_s=(0.01,)))
    assert spread_s(slow) > 10 * spread_s(None)
