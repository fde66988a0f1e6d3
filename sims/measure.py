"""`python -m sims measure`: how fast, how much, how often, at three nodes and at a thousand.

Everything is simulated, over seconds of a simulated LAN; the rivals are models in the same world. Prints a table,
and writes JSON and plots when asked. Simulated over real seconds stand under each size.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from math import inf, isfinite
from pathlib import Path

import msgspec

from openclaw.config import Settings
from sims import experiments
from sims.bench import OURS, PROTOCOLS, Bench, Protocol
from sims.documents import markdown, put
from sims.experiments import Samples
from sims.meter import Figure, figure
from sims.network import Weather
from sims.plots import write_plots

SIZES = (3, 10, 30, 100, 300, 1000)
ROTATION_S = 15.0
SPLIT_S = 30.0
TURN_NODES_MAX = 100  # beyond, a turn is no different and costs minutes
LOSS = 0.2
LOSS_TCP = 0.05
WEATHERS = {
    "datagrams": Weather(mode="hostile", loss=LOSS, duplicate=0.0, stray=0.0),
    "segments": Weather(mode="tcp", loss=LOSS_TCP),
}
WORK_MAX = 12_000.0  # node-seconds under loss, and under stalls

ROWS = {
    "process_death_first_s": "process killed: first survivor knows",
    "process_death_last_s": "process killed: last survivor knows",
    "machine_death_first_s": "machine lost silently: first survivor knows",
    "machine_death_last_s": "machine lost silently: last survivor knows",
    "death_false_deaths": "  live nodes called dead meanwhile",
    "return_all_see_s": "it starts again: all see it",
    "join_all_see_s": "a new node starts: all see all",
    "rumour_50_percent_s": "rumour: half have heard it",
    "rumour_99_percent_s": "rumour: 99 %",
    "rumour_99.99_percent_s": "rumour: 99.99 %",
    "news_99.99_percent_s": "and hold what it is about: 99.99 %",
    "idle_bytes_per_node_s": "bytes per node and second, idle",
    "idle_messages_per_node_s": "messages per node and second, idle",
    "death_bytes_per_node_s": "bytes per node and second, around a death",
    "election_messages_per_node": "messages of an election, per node",
    "election_s": "election: first without leader to all agreed",
    "election_from_death_s": "leader dies: all agreed on the next",
    "worst_starter_messages_per_node": "the same, worst starter: messages per node",
    "worst_starter_from_death_s": "the same, worst starter: all agreed",
    "turn_gap_s": "turn of the leader: latest start, beyond the usual",
    "turn_without_leader_s": "turn of the leader: longest without one",
    "heal_s": "halves heal: all see all, one leader",
    "split_leader_s": "halves heal: two leaders for",
    "idle_false_deaths": "false deaths, idle",
    "stalls_false_deaths_per_node_hour": "false deaths per node-hour, a fifth of the nodes stalling",
    "datagrams_lost_false_deaths_per_node_hour": f"false deaths per node-hour, {LOSS:.0%} of messages lost",
    "segments_lost_false_deaths_per_node_hour": f"the same over TCP, which repeats and stalls: {LOSS_TCP:.0%} lost",
}

NOTHING = "–"

Results = dict[str, dict[str, dict[str, Figure]]]
"""By protocol, number of nodes, and row."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("measure", help="how fast, how much, how often", description=__doc__)
    sizes = ",".join(str(size) for size in SIZES)
    parser.add_argument("--nodes", default=sizes, help=f"sizes, with commas between ({sizes})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ours", action="store_true", help="leave out the models")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder")
    parser.add_argument("--doc", type=Path, help="put the table into this document")


def main(options: argparse.Namespace) -> int:
    results: Results = defaultdict(dict)
    for nodes in (int(size) for size in options.nodes.split(",")):
        for protocol in (OURS,) if options.ours else PROTOCOLS:
            began = time.perf_counter()
            samples, simulated_s = measure(protocol, nodes, options.seed)
            took_s = time.perf_counter() - began
            results[protocol.name][str(nodes)] = summed_up(samples)
            print(
                f"{protocol.name}, {nodes} nodes: {simulated_s:.0f} s in {took_s:.1f} s of one core",
                flush=True,
            )
    print(table(results))
    if options.json:
        options.json.write_text(to_json(results))
    if options.plots:
        write_plots(results, options.plots)
    if options.doc:
        put(options.doc, "measured", as_markdown(results))
    return 0


def measure(protocol: Protocol, nodes: int, seed: int) -> tuple[Samples, float]:
    """All experiments, and how many seconds of the world they took."""
    samples: Samples = defaultdict(list)
    simulated_s = _life(protocol, nodes, seed, samples) + _mistakes(protocol, nodes, seed, samples)
    if protocol.ours:
        simulated_s += _leadership(protocol, nodes, seed, samples)
    return samples, simulated_s


def rounds(nodes: int) -> int:
    """How often each thing is done: often where it is cheap."""
    return max(2, min(20, 200 // nodes))


def _life(protocol: Protocol, nodes: int, seed: int, samples: Samples) -> float:
    """Nothing happens; then news, deaths, returns, and a split."""
    bench = Bench(protocol, nodes, seed)
    with bench.standing_in():
        bench.found()
        experiments.idle(bench, samples, seconds=20)
        for _ in range(rounds(nodes)):
            experiments.rumour(bench, samples)
            for machine in (False, True):
                experiments.death(bench, samples, dying=max(1, nodes // 100), machine=machine)
        experiments.split(bench, samples, SPLIT_S)
        if protocol.ours:
            experiments.join(bench, samples)
    return bench.now


def _mistakes(protocol: Protocol, nodes: int, seed: int, samples: Samples) -> float:
    """Stalls, and messages that get lost."""
    seconds = min(600.0, WORK_MAX / nodes)
    bench = Bench(protocol, nodes, seed + 1)
    with bench.standing_in():
        bench.found()
        experiments.stalls(bench, samples, seconds)
    simulated_s = bench.now
    for what, weather in WEATHERS.items():
        if protocol.ours or what == "datagrams":  # the models speak UDP
            lossy = Bench(protocol, nodes, seed + 2, weather=weather)
            with lossy.standing_in():
                lossy.found()
                experiments.lossy(lossy, samples, what, seconds)
            simulated_s += lossy.now
    return simulated_s


def _leadership(protocol: Protocol, nodes: int, seed: int, samples: Samples) -> float:
    bench = Bench(protocol, nodes, seed + 3)
    bench.found()
    for _ in range(rounds(nodes)):
        experiments.election(bench, samples)
    for all_at_once in (False, True) * (rounds(nodes) // 2):
        experiments.worst_starter(bench, samples, all_at_once=all_at_once)
    simulated_s = bench.now
    if nodes <= TURN_NODES_MAX:
        turning = Bench(protocol, nodes, seed + 4, Settings(rotation_s=ROTATION_S))
        turning.found()
        for _ in range(rounds(nodes) // 2):
            experiments.turn(turning, samples, ROTATION_S)
        simulated_s += turning.now
    return simulated_s


# --- what comes of it ----------------------------------------------------------------------------


def summed_up(samples: Samples) -> dict[str, Figure]:
    return {row: summary for row, values in samples.items() if (summary := figure(values)) is not None}


def to_json(results: Results) -> str:
    """Infinite is null: it never came."""
    plain = msgspec.to_builtins(results)
    for sizes in plain.values():
        for rows in sizes.values():
            for row in rows.values():
                row.update({key: None for key, value in row.items() if value == inf})
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def table(results: Results) -> str:
    """One block a size: p50 / p99 of each row, for each protocol beside the others."""
    lines = []
    for size in next(iter(results.values())):
        lines.append(f"\n{size + ' nodes':<58}" + "".join(f"{name:>26}" for name in results))
        for row, words in ROWS.items():
            cells = [shown(row, sizes[size].get(row)) for sizes in results.values()]
            lines.append(f"{words:<58}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """Ours at every size, each row beside the models where they have one."""
    sizes = list(next(iter(results.values())))
    rows = []
    for row, words in ROWS.items():
        for name, by_size in results.items():
            cells = [shown(row, by_size[size].get(row)) for size in sizes]
            if set(cells) != {NOTHING}:
                rows.append([words.strip() if name == OURS.name else f"… {name}", *cells])
    return markdown(["p50 / p99 (bytes and counts: mean / p99)", *sizes], rows)


def shown(row: str, summary: Figure | None) -> str:
    if summary is None:
        return NOTHING
    if row.endswith("false_deaths"):
        return f"{summary.mean * summary.count:.0f}"
    if "per_node" in row:
        return f"{number(summary.mean)} / {number(summary.p99)}"
    return f"{number(summary.p50)} / {number(summary.p99)}"


def number(value: float) -> str:
    if not isfinite(value):
        return "never"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
