"""The figures of a measurement: kept as JSON, shown as a table, put beside each other as a page.

By protocol, number of nodes, and row; figures of several runs become one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import inf, isfinite
from pathlib import Path

import msgspec

from sims.bench import OURS, PROTOCOLS
from sims.documents import markdown
from sims.experiments import LOSS, LOSS_TCP
from sims.meter import Figure

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
    "split_bytes_per_node_s": "bytes per node and second, while halves are cut off",
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
    "stalling_called_dead_per_node_hour": "  and of those that stall, up to 4 s each time",
    "datagrams_lost_false_deaths_per_node_hour": f"false deaths per node-hour, {LOSS:.0%} of messages lost",
    "segments_lost_false_deaths_per_node_hour": f"the same over TCP, which repeats and stalls: {LOSS_TCP:.0%} lost",
    "times_life": "speed: simulated over real seconds, one core",
}

NOTHING = "–"

Results = dict[str, dict[str, dict[str, Figure]]]
"""By protocol, number of nodes, and row."""


def to_json(results: Results) -> str:
    """Infinite is null: it never came."""
    plain = msgspec.to_builtins(results)
    for sizes in plain.values():
        for rows in sizes.values():
            for row in rows.values():
                row.update({key: None for key, value in row.items() if value == inf})
    return json.dumps(plain, indent=1, sort_keys=True) + "\n"


def known(file: Path) -> Results:
    """What an earlier run wrote down."""
    plain = json.loads(file.read_text())
    for sizes in plain.values():
        for rows in sizes.values():
            for row in rows.values():
                row.update({key: inf for key, value in row.items() if value is None})
    return msgspec.convert(plain, Results)


def merged(runs: Sequence[Results]) -> Results:
    """One set of figures, sizes ascending; what a later run has stands."""
    both: Results = {}
    for run in runs:
        for name, by_size in run.items():
            both.setdefault(name, {}).update(by_size)
    order = [protocol.name for protocol in PROTOCOLS if protocol.name in both]
    return {name: dict(sorted(both[name].items(), key=lambda item: int(item[0]))) for name in order}


def sizes_of(results: Results) -> list[str]:
    return sorted({size for by_size in results.values() for size in by_size}, key=int)


def table(results: Results) -> str:
    """One block a size: p50 / p99 of each row, for each protocol beside the others."""
    lines = []
    for size in sizes_of(results):
        lines.append(f"\n{size + ' nodes':<58}" + "".join(f"{name:>26}" for name in results))
        for row, words in ROWS.items():
            cells = [shown(row, by_size.get(size, {}).get(row)) for by_size in results.values()]
            lines.append(f"{words:<58}" + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def as_markdown(results: Results) -> str:
    """Ours at every size, each row beside the models where they have one."""
    sizes = sizes_of(results)
    rows = []
    for row, words in ROWS.items():
        for name, by_size in results.items():
            cells = [shown(row, by_size.get(size, {}).get(row)) for size in sizes]
            if set(cells) != {NOTHING}:
                rows.append([words.strip() if name == OURS.name else f"… {name}", *cells])
    return markdown(["p50 / p99 (bytes and counts: mean / p99)", *sizes], rows)


def shown(row: str, summary: Figure | None) -> str:
    if summary is None:
        return NOTHING
    if row.endswith("false_deaths"):
        return f"{summary.mean * summary.count:.0f}"
    if row == "times_life":
        return number(summary.mean)
    if "per_node" in row:
        return f"{number(summary.mean)} / {number(summary.p99)}"
    return f"{number(summary.p50)} / {number(summary.p99)}"


def number(value: float) -> str:
    if not isfinite(value):
        return "never"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
