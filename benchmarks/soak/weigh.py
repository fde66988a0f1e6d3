"""What the nodes of a soak weigh while it goes on: memory of their processes, and what their folders take."""

from __future__ import annotations

import csv
import os
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from benchmarks.load import memory_mb
from benchmarks.local_mesh import LocalNode, executor_pids
from benchmarks.soak.fleet import Fleet

BLOCK_BYTES = 512


@dataclass(frozen=True, slots=True)
class Sample:
    """One node at one moment, in MB. Memory is what its processes have for themselves (PSS without the pages of the
    store's file); 0 while it is away."""

    at_s: float
    node: str
    node_mb: float
    executor_mb: float
    store_mb: float
    rest_mb: float


class Scales:
    def __init__(self, fleet: Fleet, every_s: float) -> None:
        self._fleet, self._every_s = fleet, every_s
        self.samples: list[Sample] = []

    def run(self, ending: threading.Event) -> None:
        while not ending.wait(self._every_s):
            self.weigh()

    def weigh(self) -> None:
        for name in self._fleet.names:
            node = self._fleet.mesh[name]
            up = name in self._fleet.up()
            store_mb, rest_mb = disk_mb(node.state_dir)
            row = (
                own(lambda node=node: memory_mb(node)) if up else 0.0,
                own(lambda node=node: executors_mb(node)),
                store_mb,
                rest_mb,
            )
            self.samples.append(Sample(round(self._fleet.now_s(), 1), name, *(round(mb, 2) for mb in row)))

    def write(self, path: Path) -> None:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Sample)])
            writer.writeheader()
            writer.writerows(map(asdict, self.samples))


def own(weigh: Callable[[], float]) -> float:
    """0 when the process goes while it is weighed."""
    import psutil

    try:
        return weigh()
    except (psutil.Error, OSError):
        return 0.0


def executors_mb(node: LocalNode) -> float:
    import psutil

    return sum(psutil.Process(pid).memory_full_info().pss for pid in executor_pids(node.state_dir)) / 1e6


def disk_mb(folder: Path) -> tuple[float, float]:
    """What the store takes of the disk, and everything else in the state folder."""
    store = rest = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                used = os.lstat(os.path.join(place, name)).st_blocks * BLOCK_BYTES
            except FileNotFoundError:
                continue
            if Path(place).name == "store":
                store += used
            else:
                rest += used
    return store / 1e6, rest / 1e6


@dataclass(frozen=True, slots=True)
class Growth:
    """A node's mean share in the second quarter of the run and in its last, by the medians of the nodes."""

    what: str
    before_mb: float
    after_mb: float
    worst: float  # the node that grew most: by what factor

    @property
    def ratio(self) -> float:
        return self.after_mb / self.before_mb if self.before_mb else 0.0


def growth(samples: Sequence[Sample], what: str, of: Callable[[Sample], float]) -> Growth:
    last_s = max((sample.at_s for sample in samples), default=0.0)
    pairs = []
    for name in sorted({sample.node for sample in samples}):
        rows = [(s.at_s, of(s)) for s in samples if s.node == name and of(s) > 0]
        before = [mb for at_s, mb in rows if last_s / 4 <= at_s < last_s / 2]
        after = [mb for at_s, mb in rows if at_s >= last_s * 3 / 4]
        if before and after:
            pairs.append((statistics.median(before), statistics.median(after)))
    if not pairs:
        return Growth(what, 0.0, 0.0, 0.0)
    before_mb, after_mb = (statistics.mean(mbs) for mbs in zip(*pairs, strict=True))
    return Growth(what, round(before_mb, 2), round(after_mb, 2), round(max(b / a for a, b in pairs), 2))


def growths(samples: Sequence[Sample]) -> list[Growth]:
    return [
        growth(samples, "memory of a node", lambda s: s.node_mb),
        growth(samples, "memory of its executor", lambda s: s.executor_mb),
        growth(samples, "disk: store", lambda s: s.store_mb),
        growth(samples, "disk: everything else", lambda s: s.rest_mb),
    ]
