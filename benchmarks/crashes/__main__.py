"""Run the crash matrix: each role of a mesh of real processes dies by SIGKILL at each step of a task's life.

    python -m benchmarks.crashes [--rounds 3] [--seed 1] [--meshes 3] [--only REGEX] [--everywhere] [--minutes M]

Each round plays every cell once: in the first whoever died is restarted at once, in the next as the others give it up,
in the third when all is over without it, and so on in turn. Prints what every cell cost in starts, and fails if a kill
missed its point, if a task has not one end that every node knows, or if a `--once` task started twice.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence

from benchmarks.crashes.cells import CELLS, EVERYWHERE, Cell
from benchmarks.crashes.matrix import play_all
from benchmarks.crashes.run import Report


def line(cell: Cell, reports: Sequence[Report]) -> str:
    def total(name: str) -> int:
        return sum(getattr(report, name) for report in reports)

    failed = sum(bool(report.problems) for report in reports)
    return (
        f"{cell!s:58} {len(reports):4} runs {total('accepted'):5} accepted {total('unanswered'):4} unanswered "
        f"{total('starts'):5} starts {total('again'):4} again {total('lost'):3} lost {total('former'):3} former "
        f"{failed:3} failed"
    )


def table(reports: Sequence[Report]) -> str:
    played = {cell: [report for report in reports if report.cell == cell] for cell in EVERYWHERE}
    return "\n".join(line(cell, its) for cell, its in played.items() if its)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--meshes", type=int, default=3, help="side by side")
    parser.add_argument("--only", default="", help="cells whose names match this expression")
    parser.add_argument("--everywhere", action="store_true", help="every role at every step of its span")
    parser.add_argument("--minutes", type=float, default=0.0, help="begin no run after so long")
    parser.add_argument("--verbose", action="store_true", help="a line for every run")
    args = parser.parse_args()
    cells = [cell for cell in (EVERYWHERE if args.everywhere else CELLS) if re.search(args.only, str(cell))]
    began = time.monotonic()

    def tell(report: Report) -> None:
        if report.problems or args.verbose:
            print(
                f"{report.took_s:5.1f} s  {report.cell}, back {report.returns}", *report.problems, sep="\n  "
            )
            sys.stdout.flush()

    until_s = began + 60 * args.minutes if args.minutes else None
    reports, left = play_all(cells, args.rounds, args.seed, args.meshes, tell, until_s)
    print(table(reports))
    print(*left, sep="\n")
    failed = sum(bool(report.problems) for report in reports) + len(left)
    print(f"{len(reports)} runs of {len(cells)} cells in {time.monotonic() - began:.0f} s, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
