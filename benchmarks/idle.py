"""What a mesh costs while nothing happens, and how fast it comes up.

    python -m benchmarks.idle [--nodes 3 10] [--seconds 20]

Per node with its executor: proportional memory (PSS), share of a core, bytes sent a second as the kernel counts
them on its TCP sockets; then the times from a node's command to "ready", and from its ready to all seeing all.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import time

from benchmarks.local_mesh import LocalMesh, LocalNode, executor_pids, wait_until


def pids(node: LocalNode) -> list[int]:
    assert node.process is not None
    return [node.process.pid, *executor_pids(node.state_dir)]


def pss_mb(node: LocalNode) -> float:
    import psutil

    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids(node)) / 1e6


def cpu_s(node: LocalNode) -> float:
    import psutil

    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids(node))


def sent_bytes(mesh: LocalMesh) -> int:
    """Payload bytes that the mesh's processes have sent on their TCP sockets, as `ss` has them; 0 without it."""
    try:
        text = subprocess.run(["ss", "-tinpOH"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return 0
    ours = {f"pid={pid}," for node in mesh.nodes.values() for pid in pids(node)}
    lines = [line for line in text.splitlines() if any(mark in line for mark in ours)]
    return sum(int(count) for line in lines for count in re.findall(r"bytes_sent:(\d+)", line))


def sees_all(mesh: LocalMesh) -> bool:
    names = len([node for node in mesh.nodes.values() if node.ready])
    return all(
        sum(row["state"] == "alive" for row in node.control("nodes")["nodes"]) == names
        for node in mesh.nodes.values()
        if node.ready
    )


def measure(count: int, seconds: float) -> None:
    starts, joins = [], []
    mesh = LocalMesh([f"n{i}" for i in range(count)], "--slots", "2")
    try:
        first, *others = mesh.nodes.values()
        begin = time.monotonic()
        first.start("--slots", "2")
        starts.append(time.monotonic() - begin)
        for node in others:
            token = first.json("node", "invite")["token"]
            begin = time.monotonic()
            node.start("--slots", "2", join=token)
            starts.append(time.monotonic() - begin)
            joins.append(wait_until(lambda: sees_all(mesh), "all to see all", every_s=0.005))
        time.sleep(5)
        cpu, sent, begin = [cpu_s(node) for node in mesh.nodes.values()], sent_bytes(mesh), time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - begin
        shares = [
            100 * (cpu_s(node) - was) / elapsed for node, was in zip(mesh.nodes.values(), cpu, strict=True)
        ]
        rate = (sent_bytes(mesh) - sent) / elapsed / count
        memory = [pss_mb(node) for node in mesh.nodes.values()]
    finally:
        mesh.close()
    print(f"{count} nodes on this machine")
    print(f"  command → ready            {spread(starts)} s")
    print(f"  ready → all see all        {spread(joins)} s")
    print(f"  PSS, node and executor     {spread(memory)} MB")
    print(f"  share of a core            {spread(shares)} %")
    print(f"  TCP payload sent           {rate:.0f} B/s a node (without TCP/IP headers)")


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):7.3f} ({min(values):.3f}–{max(values):.3f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=[3, 10])
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    for count in options.nodes:
        measure(count, options.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
