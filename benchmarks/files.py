"""A large file moves between two nodes while they go on watching each other.

    python -m benchmarks.files [--gb 5]

`openclaw cp` from one node to another, beside a bare CURVE pair that sends as many bytes and keeps none. Prints
bytes/s of both, the round trips of questions to the other node (over the connection that the heartbeats take) before
and meanwhile, and how often a live node was suspected. The file and all that came of it is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import time
from pathlib import Path

from benchmarks.bulk import one_round
from benchmarks.local_mesh import OPENCLAW, Failed, LocalMesh, LocalNode
from openclaw.client import Client

EVERY_S = 0.05
IDLE_S = 5.0
PIECE_BYTES = 1 << 20


def make(path: Path, size: int) -> None:
    """A file that is on disk and compresses nowhere."""
    piece = os.urandom(PIECE_BYTES)
    with path.open("wb") as file:
        for number in range(size // PIECE_BYTES):
            file.write(number.to_bytes(8, "big") + piece[8:])
        os.fsync(file.fileno())


def round_trip_s(client: Client) -> float:
    """Of one question to the other node, which it answers from its memory and store."""
    begun = time.perf_counter()
    client.call("tasks", all=True, state=None, limit=1)
    return time.perf_counter() - begun


def suspicions(node: LocalNode) -> int:
    """How often a node was suspected or called down, as `node` saw it."""
    with Client(node.state_dir) as client:
        lines = [frame["line"] for frame in client.stream("events", follow=False) if "line" in frame]
    return sum(word in str(line) for line in lines for word in ("suspect", "down"))


def shown(samples: list[float]) -> str:
    ordered = sorted(samples)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return (
        f"p50 {statistics.median(ordered) * 1e3:.1f} ms, p99 {p99 * 1e3:.1f} ms, worst {ordered[-1] * 1e3:.1f} ms "
        f"({len(ordered)})"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gb", type=float, default=5.0)
    size = int(parser.parse_args().gb * 1e9) // PIECE_BYTES * PIECE_BYTES
    with LocalMesh(("here", "there")) as mesh, Client(mesh["here"].state_dir) as client:
        source = mesh.folder / "source"
        make(source, size)
        before, end = [], time.monotonic() + IDLE_S
        while time.monotonic() < end:
            before.append(round_trip_s(client))
            time.sleep(EVERY_S)
        doubted = suspicions(mesh["here"]) + suspicions(mesh["there"])
        meanwhile, begun = [], time.monotonic()
        with subprocess.Popen(
            [*OPENCLAW, "cp", "-q", str(source), "there:copied"],
            env={**mesh.environ, "OPENCLAW_MESH_STATE_DIR": str(mesh["here"].state_dir)},
        ) as copying:
            while copying.poll() is None:
                meanwhile.append(round_trip_s(client))
                time.sleep(EVERY_S)
        seconds = time.monotonic() - begun
        if copying.returncode or (mesh.folder / "copied").stat().st_size != size:
            raise Failed(f"the copy ended with {copying.returncode}")
        doubted = suspicions(mesh["here"]) + suspicions(mesh["there"]) - doubted
        bare = one_round("bare", source, size)
    rate = size / seconds
    print(f"cp, hashed and synced: {size / 1e9:.2f} GB in {seconds:.1f} s: {rate / 1e6:.0f} MB/s")
    print(f"bare CURVE pair: {bare / 1e6:.0f} MB/s; ratio {rate / bare:.2f}")
    print(f"questions to the other node, before:    {shown(before)}")
    print(f"questions to the other node, meanwhile: {shown(meanwhile)}")
    print(f"nodes suspected or called down meanwhile: {doubted}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
