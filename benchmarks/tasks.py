"""What a durable task costs: a command and a handler that do nothing, in bulk and one after the other.

    python -m benchmarks.tasks [--tasks 3000] [--single 200] [--rounds 3]

An owner and two workers of one slot, each task and each result on disk (fsync) before anybody is told. Commands stand
beside a bare loop that starts the same process in a session and a folder of its own, as many at a time as there are
processors. Then where the time of a task goes: processor time of every process, for each task of the last round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import psutil

import openclaw
from benchmarks.handlers import mesh_of_three
from benchmarks.load import bare_spawner, run_load
from benchmarks.local_mesh import LocalMesh, executor_pids

ARGV = ["true"]


class Kind(NamedTuple):
    """`one` runs a task to its end; `many` gives tasks/s."""

    one: Callable[[], object]
    many: Callable[[int], float]


def commands(nodes: LocalMesh) -> Kind:
    owner = nodes["owner"]
    return Kind(
        lambda: owner.control("run", task={"argv": ARGV, "needs": {}}),
        lambda count: run_load(nodes, count, ARGV),
    )


def handlers(mesh: openclaw.Mesh) -> Kind:
    def many(count: int) -> float:
        start = time.monotonic()
        assert sum(1 for _ in mesh.map("increment", range(count))) == count
        return count / (time.monotonic() - start)

    return Kind(lambda: mesh.submit("increment", 1).result(), many)


def spent_s(nodes: LocalMesh) -> dict[str, float]:
    """Processor time so far, by process; what commands took is with the executor that waited for them."""
    found = {"this program": sum(psutil.Process().cpu_times()[:2])}
    for name, node in nodes.nodes.items():
        assert node.process is not None
        found[f"node {name}"] = sum(psutil.Process(node.process.pid).cpu_times()[:2])
        for pid in executor_pids(node.state_dir):
            executor = psutil.Process(pid)
            times = executor.cpu_times()
            found[f"executor of {name}"] = times.user + times.system
            found[f"commands on {name}"] = times.children_user + times.children_system
            for child in executor.children():
                key = f"handlers of {name}"
                found[key] = found.get(key, 0.0) + sum(child.cpu_times()[:2])
    return found


def spread(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"


def measure(nodes: LocalMesh, name: str, kind: Kind, options: argparse.Namespace) -> None:
    kind.many(options.tasks // 4)  # processes are warm, and runtimes known
    rates, costs, bare = [], {}, []
    for _ in range(options.rounds):
        if name == "commands":
            bare.append(bare_spawner(options.tasks, ARGV, os.cpu_count() or 1))
        before = spent_s(nodes)
        rates.append(kind.many(options.tasks))
        after = spent_s(nodes)
        costs = {each: 1e6 * (after[each] - before.get(each, 0.0)) / options.tasks for each in after}
    singles_ms = []
    for _ in range(options.single):
        start = time.perf_counter()
        kind.one()
        singles_ms.append(1e3 * (time.perf_counter() - start))
    singles_ms.sort()
    print(f"{name}: {spread(rates, '.0f')} tasks/s in bulk")
    if bare:
        ratios = [rate / alone for rate, alone in zip(rates, bare, strict=True)]
        print(f"  beside {spread(bare, '.0f')} of the bare loop: {spread(ratios, '.2f')}")
    p99 = singles_ms[round(0.99 * (len(singles_ms) - 1))]
    print(f"  one after the other: p50 {statistics.median(singles_ms):.1f} ms, p99 {p99:.1f} ms")
    for each, cost in costs.items():
        if cost >= 1:
            print(f"    {each:20} {cost:6.0f} µs a task")
    total = sum(costs.values())
    print(f"    {'together':20} {total:6.0f} µs a task: {1e6 / total:.0f} tasks/s for each processor")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--single", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with mesh_of_three() as nodes:
        nodes["owner"].ok("node", "drain")
        measure(nodes, "commands", commands(nodes), options)
        with openclaw.Mesh(nodes["owner"].state_dir) as mesh:
            measure(nodes, "handlers", handlers(mesh), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
