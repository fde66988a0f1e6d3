"""How much memory a long output costs: one task prints, its submitter on another node reads along.

    python -m benchmarks.output [--mb 1000]

Prints bytes/s, whether every byte arrived (by SHA-256), and by how much the most that each process ever held grew:
both nodes, their executors, and the command that follows.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.local_mesh import OPENCLAW, Failed, LocalMesh, LocalNode, executor_pids

LINE = b"0123456789a\n"
READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Streamed:
    size: int
    digest: str
    seconds: float
    client_peak_bytes: int


def peak_bytes(pid: int) -> int:
    """The most that a process ever held in memory, in bytes; 0 when it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) << 10
    return 0


def processes_of(node: LocalNode) -> list[int]:
    """The node's own process and its executor's."""
    assert node.process is not None
    return [node.process.pid, *executor_pids(node.state_dir)]


def digest_of(lines: int) -> str:
    found = hashlib.sha256()
    block = LINE * 100_000
    for start in range(0, lines, 100_000):
        found.update(block[: len(LINE) * min(100_000, lines - start)])
    return found.hexdigest()


def stream(node: LocalNode, worker: str, lines: int) -> Streamed:
    """`openclaw run` on `node` of a task on `worker` that prints so many lines as fast as it can."""
    begun = time.monotonic()
    script = f"yes {LINE.decode().strip()} | head -n {lines}"
    with subprocess.Popen(
        [*OPENCLAW, "run", "-q", "--node", worker, "--shell", script],
        stdout=subprocess.PIPE,
        env={**node.environ, "OPENCLAW_MESH_STATE_DIR": str(node.state_dir)},
    ) as client:
        assert client.stdout is not None
        found, size, peak = hashlib.sha256(), 0, 0
        while data := client.stdout.read(READ_BYTES):
            found.update(data)
            size += len(data)
            peak = max(peak, peak_bytes(client.pid))
        if client.wait() != 0:
            raise Failed(f"the command ended with {client.returncode}")
    return Streamed(size, found.hexdigest(), time.monotonic() - begun, peak)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mb", type=int, default=1000)
    lines = parser.parse_args().mb * 1_000_000 // len(LINE)
    with LocalMesh(("submitter", "worker")) as mesh:
        for name in mesh.nodes:
            mesh["submitter"].ok("run", "-q", "--node", name, "--", "true")  # now its executor is there
        programs = {
            f"{name}, {what}": pid
            for name, node in mesh.nodes.items()
            for what, pid in zip(("node", "executor"), processes_of(node), strict=True)
        }
        before = {name: peak_bytes(pid) for name, pid in programs.items()}
        done = stream(mesh["submitter"], "worker", lines)
        whole = done.digest == digest_of(lines)
        print(f"{done.size / 1e6:.0f} MB in {done.seconds:.1f} s: {done.size / done.seconds / 1e6:.0f} MB/s")
        print("every byte arrived" if whole else "NOT what was printed")
        for name, pid in programs.items():
            peak = peak_bytes(pid)
            print(f"{name:22} at most {peak / 1e6:5.1f} MB, {(peak - before[name]) / 1e6:+.1f}")
        print(f"{'the command':22} at most {done.client_peak_bytes / 1e6:5.1f} MB")
    return 0 if whole else 1


if __name__ == "__main__":
    raise SystemExit(main())
