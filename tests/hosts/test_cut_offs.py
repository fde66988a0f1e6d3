"""What becomes of tasks when cables are cut: read elsewhere, run on both sides, taken from who was cut off.

Every task writes down where it starts and ends, in a file that all hosts share and no part of the mesh writes. After
each cut every task has one end, the same from every host; what started twice is counted there, and printed with why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from host_mesh import HostMesh, HostNode, until

from benchmarks.local_mesh import Doc, Failed
from benchmarks.starts import Ledger, Start, account, duplicates

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}
WAIT_S = 60.0
TAKEOVER = ("--limit", "takeover_s=1")

Make = Callable[..., HostMesh]


class Work:
    """Tasks of a mesh, and gates that hold them back until they are opened: on a host, for one task or for all."""

    def __init__(self, mesh: HostMesh, folder: Path) -> None:
        self.mesh, self.folder = mesh, folder
        self.ledger = Ledger(folder / "ledger")

    def held(self) -> str:
        """Shell: waits for a gate, then prints where it is."""
        gate = f"{self.folder}/gate-$OPENCLAW_MESH_NODE"
        wait = f"while [ ! -e {gate} ] && [ ! -e {gate}-$OPENCLAW_MESH_TASK_ID ]; do sleep 0.05; done"
        return f"{wait}; echo $OPENCLAW_MESH_NODE"

    def open(self, *nodes: HostNode, task: str = "") -> None:
        for node in nodes or self.mesh.nodes:
            (self.folder / "-".join(filter(None, ("gate", node.name, task)))).touch()

    def submit(self, owner: HostNode, worker: HostNode | None = None, **fields: object) -> str:
        """A held task, accepted and copied. With `worker` it runs there, and could run anywhere."""
        others = [node for node in self.mesh.nodes if node is not worker] if worker is not None else []
        for node in others:
            node.control("node_drain")
        until(lambda: all(owner.row(node.name)["draining"] for node in others), "the drain", self.mesh.nodes)
        row = {"kind": "command", "argv": self.ledger.command(self.held()), **fields}
        answer = owner.control("submit", tasks=[row])
        (task,) = answer["ids"]
        if worker is not None:
            self.started(task, 1)
            self.until(lambda: show(owner, task)["state"] == "running", f"{task} to run")
        for node in others:
            node.control("node_resume")
        return str(task)

    def starts(self, task: str) -> list[Start]:
        return self.ledger.starts().get(task, [])

    def started(self, task: str, count: int) -> None:
        self.until(lambda: len(self.starts(task)) >= count, f"start {count} of {task}")

    def ended(self, task: str, node: HostNode) -> None:
        """Its command on that host has come to its end."""
        self.until(
            lambda: any(start.node == node.name and start.code == 0 for start in self.starts(task)),
            f"the end of {task} on {node.name}",
        )

    def until(self, fact: Callable[[], bool], what: str) -> None:
        until(fact, what, self.mesh.nodes, WAIT_S)

    def one_end(self, tasks: Iterable[str]) -> dict[str, Doc]:
        """Once every host says the same of every task; prints what started twice."""
        found: dict[str, Doc] = {}
        for task in tasks:
            try:
                self.until(lambda task=task: len(ends(self.mesh.nodes, task)) == 1, f"one end of {task}")
            except Failed as failed:
                said = [account(show(node, task), self.starts(task)) for node in self.mesh.nodes]
                raise Failed(
                    "\n".join([str(failed), *map(str, ends(self.mesh.nodes, task)), *said])
                ) from None
            doc = found[task] = show(self.mesh.nodes[0], task)
            if duplicates(self.starts(task)):
                print(account(doc, self.starts(task)))
            for node in self.mesh.nodes:
                text = node.ok("task", "logs", task)
                assert text == f"{doc['node']['name']}\n", f"{task} as {node.name} has it"
        return found


def ends(nodes: Iterable[HostNode], task: str) -> set[tuple[object, ...]]:
    """How each node says that it ended, and by whom it is owned."""
    said = set()
    for node in nodes:
        doc = show(node, task)
        settled = doc["state"] in FINAL and not doc["provisional"]
        end = (doc["exit_code"], doc["attempt"], doc["node"]["id"], doc["owner"]["id"])
        said.add((doc["state"], *end) if settled else (node.name, doc["state"]))
    return said


def show(node: HostNode, task: str) -> Doc:
    return dict(node.control("task_show", id=task)["task"])


def reasons(doc: Doc) -> str:
    return "\n".join(str(move["reason"]) for move in doc["story"])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Lays a LAN with a node on each host; whatever runs on it is ended with the test."""
    with ExitStack() as stack:

        def made(count: int, *options: str) -> HostMesh:
            return stack.enter_context(HostMesh(tmp_path, count)).start(*options)

        yield made


def test_the_owner_is_cut_off_and_its_tasks_are_read_elsewhere(make: Make, tmp_path: Path) -> None:
    """One runs on the owner itself, one elsewhere, one is exclusive, one had ended before."""
    mesh = make(3, *TAKEOVER)
    work = Work(mesh, tmp_path)
    owner, *others = mesh.nodes
    worker = others[0]
    here, there = work.submit(owner, owner), work.submit(owner, worker)
    once = work.submit(owner, worker, once=True)
    before = owner.ok("run", "-d", "--", "sh", "-c", "echo $OPENCLAW_MESH_NODE").strip()
    assert owner.run("task", "wait", before).returncode == 0
    tasks = [here, there, once, before]
    work.until(lambda: all(show(owner, task)["guardians"] for task in tasks), "copies")
    owner.host.cut()
    mesh.agree(others)
    for task in (
        here,
        there,
    ):  # its guardian starts the one anew, and the owner the other, each knowing no better
        work.started(task, 2)
    work.open()
    for node in others:
        for task in tasks:
            assert node.run("task", "wait", task, timeout_s=WAIT_S).returncode == 0
            doc = node.json("task", "show", task)
            assert doc["state"] == "succeeded", reasons(doc)
            assert doc["owner"]["name"] != owner.name or task == before
            assert node.ok("task", "logs", task) == f"{doc['node']['name']}\n"
    for task in (here, there):
        work.ended(task, owner)
        work.until(lambda task=task: show(owner, task)["state"] == "succeeded", "it to know of its own")
    owner.host.restore()
    mesh.agree(mesh.nodes)
    found = work.one_end(tasks)
    assert {task: found[task]["owner"]["name"] == owner.name for task in tasks} == {
        here: False, there: False, once: False, before: True,
    }  # fmt: skip
    assert {task: duplicates(work.starts(task)) for task in tasks[:3]} == {here: 1, there: 1, once: 0}
    assert "taken over: its owner" in reasons(found[here])


def test_two_halves_work_on_and_every_task_has_one_end(make: Make, tmp_path: Path) -> None:
    """On each side: one that came before the cut and runs on the other side, plain and exclusive, and one from it."""
    mesh = make(4, *TAKEOVER)
    work = Work(mesh, tmp_path)
    near, far = mesh.nodes[:2], mesh.nodes[2:]
    across = [work.submit(near[0], far[0]), work.submit(far[1], near[1])]
    once = [work.submit(near[0], far[1], once=True), work.submit(far[1], near[0], once=True)]
    work.until(lambda: bool(show(near[0], across[0])["guardians"]), "a copy")
    work.until(lambda: bool(show(far[1], across[1])["guardians"]), "a copy")
    mesh.lan.split([node.host for node in far])
    mesh.agree(near)
    mesh.agree(far)
    own = {node.name: [work.submit(node)] for node in mesh.nodes}
    for task, side in zip(across, (near, far), strict=True):
        work.until(lambda task=task, side=side: side_has(work, task, side), f"{task} to start again")
    work.open()
    for side in (near, far):
        for node in side:
            for task in own[node.name]:
                assert node.run("task", "wait", task, timeout_s=WAIT_S).returncode == 0
                assert {start.node for start in work.starts(task)} <= {each.name for each in side}
    for task in [*across, *once]:
        work.until(lambda task=task: all(s.code == 0 for s in work.starts(task)), f"each end of {task}")
    mesh.lan.heal()
    mesh.agree(mesh.nodes)
    alone = [task for tasks in own.values() for task in tasks]
    found = work.one_end([*across, *once, *alone])
    assert {doc["state"] for doc in found.values()} == {"succeeded"}
    assert {len(work.starts(task)) for task in (*once, *alone)} == {1}
    assert [duplicates(work.starts(task)) for task in across] == [1, 1]
    for task in across:
        assert "is down" in reasons(found[task]) or found[task]["also_ended"], account(
            found[task], work.starts(task)
        )


def side_has(work: Work, task: str, side: list[HostNode]) -> bool:
    return bool({start.node for start in work.starts(task)} & {node.name for node in side})


def test_what_a_worker_finished_while_it_was_cut_off_is_taken(make: Make, tmp_path: Path) -> None:
    """Three tasks on it: nobody else could run one, another ran elsewhere meanwhile, and one still runs there."""
    mesh = make(3)
    work = Work(mesh, tmp_path)
    owner, cut, other = mesh.nodes
    alone = work.submit(owner, cut, needs={"node": cut.name})
    first, late = work.submit(owner, cut), work.submit(owner, cut)
    owner.control("node_drain")
    cut.host.cut()
    mesh.agree([owner, other])
    work.started(first, 2)
    work.started(late, 2)
    work.open(cut)
    for task in (alone, first, late):
        work.ended(task, cut)
    # One of them ends elsewhere as well, before anybody can hear of its first end.
    work.open(other, task=first)
    work.until(lambda: show(owner, first)["state"] == "succeeded", "the second attempt's end")
    cut.host.restore()
    mesh.agree(mesh.nodes)
    found = work.one_end([alone, first, late])
    assert {task: (doc["state"], doc["node"]["name"]) for task, doc in found.items()} == {
        alone: ("succeeded", cut.name),
        first: ("succeeded", other.name),
        late: ("succeeded", cut.name),
    }
    assert [len(work.starts(task)) for task in (alone, first, late)] == [1, 2, 2]
    work.until(lambda: not psutil.pid_exists(work.starts(late)[1].pid), "the other attempt to be ended")
