"""Plays cells on several meshes side by side; a mesh serves many, and is looked through when it is done."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.crashes.cells import Cell
from benchmarks.crashes.mesh import CrashMesh, show
from benchmarks.crashes.run import Report, Return, Run, final
from benchmarks.local_mesh import Failed, wait_until

Finals = dict[str, tuple[object, ...]]
Work = queue.SimpleQueue[tuple[int, Cell]]


def play_all(
    cells: Sequence[Cell],
    rounds: int,
    seed: int,
    meshes: int,
    tell: Callable[[Report], None],
    until_s: float | None = None,
) -> tuple[list[Report], list[str]]:
    """Every cell once a round, in an order that the seed draws; and what was wrong with a mesh when it was done."""
    work: Work = queue.SimpleQueue()
    rng = random.Random(seed)
    for round in range(rounds):
        for cell in rng.sample(cells, len(cells)):
            work.put((round, cell))
    player = _Player(work, seed, tell, until_s)
    threads = [threading.Thread(target=player.play, args=(number,)) for number in range(meshes)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        player.stop()  # interrupted: what is being played is played to its end, so that no process is left
    return player.reports, player.left


class _Player:
    def __init__(self, work: Work, seed: int, tell: Callable[[Report], None], until_s: float | None) -> None:
        self._work, self._seed, self._tell, self._until_s = work, seed, tell, until_s
        self.reports: list[Report] = []
        self.left: list[str] = []

    def play(self, number: int) -> None:
        """Until there is no work; whoever saw a problem gets a fresh mesh."""
        rng = random.Random(f"{self._seed}:{number}")
        fresh = 0
        try:
            while not self._work.empty() and not self._over():
                fresh += 1
                with CrashMesh(rng) as mesh:
                    self._play_on(mesh, f"m{number}x{fresh}", rng)
        except Exception as error:
            self.left.append(f"mesh {number} came to grief: {error!r}")

    def _play_on(self, mesh: CrashMesh, name: str, rng: random.Random) -> None:
        finals: Finals = {}
        for played in range(1 << 20):
            try:
                round, cell = self._work.get_nowait()
            except queue.Empty:
                break
            if self._over():
                break
            run = Run(mesh, cell, list(Return)[round % len(Return)], f"{name}r{played}", rng)
            report = run.play()
            self.reports.append(report)
            self._tell(report)
            if report.problems:
                return
            finals |= run.finals
        self.left += look_through(mesh, finals, rng)

    def stop(self) -> None:
        self._until_s = 0.0

    def _over(self) -> bool:
        return self._until_s is not None and time.monotonic() > self._until_s


def look_through(mesh: CrashMesh, finals: Finals, rng: random.Random) -> list[str]:
    """What ended is as it was, and nobody keeps anything of an attempt."""
    wrong = []
    for task, end in finals.items():
        node = rng.choice(mesh.live())
        now = final(show(node, task))
        if now != end:
            wrong.append(f"{task} ended as {end}, and {node.name} says now: {now}")
    try:
        wait_until(lambda: not mesh.left_behind(), "nothing to be left of any run")
    except Failed:
        wrong.append(f"left behind: {mesh.left_behind()}")
    return wrong
