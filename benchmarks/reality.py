"""The same kill, cut, split and join on real processes and in the simulator, and the ratio of the two.

    python -m benchmarks.reality [--nodes 3 10 30] [--rounds 5] [--doc docs/simulation.md] [--json FILE]
    python -m benchmarks.reality --nodes --known FILE… --doc docs/simulation.md     # earlier runs, put together

Kills, joins and bytes: nodes on this machine's loopback. Cuts and splits: each node in a network namespace of its
own (Linux, root; left out elsewhere). Times are those that the nodes themselves wrote beside their events, so that
nobody asks them anything meanwhile. A machine with other work on it makes real figures worse: wait for quiet.

All real nodes share this machine, its cores and its disk. So do the simulated ones, and each event, connection and
commit costs them what it was measured to cost here, just before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from importlib import import_module
from math import inf
from pathlib import Path
from typing import Any

import lmdb

from benchmarks.idle import cpu_s, sent_bytes
from benchmarks.local_mesh import Doc, LocalMesh, LocalNode, wait_until
from sims import experiments
from sims.bench import OURS, Bench
from sims.documents import markdown, put
from sims.experiments import Samples
from sims.shared import Costs, Shared

HOST_HELPERS = Path(__file__).parents[1] / "tests" / "hosts"
JOINS_MAX = 3
IDLE_S = 20
COMMITS = 20
COMMIT_EVERY_S = 0.2
SPLIT_S = 15.0
SETTLE_S = 3.0
VIEW_S = 90.0

ROWS = {
    "process_death_last_s": "process killed: last survivor knows",
    "election_from_death_s": "leader's process killed: all follow the next",
    "join_spread_s": "join: first sees it to all see all",
    "wire_bytes_per_node_s": "bytes per node and second on TCP, idle",
    "cut_last_s": "cable cut: last of the others knows",
    "heal_s": "halves heal: all see all, one leader",
    "event_cpu_s": "processor time: of an event, idle",
    "peer_cpu_s": "processor time: of each of the others for one that joins",
    "commit_s": "disk: a commit, while as many write",
}
FRAME_BYTES = 36.0  # of CURVE and ZMTP around each message
LINK_BYTES_S = 8.4  # of ZMTP's own heartbeats, each way, on each connection


# --- real ----------------------------------------------------------------------------------------


def lines(node: LocalNode, since: float) -> list[tuple[float, Doc]]:
    """What the node noted since then, with its times as seconds of the wall clock."""
    from openclaw.client import Client

    with Client(node.state_dir) as client:
        frames = [frame["line"] for frame in client.stream("events") if "line" in frame]
    stamped = [(datetime.fromisoformat(line["at"]).timestamp(), line) for line in frames]
    return [(at, line) for at, line in stamped if at >= since - 0.001]


def saw(node: LocalNode, state: str, other: str, since: float) -> float | None:
    """When `node` first noted that `other` is in that state."""
    for at, line in lines(node, since):
        if line["kind"] == "member" and line["state"] == state and line["node"]["id"] == other:
            return at
    return None


def followed(node: LocalNode, since: float) -> float | None:
    """When `node` last began to follow somebody."""
    times = [at for at, line in lines(node, since) if line["kind"] == "leader" and line["leader"]]
    return max(times, default=None)


def last_of(times: Callable[[], Sequence[float | None]], what: str) -> list[float]:
    """Asked rarely, until all have a time."""
    found: list[float] = []

    def complete() -> bool:
        asked = times()
        found[:] = [at for at in asked if at is not None]
        return len(found) == len(asked)

    time.sleep(1.0)
    wait_until(complete, what, timeout_s=VIEW_S, every_s=0.5)
    return found


def on_loopback(count: int, rounds: int, samples: Samples) -> None:
    joining = min(JOINS_MAX, count - 1)
    names = [f"n{number}" for number in range(count)]
    with LocalMesh(names[: count - joining], "--slots", "2") as mesh:
        joins = [real_join(mesh, name, samples) for name in names[count - joining :]]
        mesh.settle()
        time.sleep(SETTLE_S)
        before, worked, began = sent_bytes(mesh), all_cpu_s(mesh), time.monotonic()
        time.sleep(IDLE_S)
        took_s = time.monotonic() - began
        samples["wire_bytes_per_node_s"].append((sent_bytes(mesh) - before) / took_s / count)
        idle_cpu_s = (all_cpu_s(mesh) - worked) / took_s / count
        samples["event_cpu_s"].append(idle_cpu_s / events_per_node_s(count))
        samples["commit_s"] += commits_s(count)
        samples["peer_cpu_s"] += [max(0.0, spent_s - idle_cpu_s * for_s) for spent_s, for_s in joins]
        for _ in range(rounds):
            for of_leader in (False, True):
                real_kill(mesh, samples, of_leader=of_leader)


def commits_s(writers: int) -> list[float]:
    """As many stores as there are nodes commit now and then."""

    def write(folder: str) -> list[float]:
        took_s = []
        with lmdb.open(folder) as store:
            for number in range(COMMITS):
                began = time.perf_counter()
                with store.begin(write=True) as transaction:
                    transaction.put(b"key", str(number).encode())
                took_s.append(time.perf_counter() - began)
                time.sleep(random.random() * COMMIT_EVERY_S)
        return took_s

    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(writers) as pool:
        each = pool.map(write, [f"{folder}/{number}" for number in range(writers)])
        return [took_s for written in each for took_s in written]


def all_cpu_s(mesh: LocalMesh) -> float:
    return sum(map(cpu_s, mesh.nodes.values()))


def real_join(mesh: LocalMesh, name: str, samples: Samples) -> tuple[float, float]:
    """How many seconds of a core each of the others spent meanwhile, and how long that was."""
    others = list(mesh.nodes.values())
    worked, since = all_cpu_s(mesh), time.time()
    new = mesh.join(mesh.node(name))
    time.sleep(SETTLE_S)
    spent_s = (all_cpu_s(mesh) - worked - cpu_s(new)) / len(others), time.time() - since
    theirs = last_of(lambda: [saw(node, "alive", new.id, since) for node in others], f"all to see {name}")
    ours = last_of(lambda: [saw(new, "alive", node.id, since) for node in others], f"{name} to see all")
    samples["join_spread_s"].append(max(theirs + ours) - min(theirs + ours))
    return spent_s


def real_kill(mesh: LocalMesh, samples: Samples, *, of_leader: bool) -> None:
    leader = mesh.leader()
    victim = leader if of_leader else next(node for node in mesh.nodes.values() if node is not leader)
    survivors = [node for node in mesh.nodes.values() if node is not victim]
    since = time.time()
    victim.kill_all()
    if of_leader:
        times = last_of(lambda: [followed(node, since) for node in survivors], "a new leader")
        samples["election_from_death_s"].append(max(times) - since)
    else:
        times = last_of(lambda: [saw(node, "down", victim.id, since) for node in survivors], "all to know")
        samples["process_death_last_s"].append(max(times) - since)
    victim.start("--slots", "2")
    mesh.settle()
    time.sleep(SETTLE_S)


def on_hosts(count: int, rounds: int, samples: Samples) -> None:
    sys.path.insert(0, str(HOST_HELPERS))
    hosts = import_module("host_mesh")

    with tempfile.TemporaryDirectory() as folder, hosts.HostMesh(Path(folder), count) as mesh:
        mesh.start("--no-mdns", addresses=True)
        time.sleep(SETTLE_S)
        for number in range(rounds):
            leader = mesh.agree(mesh.nodes)
            others = [node for node in mesh.nodes if node.name != leader]
            real_cut(mesh, others[number % len(others)], samples)
        for _ in range(max(1, rounds // 2)):
            real_split(mesh, samples)


def real_cut(mesh: Any, lost: Any, samples: Samples) -> None:
    others = [node for node in mesh.nodes if node is not lost]
    since = time.time()
    lost.host.cut()
    times = last_of(lambda: [saw(node, "down", lost.id, since) for node in others], "all to know of the cut")
    samples["cut_last_s"].append(max(times) - since)
    lost.host.restore()
    mesh.agree(mesh.nodes, VIEW_S)
    time.sleep(SETTLE_S)


def real_split(mesh: Any, samples: Samples) -> None:
    middle = len(mesh.nodes) // 2
    halves = mesh.nodes[:middle], mesh.nodes[middle:]
    mesh.lan.split([node.host for node in halves[0]])
    time.sleep(SPLIT_S)
    since = time.time()
    mesh.lan.heal()
    pairs = [(a, b) for a in halves[0] for b in halves[1]]
    pairs += [(b, a) for a, b in pairs]
    seen = last_of(lambda: [saw(one, "alive", other.id, since) for one, other in pairs], "the halves to meet")
    mesh.agree(mesh.nodes, VIEW_S)
    leaders = [at for node in mesh.nodes if (at := followed(node, since)) is not None]
    samples["heal_s"].append(max(seen + leaders) - since)
    time.sleep(SETTLE_S)


# --- simulated -----------------------------------------------------------------------------------


def events_per_node_s(count: int) -> float:
    """What an idle node is woken for."""
    shared = Shared(count)
    bench = Bench(OURS, count, seed=1, shared=shared)
    bench.found()
    before = shared.events
    bench.run(IDLE_S)
    return (shared.events - before) / IDLE_S / count


def simulated(count: int, rounds: int, samples: Samples, shared: Shared) -> None:
    joining = min(JOINS_MAX, count - 1)
    bench = Bench(OURS, count - joining, seed=1, shared=shared)
    bench.found()
    for number in range(joining):
        experiments.join(bench, samples, f"new{number}")
    bench.run(SETTLE_S)
    idle: Samples = defaultdict(list)
    experiments.idle(bench, idle, IDLE_S)
    payload = statistics.mean(idle["idle_bytes_per_node_s"])
    framing = FRAME_BYTES * statistics.mean(idle["idle_messages_per_node_s"]) + LINK_BYTES_S * (count - 1)
    samples["wire_bytes_per_node_s"].append(payload + framing)
    for _ in range(rounds):
        experiments.death(bench, samples, dying=1, machine=False)
        experiments.election(bench, samples)
        experiments.cut_off(bench, samples)
    for _ in range(max(1, rounds // 2)):
        experiments.split(bench, samples, SPLIT_S)


# --- side by side --------------------------------------------------------------------------------


def measured(count: int, rounds: int, *, hosts: bool) -> dict[str, Samples]:
    both: dict[str, Samples] = {"simulated": defaultdict(list), "real": defaultdict(list)}
    real = both["real"]
    on_loopback(count, rounds, real)
    if hosts:
        on_hosts(count, rounds, real)
    event_s, peer_s = (statistics.median(real[row]) for row in ("event_cpu_s", "peer_cpu_s"))
    costs = Costs(event_s, max(0.0, peer_s - event_s), real["commit_s"])
    simulated(count, rounds * 4, both["simulated"], Shared(os.cpu_count() or 1, costs))
    return both


def cells(row: str, both: dict[str, Samples]) -> list[str]:
    """Simulated, real, and real over simulated; medians, with the least and the most."""
    ours, real = both["simulated"].get(row, []), both["real"].get(row, [])
    if not real:
        return [spread(ours), "–", "–"]
    if not ours:
        return ["given", spread(real), "–"]
    ratio = statistics.median(real) / statistics.median(ours)
    return [spread(ours), spread(real), f"{ratio:.2f}" if ratio < inf else "–"]


def spread(values: list[float]) -> str:
    middle, least, most = statistics.median(values), min(values), max(values)
    digits = 0 if middle >= 100 else 3 if middle >= 0.01 else 5
    return f"{middle:.{digits}f} ({least:.{digits}f}–{most:.{digits}f})"


def table(results: dict[int, dict[str, Samples]]) -> str:
    rows = [
        [words, str(count), *cells(row, both)]
        for row, words in ROWS.items()
        for count, both in sorted(results.items())
    ]
    return markdown(["what", "nodes", "simulated", "real", "real / simulated"], rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="*", default=[3, 10, 30])
    parser.add_argument(
        "--known", type=Path, nargs="+", default=[], help="samples of earlier runs, taken along"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-hosts", action="store_true", help="leave out what needs network namespaces")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    parser.add_argument("--doc", type=Path, help="put the table into this document")
    options = parser.parse_args()
    hosts = not options.no_hosts and sys.platform == "linux" and os.geteuid() == 0
    results: dict[int, dict[str, Samples]] = {}
    for file in options.known:
        results |= {int(count): both for count, both in json.loads(file.read_text()).items()}
    for count in options.nodes:
        results[count] = measured(count, options.rounds, hosts=hosts)
        print(table({count: results[count]}), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.doc:
        put(options.doc, "reality", table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
