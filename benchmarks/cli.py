"""What `openclaw run -- true` costs as a whole process, beside `python -c "import click"` in the same run.

    python -m benchmarks.cli [--runs 30]

The two alternate, so that a busy machine slows both. The limit is a ratio of 2.5 (and 60 ms on an idle machine).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.local_mesh import OPENCLAW, LocalMesh

RATIO_MAX = 2.5
WARM_UP_RUNS = 3


def process_ms(argv: Sequence[str], environ: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(argv, env=environ, check=True, stderr=subprocess.DEVNULL)
    return (time.perf_counter() - start) * 1000


def row(name: str, times_ms: Sequence[float]) -> str:
    median = statistics.median(times_ms)
    low, _, high = statistics.quantiles(times_ms, n=4)
    return (
        f"{name:24} median {median:6.1f} ms   quartiles {low:6.1f} to {high:6.1f}   best {min(times_ms):6.1f}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=30)
    runs = parser.parse_args().runs
    with LocalMesh(("a",)) as mesh:
        node = mesh["a"]
        environ = node.environ | {"OPENCLAW_MESH_STATE_DIR": str(node.state_dir)}
        ours_argv = [*OPENCLAW, "run", "-q", "--", "true"]
        peer_argv = [sys.executable, "-c", "import click"]
        for _ in range(WARM_UP_RUNS):
            process_ms(ours_argv, environ)
            process_ms(peer_argv, environ)
        pairs = [(process_ms(ours_argv, environ), process_ms(peer_argv, environ)) for _ in range(runs)]
    ours, peer = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    print(row("openclaw run -- true", ours))
    print(row('python -c "import click"', peer))
    ratio = statistics.median(ours) / statistics.median(peer)
    print(f"ratio {ratio:.2f} (limit {RATIO_MAX})")
    return 0 if ratio <= RATIO_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
