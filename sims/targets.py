"""What is to be reached, and whether it was: each target is held against the figures of a measurement.

The numbers are the design's. A target that a run has no figures for is not judged in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sims.bench import MODELS, OURS
from sims.documents import markdown
from sims.figures import Results, number
from sims.meter import Figure

EVERY: tuple[int, ...] = ()
SWIM = MODELS[1].name
FEWER = 50.0
TURN_S = 0.05  # and two round trips, which are a millisecond here


@dataclass(frozen=True, slots=True)
class Target:
    """`row` at these sizes is at most `limit`; `of` says which figure of it counts, which `words` must name."""

    words: str
    row: str
    limit: float
    unit: str
    sizes: tuple[int, ...] = EVERY
    of: Callable[[Figure], float] = lambda figure: figure.worst


def _p99(figure: Figure) -> float:
    return figure.p99


TARGETS = (
    Target("a rumour reaches 99.99 % of 1,000 nodes, slowest", "rumour_99.99_percent_s", 1.0, "s", (1000,)),
    Target("bytes per node and second, 1,000 nodes, p99", "idle_bytes_per_node_s", 4000.0, "B", (1000,), _p99),
    Target("process killed: all survivors know, p99", "process_death_last_s", 1.0, "s", (3, 10, 30), _p99),
    Target("machine lost silently: all survivors know, p99", "machine_death_last_s", 4.0, "s", (3, 10, 30), _p99),
    Target("a new node starts: all see all, 3 nodes", "join_all_see_s", 0.3, "s", (3,)),
    Target("a new node starts: all see all, 10 nodes", "join_all_see_s", 0.5, "s", (10,)),
    Target("a new node starts: all see all, 30 nodes", "join_all_see_s", 1.0, "s", (30,)),
    Target("halves heal into one view with one leader, p99", "heal_s", 15.0, "s", of=_p99),
    Target("messages of an election, per node", "election_messages_per_node", 8.0, ""),
    Target("the same from the worst starter, and from all at once", "worst_starter_messages_per_node", 8.0, ""),
    Target("leader dies: one leader, whom all follow, slowest", "election_from_death_s", 10.0, "s"),
    Target("the same from the worst starter, and from all at once", "worst_starter_from_death_s", 10.0, "s"),
    Target("halves heal: one leader, slowest", "split_leader_s", 10.0, "s"),
    Target("planned turn: a placement later than usual by, most", "turn_gap_s", TURN_S, "s"),
    Target("live nodes called dead in idle seconds", "idle_false_deaths", 0.0, ""),
    Target("live nodes called dead around a death", "death_false_deaths", 0.0, ""),
)  # fmt: skip

MISTAKES = "datagrams_lost_false_deaths_per_node_hour"


def verdicts(results: Results) -> str:
    """A row a target: what was to be reached, the worst that was measured and where, and whether that will do."""
    ours = results.get(OURS.name, {})
    rows = []
    for target in TARGETS:
        found = {
            size: target.of(figures[target.row])
            for size, figures in ours.items()
            if target.row in figures and (int(size) in target.sizes or target.sizes == EVERY)
        }
        if found:
            where = max(found, key=lambda size: found[size])
            unit = f" {target.unit}" * bool(target.unit)
            shown = f"{number(found[where])}{unit}" + f" (at {where})" * (len(found) > 1)
            rows.append(
                [target.words, f"{number(target.limit)}{unit}", shown, _word(found[where] <= target.limit)]
            )
    rows += _fewer(results)
    return markdown(["target", "at most", "measured, worst size", ""], rows)


def _fewer(results: Results) -> list[list[str]]:
    """How many times fewer mistakes than the model of plain SWIM makes, at each size that both were measured at."""
    ours, theirs = results.get(OURS.name, {}), results.get(SWIM, {})
    rows = []
    for size in ours:
        if MISTAKES in ours[size] and MISTAKES in theirs.get(size, {}):
            we, they = (by_size[size][MISTAKES].mean for by_size in (ours, theirs))
            shown = f"{number(we)} against {number(they)}"
            what = f"false deaths per node-hour, messages lost, {size} nodes: against plain SWIM (model)"
            rows.append([what, f"a {FEWER:.0f}th", shown, _word(we * FEWER <= they)])
    return rows


def _word(reached: bool) -> str:
    return "reached" if reached else "**not reached**"
