"""Plots of what was measured, as SVG by hand: log axes, a line a protocol, p50 with p99 above it as a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10
from pathlib import Path

from sims.meter import Figure

WIDTH, HEIGHT = 560, 340
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 44, 84
COLOURS = ("#1b6ca8", "#c0562b", "#6b8e23", "#7d4e9e")
LEAST = 1e-3


@dataclass(frozen=True, slots=True)
class Plot:
    """`rows` are lines of each protocol; `mean` draws the mean instead of the median."""

    file: str
    title: str
    unit: str
    row: str
    mean: bool = False


PLOTS = (
    Plot("process-death.svg", "A process is killed: the last survivor knows", "seconds", "process_death_last_s"),
    Plot("machine-death.svg", "A machine is lost silently: the last survivor knows", "seconds", "machine_death_last_s"),
    Plot("rumour.svg", "A rumour reaches 99.99 %", "seconds", "rumour_99.99_percent_s"),
    Plot("bytes.svg", "Bytes sent per node and second, idle", "bytes/s", "idle_bytes_per_node_s", mean=True),
    Plot("election.svg", "Messages of an election, per node", "messages", "election_messages_per_node", mean=True),
)  # fmt: skip

Lines = Mapping[str, Sequence[tuple[int, float, float]]]
"""By protocol: number of nodes, value, p99."""


def write_plots(results: Mapping[str, Mapping[str, Mapping[str, Figure]]], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for plot in PLOTS:
        lines = {
            name: [
                (int(size), at.mean if plot.mean else at.p50, at.p99)
                for size, rows in sizes.items()
                if (at := rows.get(plot.row)) is not None and isfinite(at.p99)
            ]
            for name, sizes in results.items()
        }
        drawn = {name: points for name, points in lines.items() if points}
        if drawn:
            (folder / plot.file).write_text(svg(plot.title, plot.unit, drawn))


class Axis:
    """A logarithmic axis from one power of ten to another, over pixels."""

    def __init__(self, values: Sequence[float], first: float, last: float) -> None:
        floored = [max(value, LEAST) for value in values]
        self.low = floor(log10(min(floored)))
        self.high = max(self.low + 1, -floor(-log10(max(floored))))
        self._first, self._last = first, last

    def at(self, value: float) -> float:
        share = (log10(max(value, LEAST)) - self.low) / (self.high - self.low)
        return self._first + share * (self._last - self._first)

    def ticks(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def svg(title: str, unit: str, lines: Lines) -> str:
    points = [point for series in lines.values() for point in series]
    sizes = sorted({nodes for nodes, _, _ in points})
    across = Axis(sizes, LEFT, WIDTH - RIGHT)
    up = Axis([v for _, *values in points for v in values], HEIGHT - BOTTOM, TOP)
    body = [
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">{escape(title)}</text>',
        *(_rule(up.at(tick), f"{tick:g}") for tick in up.ticks()),
        *(_column(across.at(size), str(size)) for size in sizes),
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - BOTTOM + 34}" text-anchor="end">nodes</text>',
        f'<text x="{LEFT}" y="{TOP - 6}" text-anchor="end">{escape(unit)}</text>',
    ]
    for number, (name, series) in enumerate(lines.items()):
        body += _series(name, series, number, across, up)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *body, "</svg>"]) + "\n"


def _rule(y: float, words: str) -> str:
    return (
        f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>'
        f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words}</text>'
    )


def _column(x: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{words}</text>'


def _series(
    name: str, series: Sequence[tuple[int, float, float]], number: int, across: Axis, up: Axis
) -> list[str]:
    colour = COLOURS[number % len(COLOURS)]
    middle = [(across.at(nodes), up.at(value)) for nodes, value, _ in series]
    worst = [(across.at(nodes), up.at(p99)) for nodes, _, p99 in series]
    band = " ".join(f"{x:.1f},{y:.1f}" for x, y in [*middle, *reversed(worst)])
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in middle)
    x, y = LEFT + 165 * (number % 3), HEIGHT - 26 + 16 * (number // 3)
    return [
        f'<polygon points="{band}" fill="{colour}" fill-opacity="0.15"/>',
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="3" fill="{colour}"/>' for cx, cy in middle),
        f'<rect x="{x}" y="{y - 9}" width="10" height="10" fill="{colour}"/>',
        f'<text x="{x + 15}" y="{y}">{escape(name)}</text>',
    ]
