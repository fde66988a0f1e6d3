"""`python -m sims measure`: how fast, how much, how often, at three nodes and at a thousand.

Everything is simulated, over seconds of a simulated LAN; the rivals are models in the same world. Prints a table,
and writes JSON, plots and a document when asked. Large sizes take long: measure each by itself, keep the JSON, and
put it together with `--known`.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from pathlib import Path

from openclaw.config import Settings
from sims import experiments
from sims.bench import OURS, PROTOCOLS, Bench, Protocol
from sims.documents import put
from sims.experiments import LOSS, LOSS_TCP, Samples
from sims.figures import Results, as_markdown, known, merged, table, to_json
from sims.meter import Figure, figure
from sims.network import Weather
from sims.plots import write_plots
from sims.targets import verdicts

SIZES = (3, 10, 30, 100, 300, 1000)
ROTATION_S = 15.0
SPLIT_S = 30.0
TURN_NODES_MAX = 100  # beyond, a turn is no different and costs minutes
TROUBLE_NODES_MAX = 300  # beyond, hundreds who doubt hundreds take hours
WEATHERS = {
    "datagrams": Weather(mode="hostile", loss=LOSS, duplicate=0.0, stray=0.0),
    "segments": Weather(mode="tcp", loss=LOSS_TCP),
}
WORK_MAX = 12_000.0  # node-seconds under loss, and under stalls
WORK_S_MAX = 3600.0


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("measure", description=__doc__)
    sizes = ",".join(str(size) for size in SIZES)
    parser.add_argument("--nodes", default=sizes, help=f"sizes, with commas between ({sizes}); none: ''")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ours", action="store_true", help="leave out the models")
    parser.add_argument(
        "--known",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="figures of earlier runs, taken along",
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--plots", type=Path, help="write the plots into this folder")
    parser.add_argument("--doc", type=Path, help="put the tables into this document")


def main(options: argparse.Namespace) -> int:
    new: Results = defaultdict(dict)
    for nodes in (int(size) for size in options.nodes.split(",") if size):
        for protocol in (OURS,) if options.ours else PROTOCOLS:
            began = time.perf_counter()
            samples, simulated_s = measure(protocol, nodes, options.seed)
            took_s = time.perf_counter() - began
            samples["times_life"].append(simulated_s / took_s)
            new[protocol.name][str(nodes)] = summed_up(samples)
            print(
                f"{protocol.name}, {nodes} nodes: {simulated_s:.0f} s in {took_s:.1f} s of one core",
                flush=True,
            )
    results = merged([*map(known, options.known), new])
    print(table(results))
    print(verdicts(results))
    if options.json:
        options.json.write_text(to_json(results))
    if options.plots:
        write_plots(results, options.plots)
    if options.doc:
        put(options.doc, "measured", as_markdown(results))
        put(options.doc, "targets", verdicts(results))
    return 0


def measure(protocol: Protocol, nodes: int, seed: int) -> tuple[Samples, float]:
    """All experiments, and how many seconds of the world they took."""
    samples: Samples = defaultdict(list)
    simulated_s = _life(protocol, nodes, seed, samples)
    if nodes <= TROUBLE_NODES_MAX:
        simulated_s += _mistakes(protocol, nodes, seed, samples)
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
        for _ in range(max(1, rounds(nodes) // 2) if nodes <= TROUBLE_NODES_MAX else 0):
            experiments.split(bench, samples, SPLIT_S)
        if protocol.ours:
            experiments.join(bench, samples)
    return bench.now


def _mistakes(protocol: Protocol, nodes: int, seed: int, samples: Samples) -> float:
    """Stalls, and messages that get lost."""
    seconds = min(WORK_S_MAX, WORK_MAX / nodes)
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


def summed_up(samples: Samples) -> dict[str, Figure]:
    return {row: summary for row, values in samples.items() if (summary := figure(values)) is not None}
