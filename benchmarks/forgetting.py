"""What it costs a node to forget a hundred thousand tasks while it serves.

    python -m benchmarks.forgetting [--tasks 100000]

The store of a real node is filled with tasks that ended long ago. Then tasks are submitted to it one by one, before
and while it forgets the old ones: how long each waits to be accepted, how long the transactions take in which the
node deletes, and how long the others.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from benchmarks.local_mesh import LocalMesh, LocalNode
from openclaw.effects import Store as Write
from openclaw.ids import NodeId, mint_task_id
from openclaw.records import Batch, Exit, Move, Needs, Payload, Progress, State, Submission, Table
from openclaw.store import Store

FIRST_S = 15.0
EVERY_S = 0.02
TIMINGS = "OPENCLAW_BENCHMARK_TIMINGS"


def ended(owner: NodeId, number: int, at: float) -> list[Write]:
    """A task as a command with a little output leaves it."""
    task = mint_task_id(owner, "oldone", number)
    payload = msgspec.msgpack.encode(Payload(("convert", f"image-{number}.png", "out.jpg")))
    submission = Submission(task, Needs(), payload, Batch(b"s" * 64, b"l" * 16 * 32), 0, at)
    states = (State.QUEUED, State.PLACED, State.RUNNING, State.SUCCEEDED)
    story = tuple(Move(n, at, state, owner) for n, state in enumerate(states))
    exit = Exit(0, stdout=b"x" * 100, stdout_size=100)
    progress = Progress(task, State.SUCCEEDED, worker=owner, finished=at, exit=exit, story=story)
    return [Write(Table.TASKS, task, submission), Write(Table.PROGRESS, task, progress)]


def fill(node: LocalNode, count: int) -> None:
    at = time.time() - 90 * 86_400
    with closing(Store.open(node.state_dir / "store")) as store:
        for start in range(0, count, 1000):
            numbers = range(start, min(start + 1000, count))
            store.commit([w for n in numbers for w in ended(NodeId(node.id), n, at + n / 1000)])


def serve(argv: Sequence[str]) -> int:
    """`openclaw` as it is, but that it writes down how long its transactions take and begins to forget early."""
    from openclaw.__main__ import main
    from openclaw.runtime import retention

    retention.FORGET_FIRST_S = FIRST_S  # type: ignore[misc]
    timings: list[tuple[int, float]] = []
    commit = Store.commit

    def timed(store: Store, effects: Sequence[Write]) -> None:
        begin = time.perf_counter()
        commit(store, effects)
        timings.append((sum(effect.value is None for effect in effects), time.perf_counter() - begin))

    Store.commit = timed  # type: ignore[method-assign]
    try:
        return main(argv)
    finally:
        Path(os.environ[TIMINGS]).write_text(json.dumps(timings))


def spread(name: str, seconds: Sequence[float]) -> None:
    values = sorted(seconds)
    at = [values[min(len(values) - 1, int(share * len(values)))] * 1000 for share in (0.5, 0.99, 1.0)]
    print(f"{name}: {len(values)}, p50 {at[0]:.1f} ms, p99 {at[1]:.1f} ms, longest {at[2]:.1f} ms")


def measure(count: int) -> None:
    with LocalMesh(("a",)) as mesh:
        node = mesh["a"]
        node.stop()
        fill(node, count)
        timings = mesh.folder / "timings"
        argv = [sys.executable, "-m", "benchmarks.forgetting", "serve", "node", "start", "--json"]
        argv += ["--state-dir", str(node.state_dir), "--port", "0", "--bind", "127.0.0.1"]
        argv += ["--no-mdns", "--no-tailscale"]
        with open(mesh.folder / "a.log", "a") as log:
            node.process = subprocess.Popen(
                argv,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**node.environ, TIMINGS: str(timings)},
            )
        assert node.process.stdout is not None
        node.process.stdout.readline()
        waits = submit_until_forgotten(node)
        node.stop()
        commits = json.loads(timings.read_text())
    print(f"{count} tasks forgotten in {waits['during'][1]:.0f} s")
    spread("accepted before", waits["before"][0])
    spread("accepted meanwhile", waits["during"][0])
    spread("transactions that delete", [took for gone, took in commits if gone > 10])
    spread("other transactions", [took for gone, took in commits if gone <= 10])


def submit_until_forgotten(node: LocalNode) -> dict[str, tuple[list[float], float]]:
    """How long each submission waited to be accepted, and how long each phase took."""
    waits: dict[str, list[float]] = {"before": [], "during": []}
    begins: dict[str, float] = {}
    submitted, left, ready = 0, True, time.monotonic()
    while left:
        begin = time.monotonic()
        phase = "before" if begin - ready < FIRST_S else "during"
        begins.setdefault(phase, begin)
        node.control("submit", tasks=[{"argv": ["true"]}])
        waits[phase].append(time.monotonic() - begin)
        submitted += 1
        if submitted % 25 == 0:
            left = node.control("status")["tasks"]["succeeded"] > submitted
        time.sleep(EVERY_S)
    end = time.monotonic()
    return {phase: (found, end - begins[phase]) for phase, found in waits.items()}


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        sys.exit(serve(sys.argv[2:]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=100_000)
    measure(parser.parse_args().tasks)
