"""Many small tasks over three nodes: none lost, none doubled, memory flat.

    python -m benchmarks.load [--tasks 10000] [--nodes 3] [--slots 2]

Every task appends its id to a ledger in one write, so losses and doubles are counted from outside. Prints tasks/s
beside a bare spawner that does the same on this machine (session, directory, two files), in the same run, and what
each node weighs before and after.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.local_mesh import Failed, LocalMesh, LocalNode, wait_until

BATCH = 256


def bare_spawner(count: int, argv: list[str], lanes: int) -> float:
    """Tasks/s of a loop that starts `lanes` processes at a time, each in a session and folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        running: dict[int, subprocess.Popen[bytes]] = {}
        start = time.monotonic()
        for n in range(count):
            run = Path(folder, str(n))
            run.mkdir()
            with open(run / "out", "wb") as out, open(run / "err", "wb") as err:
                process = subprocess.Popen(
                    argv, cwd=run, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
                )
            running[process.pid] = process
            if len(running) >= lanes:
                pid, status = os.wait()
                running.pop(pid).returncode = os.waitstatus_to_exitcode(status)
        while running:
            pid, status = os.wait()
            running.pop(pid).returncode = os.waitstatus_to_exitcode(status)
        return count / (time.monotonic() - start)


def submit(node: LocalNode, count: int, argv: list[str]) -> list[str]:
    """`count` detached tasks, in batches, as `openclaw map -d` would."""
    ids: list[str] = []
    while len(ids) < count:
        size = min(BATCH, count - len(ids))
        tasks = [{"argv": argv, "needs": {}, "job": "load"} for _ in range(size)]
        ids += node.control("submit", tasks=tasks)["ids"]
    return ids


def run_load(mesh: LocalMesh, count: int, argv: list[str]) -> float:
    """Tasks/s from the first submission to the last final state."""
    first = next(iter(mesh.nodes.values()))
    before = first.control("status")["tasks"]
    start = time.monotonic()
    submit(first, count, argv)

    def done() -> bool:
        now = first.control("status")["tasks"]
        if now["failed"] > before["failed"] or now["lost"] > before["lost"]:
            raise Failed(f"tasks failed: {now}")
        return bool(now["succeeded"] >= before["succeeded"] + count)

    wait_until(done, f"{count} tasks to succeed", timeout_s=600, every_s=0.1)
    return count / (time.monotonic() - start)


def memory_mb(node: LocalNode) -> float:
    """What the node's process holds for itself: PSS without the pages of its store's file, which the kernel may
    drop whenever it wants them."""
    import psutil

    assert node.process is not None
    process = psutil.Process(node.process.pid)
    store = sum(row.pss for row in process.memory_maps() if row.path.endswith("data.mdb"))
    return float(process.memory_full_info().pss - store) / 1e6


def with_ledger(mesh: LocalMesh, count: int) -> Counter[str]:
    """Runs tasks that each append their own id; how often each id stands there."""
    ledger = mesh.folder / "ledger"
    argv = ["/bin/sh", "-c", f'echo "$OPENCLAW_MESH_TASK_ID" >> {ledger}']
    run_load(mesh, count, argv)
    return Counter(ledger.read_text().split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--more", type=int, default=0, help="further tasks, for the memory after them")
    options = parser.parse_args()
    with LocalMesh([f"n{i}" for i in range(options.nodes)], "--slots", str(options.slots)) as mesh:
        counts = with_ledger(mesh, options.tasks)
        doubled = sum(1 for times in counts.values() if times > 1)
        print(f"{options.tasks} tasks with a ledger: {options.tasks - len(counts)} lost, {doubled} doubled")
        ratios = []
        for _ in range(3):
            bare = bare_spawner(2000, ["true"], os.cpu_count() or 1)
            ours = run_load(mesh, 2000, ["true"])
            ratios.append(ours / bare)
            print(f"2000 × true: mesh {ours:7.0f}/s   bare spawner {bare:7.0f}/s   ratio {ours / bare:.2f}")
        print(f"ratio median {sorted(ratios)[1]:.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
        before = [memory_mb(node) for node in mesh.nodes.values()]
        if options.more:
            for start in range(0, options.more, options.tasks):  # as deep a queue as before
                run_load(mesh, min(options.tasks, options.more - start), ["true"])
                print("  ".join(f"{name} {memory_mb(node):.1f} MB" for name, node in mesh.nodes.items()))
            after = [memory_mb(node) for node in mesh.nodes.values()]
            for name, one, two in zip(mesh.nodes, before, after, strict=True):
                print(
                    f"{name}: {one:.1f} MB PSS, after {options.more} more tasks {two:.1f} MB ({two / one:.2f}×)"
                )
    return 0 if len(counts) == options.tasks and not doubled else 1


if __name__ == "__main__":
    sys.exit(main())
