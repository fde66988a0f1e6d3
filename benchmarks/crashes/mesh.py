"""A mesh whose processes have fault points, who plays which role in it, and a ledger that no part of it writes."""

from __future__ import annotations

import random
import threading
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.crashes.cells import EXECUTOR, GUARDIAN, LEADER, OWNER, WORKER, Role, Step
from benchmarks.local_mesh import WAIT_S, Doc, LocalMesh, LocalNode, executor_pids, wait_until
from openclaw.errors import MeshError
from openclaw.faultpoints import HIT, VARIABLE

OPTIONS = ("--slots", "4", "--limit", "takeover_s=0.5")
FINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}

Cast = dict[Role, LocalNode]


class Ledger:
    """What started, in a file that the commands themselves append to; and gates that hold them back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "ledger"
        self._path.touch()

    def command(self, run: str, key: str) -> tuple[str, str, str]:
        held = f"while [ ! -e {self._gate(run)} ]; do sleep 0.05; done"
        return (
            "sh",
            "-c",
            f'echo "{key} $OPENCLAW_MESH_NODE" >> {self._path}; {held}; echo {key}',
        )

    def open(self, run: str) -> None:
        """Commands of this run end from now on."""
        self._gate(run).touch()

    def starts(self) -> Counter[str]:
        return Counter(line.split()[0] for line in self._path.read_text().splitlines())

    def _gate(self, run: str) -> Path:
        return self._folder / f"gate-{run}"


class CrashMesh(LocalMesh):
    """Four nodes, so that owner, guardian, leader and worker are four machines."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(("a", "b", "c", "d"), *OPTIONS)
        self._rng = rng
        self.ledger = Ledger(self.folder)

    def node(self, name: str) -> LocalNode:
        environ = {**self.environ, VARIABLE: str(self.folder / f"{name}.fault")}
        return LocalNode(name, self.folder / name, environ)

    # --- who is who ------------------------------------------------------------------------------

    def cast(self) -> Cast:
        """Four nodes for the four roles, as things stand; the worker is the only one that takes tasks."""
        self.settle()
        leader = self.leader()
        others = [node for node in self.nodes.values() if node is not leader]
        self._rng.shuffle(others)
        for owner in others:
            guardian = self._guardian_of(owner)
            if guardian not in (None, leader):
                assert guardian is not None
                (worker,) = (node for node in others if node not in (owner, guardian))
                cast = {OWNER: owner, GUARDIAN: guardian, LEADER: leader, WORKER: worker, EXECUTOR: worker}
                self._drain((owner, guardian, leader))
                return cast
        self.restart(leader)  # it guards everybody: another one will lead
        return self.cast()

    def _guardian_of(self, owner: LocalNode) -> LocalNode | None:
        taken = owner.control("submit", tasks=[{"kind": "command", "argv": ["true"]}])
        owner.control("wait", ids=taken["ids"], answer_s=WAIT_S)
        guardians = taken["guardians"]
        return self.nodes[guardians[0]["name"]] if guardians else None

    def _drain(self, idle: tuple[LocalNode, ...]) -> None:
        for node in idle:
            node.control("node_drain")
        names = {node.name for node in idle}
        wait_until(
            lambda: all(draining(node) == names for node in self.nodes.values()), f"{names} to take no tasks"
        )

    def resume(self) -> None:
        """Whoever lives takes tasks again."""
        for node in self.live():
            node.control("node_resume")

    # --- deaths ----------------------------------------------------------------------------------

    def arm(self, step: Step, cast: Cast, victims: tuple[Role, ...]) -> Path:
        """The file that is there when it has happened."""
        path = self._fault(cast[step.at])
        hit = path.with_name(path.name + HIT)
        hit.unlink(missing_ok=True)
        pids = [self._pid(cast[role], role) for role in victims] if victims != (step.at,) else []
        armed = path.with_suffix(".armed")
        armed.write_text(" ".join(map(str, (step.point, step.passes, *pids))))
        armed.rename(path)
        return hit

    def disarm(self) -> None:
        for node in self.nodes.values():
            self._fault(node).unlink(missing_ok=True)

    def _fault(self, node: LocalNode) -> Path:
        return self.folder / f"{node.name}.fault"

    @staticmethod
    def _pid(node: LocalNode, role: Role) -> int:
        assert node.process is not None
        if role is EXECUTOR:
            launcher = node.process.pid  # what it starts is no executor yet: that has left it
            found: list[int] = []

            def one() -> bool:
                found[:] = [
                    pid for pid in executor_pids(node.state_dir) if parent(pid) not in (None, launcher)
                ]
                return len(found) == 1

            wait_until(one, f"the executor of {node.name}")
            return found[0]
        return node.process.pid

    def live(self) -> list[LocalNode]:
        return [node for node in self.nodes.values() if alive(node)]

    def restart(self, node: LocalNode) -> None:
        if alive(node):
            node.kill()
        node.start(*OPTIONS)

    def known_down(self, node: LocalNode) -> bool:
        """Whether all others have given it up."""
        return all(
            row["state"] in ("down", "left")
            for other in self.live()
            for row in other.control("nodes")["nodes"]
            if row["id"] == node.id
        )

    def left_behind(self) -> list[str]:
        """What nodes still keep of attempts, though everything is over."""
        return [str(run) for node in self.nodes.values() for run in (node.state_dir / "runs").iterdir()]


def parent(pid: int) -> int | None:
    try:
        return int(psutil.Process(pid).ppid())
    except psutil.NoSuchProcess:
        return None


def alive(node: LocalNode) -> bool:
    return node.process is not None and node.process.poll() is None


def draining(node: LocalNode) -> set[str]:
    return {row["name"] for row in node.control("nodes")["nodes"] if row["draining"]}


def show(node: LocalNode, task: str) -> Doc | None:
    """What this node says of a task; None if it has nothing to say, or is not there."""
    try:
        return dict(node.control("task_show", id=task)["task"])
    except MeshError:
        return None


class Submitting(threading.Thread):
    """A request of which the answer may never come."""

    def __init__(self, node: LocalNode, rows: list[Doc]) -> None:
        super().__init__(daemon=True)
        self._node, self._rows = node, rows
        self.taken: Doc | None = None
        self.start()

    def run(self) -> None:
        try:
            self.taken = self._node.control("submit", tasks=self._rows)
        except (MeshError, OSError):
            pass  # it died before it answered: nothing was promised
