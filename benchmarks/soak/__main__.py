"""Mixed tasks on five nodes whose processes are killed, one after the other, for as long as one likes.

    python -m benchmarks.soak [--minutes 60] [--seed 1] [--out soak] [--plot docs/plots/soak.svg]

Every 20 s a node, its executor or both get SIGKILL, by a lot that the seed decides. At the end nothing that was
accepted may be without an end, every node must tell the same, no `--once` may have started twice and nothing may
still run; duplicate starts are counted and each is shown with its reasons. What the nodes weigh is sampled along the
way, into a CSV and a plot, and from half an hour on it has to be flat. Exits with 1 when anything of that fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from benchmarks.local_mesh import LocalMesh, wait_until
from benchmarks.soak import offers, plot, verdict, weigh
from benchmarks.soak.book import Book, Checker, Submitter
from benchmarks.soak.fleet import LEASE_S, NODES, TAKEOVER_S, Fleet
from benchmarks.soak.work import Maker
from benchmarks.starts import Ledger

KEEP_S_MIN, KEEP_SHARE = 120.0, 1 / 12  # of the run's time: what ended is forgotten while it goes on
FILES_BYTES = 8 << 20  # of inputs that no task needs any more
SAMPLES = 120  # of each node


def soak(
    minutes: float, seed: int, kill_every_s: float = 20.0, per_s: float = 4.0, out: Path | None = None
) -> tuple[verdict.Verdict, weigh.Scales, Fleet]:
    """A whole run. Whatever goes wrong in the harness itself is raised."""
    seconds = minutes * 60
    keep_s = max(KEEP_S_MIN, seconds * KEEP_SHARE)
    options = (
        "--slots", "3", "--limit", f"takeover_s={TAKEOVER_S:g}", "--limit", f"lease_s={LEASE_S:g}",
        "--limit", f"keep_s={keep_s:g}",
        "--limit", f"files_bytes={FILES_BYTES}", "--handlers", str(offers.__file__),
    )  # fmt: skip
    found = verdict.Verdict(minutes, seed)
    with LocalMesh([f"n{number}" for number in range(1, NODES + 1)], *options) as mesh:
        first = mesh["n1"]
        wait_until(
            lambda: all(row["handlers"] for row in first.control("nodes")["nodes"]), "everybody's handlers"
        )
        ledger, book = Ledger(mesh.folder / "ledger"), Book()
        fleet = Fleet(mesh, options, Random(f"{seed}:deaths"))
        maker = Maker(Random(f"{seed}:work"), ledger, mesh.folder / "inputs")
        submitter = Submitter(fleet, book, maker, Random(f"{seed}:submitter"), per_s)
        checker = Checker(fleet, book, Random(f"{seed}:checker"))
        scales = weigh.Scales(fleet, max(2.0, seconds / SAMPLES))
        together(
            seconds,
            lambda ending: fleet.kill_every(kill_every_s, ending),
            submitter.run,
            checker.run,
            scales.run,
        )
        checker.finish()
        found.deaths = dict(Counter(death.what for death in fleet.deaths))
        found.growths = weigh.growths(scales.samples)
        verdict.judge(found, book, checker, ledger, mesh.folder)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            scales.write(out / "samples.csv")
            document = {**found.document(), "killed": fleet.told()}
            (out / "soak.json").write_text(json.dumps(document, indent=1))
        return found, scales, fleet


def together(seconds: float, *works: Callable[[threading.Event], None]) -> None:
    """Each in a thread of its own until the time is over, or one of them fails."""
    ending = threading.Event()
    with ThreadPoolExecutor(len(works)) as pool:

        def guarded(work: Callable[[threading.Event], None]) -> None:
            try:
                work(ending)
            except BaseException:
                ending.set()
                raise

        running = [pool.submit(guarded, work) for work in works]
        ending.wait(seconds)
        ending.set()
    for each in running:
        each.result()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills")
    parser.add_argument("--rate", type=float, default=4, help="tasks a second")
    parser.add_argument("--out", type=Path, default=Path("soak"), help="folder for samples.csv and soak.json")
    parser.add_argument("--plot", type=Path, default=None, help="SVG file; in --out unless it is named")
    options = parser.parse_args()
    found, scales, fleet = soak(options.minutes, options.seed, options.every, options.rate, options.out)
    title = f"{NODES} nodes, a kill -9 every {options.every:g} s, {options.minutes:g} minutes, seed {options.seed}"
    path = options.plot or options.out / "soak.svg"
    path.write_text(plot.svg(title, scales.samples, fleet.deaths))
    print("\n".join(found.lines()))
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
