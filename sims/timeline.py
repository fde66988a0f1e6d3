"""A run to look at: one HTML file that opens from disk, with no network.

`python -m sims timeline --seed 17 -o timeline.html` draws a simulated world; a scenario's file in place of the seed
draws that; `--trace a.jsonl b.jsonl` draws what real nodes (OPENCLAW_MESH_TRACE) or an earlier run wrote down.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from openclaw.trace import AnyRow
from sims.picture import Json, Picture
from sims.plan import draw
from sims.recording import record
from sims.scenario import Verdict, run
from sims.tomlfile import load
from sims.tracefile import merge, read

PARTS = Path(__file__).parent / "page"
SCRIPTS = ("scene.js", "draw.js", "around.js", "words.js", "hands.js")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("timeline", description=__doc__)
    parser.add_argument("file", nargs="?", type=Path, help="a scenario, instead of a seed")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, help="without it the seed decides")
    parser.add_argument("--seconds", type=float, help="of the world's own time; without it the seed decides")
    parser.add_argument(
        "--trace", nargs="+", type=Path, metavar="FILE", help="draw these traces, run nothing"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("timeline.html"))


def main(options: argparse.Namespace) -> int:
    try:
        data = drawn(options)
    except (OSError, ValueError) as error:
        print(f"timeline: {error}", file=sys.stderr)
        return 3
    options.output.write_text(page(data))
    arrows = len(data["messages"]["at"])  # type: ignore[index]
    print(f"{options.output}: {len(data['lanes'])} nodes, {arrows} messages; open it in a browser")  # type: ignore[arg-type]
    return 0


def drawn(options: argparse.Namespace) -> Json:
    """What the options ask for, as the page's data."""
    if options.trace:
        return of_rows(merge([read(path) for path in options.trace]))
    plan = load(options.file) if options.file else draw(options.seed, options.nodes, options.seconds)
    rows: list[AnyRow] = []
    record(plan, rows.append)
    title = options.file.stem if options.file else f"seed {plan.seed}"
    return of_rows(rows, title, outcome(run(plan)))


def outcome(verdict: Verdict) -> Json:
    """How a run ended, in words."""
    ended = "safety violated" if verdict.violation else "liveness unmet" if verdict.unmet else "held"
    return {"ended": ended, "why": [verdict.violation] if verdict.violation else verdict.unmet}


def of_rows(rows: Iterable[AnyRow], title: str = "", verdict: Json | None = None) -> Json:
    return Picture(rows, title).data(verdict)


def page(data: Json) -> str:
    """The whole file. The data stands in it as JSON, in which no `</script>` can end it early."""
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")
    html = (PARTS / "timeline.html").read_text()
    html = html.replace("/* STYLE */", (PARTS / "timeline.css").read_text())
    script = "\n".join((PARTS / name).read_text() for name in SCRIPTS)
    return html.replace("/* SCRIPT */", script).replace("/* DATA */", text)
