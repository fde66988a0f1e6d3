"""The memory and the disk of a soak as SVG: a line a node, over the minutes, with a mark for each death."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from math import floor, log10

from benchmarks.soak.fleet import Death
from benchmarks.soak.weigh import Sample

WIDTH, PANEL = 720, 170
LEFT, RIGHT, TOP, GAP = 56, 28, 48, 44
COLOURS = ("#1b6ca8", "#c0562b", "#6b8e23", "#7d4e9e", "#b58900")
STEPS = 4
MARK = "#bb0000"

PANELS: tuple[tuple[str, Callable[[Sample], float]], ...] = (
    ("memory of the node's process, MB", lambda s: s.node_mb),
    ("memory of its executor, MB", lambda s: s.executor_mb),
    ("store on disk, MB", lambda s: s.store_mb),
    ("everything else in the state folder, MB", lambda s: s.rest_mb),
)


def svg(title: str, samples: Sequence[Sample], deaths: Sequence[Death]) -> str:
    last_s = max([1.0, *(each.at_s for each in (*samples, *deaths))])
    nodes = sorted({sample.node for sample in samples})
    height = TOP + len(PANELS) * (PANEL + GAP) + 20
    body = [f'<text x="{LEFT}" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    for number, (words, of) in enumerate(PANELS):
        top = TOP + number * (PANEL + GAP)
        body += _panel(words, [(s, of(s)) for s in samples], nodes, last_s, top)
        body += [_mark(_x(death.at_s, last_s), top + PANEL) for death in deaths]
    for number, name in enumerate(nodes):
        x, colour = LEFT + 110 * number, COLOURS[number % len(COLOURS)]
        body.append(f'<rect x="{x}" y="{height - 18}" width="10" height="10" fill="{colour}"/>')
        body.append(f'<text x="{x + 15}" y="{height - 9}">{escape(name)}</text>')
    body.append(f'<text x="{LEFT + 580}" y="{height - 9}">▲ kill -9</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="sans-serif" font-size="12" fill="#333">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *body, "</svg>"]) + "\n"


def round_up(value: float) -> float:
    """To what people count in."""
    power = 10.0 ** floor(log10(max(value, 1e-6)))
    return next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= value)


def _x(at_s: float, last_s: float) -> float:
    return LEFT + at_s / last_s * (WIDTH - LEFT - RIGHT)


def _mark(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y}l-3 6h6z" fill="{MARK}"/>'


def _panel(
    words: str, rows: Sequence[tuple[Sample, float]], nodes: Sequence[str], last_s: float, top: int
) -> list[str]:
    """Axes from zero, so that flat looks flat. A node that is away has a gap."""
    step = round_up(max([value for _, value in rows], default=1.0) / STEPS)
    y_of = lambda value: top + PANEL - value / (step * STEPS) * PANEL  # noqa: E731
    found = [f'<text x="{LEFT}" y="{top - 6}">{escape(words)}</text>']
    for value in (step * number for number in range(STEPS + 1)):
        found.append(f'<path d="M{LEFT} {y_of(value):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        found.append(f'<text x="{LEFT - 6}" y="{y_of(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    step_s = 60 * round_up(last_s / 60 / STEPS)
    for at_s in (step_s * number for number in range(STEPS + 1) if step_s * number <= last_s):
        x = _x(at_s, last_s)
        found.append(
            f'<text x="{x:.1f}" y="{top + PANEL + 18}" text-anchor="middle">{at_s / 60:g} min</text>'
        )
    for number, name in enumerate(nodes):
        colour = COLOURS[number % len(COLOURS)]
        path, pen = "", "M"
        for sample, value in rows:
            if sample.node == name:
                path += f"{pen}{_x(sample.at_s, last_s):.1f} {y_of(value):.1f}" if value > 0 else ""
                pen = "L" if value > 0 else "M"
        found.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return found
