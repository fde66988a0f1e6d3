"""The nodes of a soak, and how they are killed: one thread kills and restarts them, others ask whoever is up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

from benchmarks.local_mesh import Doc, LocalMesh, LocalNode, executor_pids
from openclaw.client import Client
from openclaw.errors import MeshError

NODES = 5
AWAY_S_MAX = 15.0
LEASE_S = 4.0  # of what must not overlap: shorter than most absences
TAKEOVER_S = 2.0  # of some deaths the node is back before its guardian takes over, of others not


@dataclass(frozen=True, slots=True)
class Death:
    """What was killed on `node`, when, and for how long it was away: an executor comes back by itself."""

    at_s: float
    node: str
    what: str
    away_s: float


class Fleet:
    def __init__(self, mesh: LocalMesh, options: tuple[str, ...], rng: Random) -> None:
        self.mesh, self._options, self._rng = mesh, options, rng
        self.names = list(mesh.nodes)
        self.deaths: list[Death] = []
        self._away: set[str] = set()
        self._start_s = time.monotonic()

    def now_s(self) -> float:
        return time.monotonic() - self._start_s

    def up(self) -> list[str]:
        return [name for name in self.names if name not in self._away]

    def call(self, name: str, op: str, **fields: Any) -> Doc | None:
        """The node's answer; None when it is away, or goes while it is asked. Raises what it refuses."""
        try:
            with Client(self.mesh[name].state_dir) as client:
                return client.call(op, **fields)
        except MeshError as error:
            if error.kind in ("no_node", "node_gone", "no_answer"):
                return None
            raise

    def frames(self, name: str, op: str, **fields: Any) -> Iterator[Doc]:
        with Client(self.mesh[name].state_dir) as client:
            yield from client.stream(op, **fields)

    def kill_every(self, every_s: float, ending: threading.Event) -> None:
        """Until `ending`: a node, its executor, or both, by lot; what was killed is back before the next."""
        while not ending.wait(every_s - self.now_s() % every_s):
            node = self.mesh[self._rng.choice(self.names)]
            what = self._rng.choice(("node", "executor", "both"))
            away_s = self._rng.uniform(0.0, min(AWAY_S_MAX, every_s * 0.85)) if what != "executor" else 0.0
            self.deaths.append(Death(round(self.now_s(), 1), node.name, what, round(away_s, 1)))
            if what == "executor":
                kill_executors(node)
                continue
            self._away.add(node.name)
            node.kill()
            if what == "both":
                kill_executors(node)
            ending.wait(away_s)
            node.start(*self._options)
            self._away.discard(node.name)

    def told(self) -> list[Doc]:
        return [asdict(death) for death in self.deaths]


def kill_executors(node: LocalNode) -> None:
    for pid in executor_pids(node.state_dir):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
