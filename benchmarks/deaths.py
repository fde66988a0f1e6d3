"""How long the mesh takes to get over a death: kill -9 of all of a node's processes, on real nodes.

    python -m benchmarks.deaths [--kills 20] [--nodes 3]

Prints, over all kills: until every survivor calls the dead node down; until a task that was submitted right after
the kill of a *leader* has been placed under the new leader's epoch. Ratios to published peers stand in README.md;
absolute seconds here, since they come from timers and not from this machine's speed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time

from benchmarks.local_mesh import Doc, LocalMesh, LocalNode, wait_until


def known_down(node: LocalNode, dead: str) -> bool:
    rows: list[Doc] = node.control("nodes")["nodes"]
    return any(row["id"] == dead and row["state"] in ("down", "left") for row in rows)


def time_until_all_know(survivors: list[LocalNode], dead: str, start: float) -> float:
    """Each survivor is watched by a thread of its own, so that the last one's time is its own."""
    times: list[float] = []

    def watch(node: LocalNode) -> None:
        wait_until(lambda: known_down(node, dead), f"{node.name} to know", every_s=0.01)
        times.append(time.monotonic() - start)

    threads = [threading.Thread(target=watch, args=(node,)) for node in survivors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return max(times)


def kill_leader(mesh: LocalMesh) -> tuple[float, float]:
    """(seconds until all survivors know, seconds until the next placement under a new epoch)."""
    leader = mesh.leader()
    term = leader.control("leader")["leader"]["term"]
    survivors = [node for node in mesh.nodes.values() if node is not leader]
    placed: list[float] = []
    start = time.monotonic()
    leader.kill_all()

    def submit() -> None:
        while not placed:
            row: Doc = survivors[0].control("run", task={"argv": ["true"], "needs": {}})["task"]
            if row["state"] == "succeeded" and row["epoch"]["term"] > term:
                placed.append(time.monotonic() - start)

    thread = threading.Thread(target=submit)
    thread.start()
    knows = time_until_all_know(survivors, leader.id, start)
    thread.join()
    leader.start(*OPTIONS)
    mesh.settle()
    return knows, placed[0]


def row(name: str, values: list[float]) -> str:
    ordered = sorted(values)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * (len(ordered) - 1)))]
    return (
        f"{name:<52} p50 {statistics.median(ordered):6.3f} s   p99 {p99:6.3f} s   "
        f"({ordered[0]:.3f}–{ordered[-1]:.3f}, n={len(ordered)})"
    )


OPTIONS = ("--slots", "2")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--nodes", type=int, default=3)
    options = parser.parse_args()
    with LocalMesh([f"n{i}" for i in range(options.nodes)], *OPTIONS) as mesh:
        results = [kill_leader(mesh) for _ in range(options.kills)]
    print(f"{options.nodes} nodes on this machine, kill -9 of the leader's node and executor")
    print(row("all survivors know", [knows for knows, _ in results]))
    print(row("next task placed under the new leader and done", [placed for _, placed in results]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
