"""One `openclaw run` while 100,000 tasks wait, and 10 s tasks among short ones that a third node could run.

    python -m benchmarks.waiting [--waiting 100000] [--runs 60] [--map 100000]

Three nodes of two slots each on this machine. Prints how soon short tasks end that were given ahead to a worker which a
long one keeps busy; p50 and p99 of the whole command `openclaw run -q -- true` with nothing else to do and with so many
tasks of a job waiting at the same owner; and `openclaw map` of so many lines: tasks/s, and the memory of client, owner
and leader.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from benchmarks.load import BATCH, memory_mb
from benchmarks.local_mesh import LocalMesh, LocalNode, wait_until

SLOTS = 2
LONG_S = 10.0


def submit(node: LocalNode, argv: list[str], count: int, job: str) -> Iterator[str]:
    for start in range(0, count, BATCH):
        size = min(BATCH, count - start)
        yield from node.control("submit", tasks=[{"argv": argv, "needs": {}, "job": job}] * size)["ids"]


def latencies_ms(node: LocalNode, runs: int) -> list[float]:
    found = []
    for _ in range(runs):
        start = time.monotonic()
        node.ok("run", "-q", "--", "true")
        found.append(1000 * (time.monotonic() - start))
    return sorted(found)


def show(what: str, found: list[float]) -> float:
    p99 = found[min(len(found) - 1, int(0.99 * len(found)))]
    print(f"{what}: p50 {statistics.median(found):.0f} ms, p99 {p99:.0f} ms of {len(found)}", flush=True)
    return p99


def one_run_among_many(mesh: LocalMesh, waiting: int, runs: int) -> None:
    node = mesh["a"]
    idle = show("one run, idle", latencies_ms(node, runs))
    ids = list(submit(node, ["sleep", "0.02"], waiting, "many"))
    queued = node.control("status")["tasks"]["queued"]
    busy = show(f"one run while {queued:,} tasks wait", latencies_ms(node, runs))
    print(f"  p99 {busy / idle:.1f} times the idle one (to reach: 3)")
    print(
        f"  memory, of its own: {', '.join(f'{n} {memory_mb(mesh[n]):.0f} MB' for n in mesh.nodes)}",
        flush=True,
    )
    for start in range(0, len(ids), 1000):
        node.control("cancel", ids=ids[start : start + 1000])
    wait_until(lambda: not _open(node), "everything to be cancelled", timeout_s=300)


def _open(node: LocalNode) -> int:
    counts = node.control("status")["tasks"]
    return int(counts["queued"] + counts["placed"] + counts["running"])


def behind_long_tasks(mesh: LocalMesh) -> None:
    """Short tasks of one kind, four of which take 10 s: what ran ahead behind those goes where a slot is free."""
    node = mesh["a"]
    list(submit(node, ["sh", "-c", "exit 0"], 200, "mixed"))
    wait_until(lambda: not _open(node), "the short ones to end", timeout_s=120)
    folder = mesh.folder / "first-come-long"
    folder.mkdir()
    script = 'set -C; for i in 1 2 3 4; do { echo > "$0/$i"; } 2>/dev/null && exec sleep 10; done; exit 0'
    start = time.monotonic()
    list(submit(node, ["sh", "-c", script, str(folder)], 240, "mixed"))
    wait_until(lambda: _open(node) <= 4, "all but the long ones to end", timeout_s=60)
    took_s = time.monotonic() - start
    rows = node.json("tasks", "--limit", "240")["tasks"]
    moved = sum(row["attempt"] > 1 for row in rows)
    print(
        f"240 short tasks, four of which take {LONG_S:g} s and hold four of six slots: the others ended within "
        f"{took_s:.2f} s, {moved} of them taken back from where they waited",
        flush=True,
    )
    wait_until(lambda: not _open(node), "the long ones to end", timeout_s=60)


def map_lines(mesh: LocalMesh, count: int) -> None:
    node = mesh["a"]
    lines = mesh.folder / "lines"
    lines.write_text("".join(f"{n}\n" for n in range(count)))
    out = mesh.folder / "out"
    command = [sys.executable, "-m", "openclaw", "--state-dir", str(node.state_dir)]
    start, peak_mb = time.monotonic(), dict.fromkeys(["client", *mesh.nodes], 0.0)
    with out.open("wb") as stdout:
        client = subprocess.Popen([*command, "map", "-q", str(lines), "--", "echo", "{}"], stdout=stdout)
        while client.poll() is None:
            for name in mesh.nodes:
                peak_mb[name] = max(peak_mb[name], memory_mb(mesh[name]))
            try:
                peak_mb["client"] = max(
                    peak_mb["client"], psutil.Process(client.pid).memory_full_info().pss / 1e6
                )
            except psutil.Error:
                break
            time.sleep(1.0)
        code = client.wait()
    took_s = time.monotonic() - start
    whole = out.read_bytes() == lines.read_bytes()
    memory = ", ".join(f"{name} {mb:.0f} MB" for name, mb in peak_mb.items())
    leader = node.control("leader")["leader"]["name"]
    print(f"map of {count:,} lines: exit {code}, in order and whole: {whole}, {count / took_s:.0f} tasks/s")
    print(f"  peak memory, of its own: {memory} (a owns them, {leader} leads)", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--map", type=int, default=100_000, dest="lines")
    options = parser.parse_args()
    with LocalMesh(("a", "b", "c"), "--slots", str(SLOTS)) as mesh:
        behind_long_tasks(mesh)
        if options.waiting:
            one_run_among_many(mesh, options.waiting, options.runs)
        if options.lines:
            map_lines(mesh, options.lines)


if __name__ == "__main__":
    main()
