"""What a mesh of real processes must live through: nodes, executors and commands killed, tasks moved and ended.

Every task of these tests appends a line to a ledger when it starts, so "exactly once" is read from a file that no
part of the mesh writes. Nothing is decided by how long something took.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.local_mesh import Doc, LocalMesh, LocalNode, executor_pids, wait_until

FINAL = {"succeeded", "failed", "timed_out", "cancelled", "lost"}


class Ledger:
    """A folder outside the mesh: what started, and files that hold tasks back until the test lets them go."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "ledger"
        self.path.touch()
        self.gate = folder / "gate"

    def command(self, key: str = "x", then: str = "true") -> tuple[str, str, str]:
        """A shell that writes `key`, its own pid, its attempt and its node down, then does `then`."""
        line = f'echo "{key} $$ $OPENCLAW_MESH_ATTEMPT $OPENCLAW_MESH_NODE" >> {self.path}; {then}'
        return "sh", "-c", line

    @property
    def held(self) -> str:
        """Shell: waits until the test opens the gate."""
        return f"while [ ! -e {self.gate} ]; do sleep 0.05; done"

    def open(self) -> None:
        self.gate.touch()

    def lines(self) -> list[list[str]]:
        return [line.split() for line in self.path.read_text().splitlines()]

    def keys(self) -> list[str]:
        return sorted(line[0] for line in self.lines())

    def starts(self) -> int:
        return len(self.lines())

    def pids(self) -> list[int]:
        return [int(line[1]) for line in self.lines()]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path)


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    """For what leaves the mesh as it was."""
    with LocalMesh(("a", "b", "c"), "--slots", "4") as mesh:
        yield mesh
        mesh.settle()


@pytest.fixture
def mortal() -> Iterator[LocalMesh]:
    """For what does not."""
    with LocalMesh(("a", "b", "c"), "--slots", "4") as mesh:
        yield mesh


def show(node: LocalNode, task: str) -> Doc:
    return dict(node.control("task_show", id=task)["task"])


def state(node: LocalNode, task: str) -> str:
    return str(show(node, task)["state"])


def submit(node: LocalNode, *argv: str, count: int = 1, **fields: object) -> list[str]:
    """Detached tasks over the control socket; they are on disk when this returns."""
    row = {"kind": "command", "argv": list(argv), **fields}
    return [str(task) for task in node.control("submit", tasks=[row] * count)["ids"]]


def at(node: LocalNode) -> Doc:
    return {"node": node.name}


def final(node: LocalNode, task: str) -> Doc:
    wait_until(lambda: state(node, task) in FINAL, f"the end of {task}")
    return show(node, task)


def in_state(node: LocalNode, task: str, wanted: str) -> None:
    wait_until(lambda: state(node, task) == wanted, f"{task} to be {wanted}")


def started(ledger: Ledger, count: int = 1) -> None:
    wait_until(lambda: ledger.starts() >= count, f"{count} starts in the ledger")


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def gone(pids: list[int]) -> None:
    wait_until(lambda: not any(map(alive, pids)), f"processes {pids} to be gone")


def left_behind(node: LocalNode) -> list[str]:
    """Processes that name this node's state folder in their command line or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(node.state_dir) in word for word in words):
            found.append(f"{process.pid} {process.name()}")
    return found


def logs(node: LocalNode, task: str, *options: str) -> bytes:
    done = node.run("task", "logs", task, *options)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def reasons(task: Doc) -> str:
    return " | ".join(f"{move['state']}: {move['reason']}" for move in task["story"])


# --- a node dies, its executor lives ---------------------------------------------------------------


def test_a_task_outlives_its_worker_and_is_adopted(mortal: LocalMesh, ledger: Ledger) -> None:
    a, b = mortal["a"], mortal["b"]
    command = ledger.command(then=f"echo before; {ledger.held}; echo after; echo bad >&2; exit 3")
    (task,) = submit(a, *command, needs=at(b))
    in_state(a, task, "running")
    started(ledger)
    b.kill()
    assert executor_pids(b.state_dir)
    assert alive(ledger.pids()[0])
    b.start("--slots", "4")
    ledger.open()
    end = final(a, task)
    assert (end["state"], end["exit_code"], end["starts"]) == ("failed", 3, 1), reasons(end)
    assert ledger.starts() == 1
    for node in mortal.nodes.values():
        assert logs(node, task) == b"before\nafter\n"
        assert logs(node, task, "--stderr") == b"bad\n"


def test_a_task_that_ended_while_its_worker_was_dead_is_adopted(mortal: LocalMesh, ledger: Ledger) -> None:
    """Owner and worker are one node; the command ends between the two lives of it."""
    a = mortal["a"]
    (task,) = submit(a, *ledger.command(then=f"echo one; {ledger.held}; echo two"), needs=at(a))
    in_state(a, task, "running")
    started(ledger)
    a.kill()
    ledger.open()
    gone(ledger.pids())
    a.start("--slots", "4")
    end = final(a, task)
    assert (end["state"], end["exit_code"], end["starts"]) == ("succeeded", 0, 1), reasons(end)
    assert ledger.starts() == 1
    assert logs(a, task) == b"one\ntwo\n"


def test_an_owner_that_dies_keeps_what_it_accepted(mortal: LocalMesh, ledger: Ledger) -> None:
    a = mortal["a"]
    ids = submit(a, *ledger.command("k", then=f"{ledger.held}; echo $OPENCLAW_MESH_TASK_ID"), count=50)
    started(ledger, 3)
    a.kill()
    ledger.open()
    a.start("--slots", "4")
    mortal.settle()
    for task in ids:
        end = final(a, task)
        assert end["state"] == "succeeded", reasons(end)
        assert logs(mortal["c"], task) == f"{task}\n".encode()
    assert ledger.starts() == 50


@pytest.fixture
def impatient() -> Iterator[LocalMesh]:
    """Guardians do not wait for an owner that is down."""
    with LocalMesh(("a", "b", "c"), "--slots", "4", "--limit", "takeover_s=0.5") as mesh:
        yield mesh


def guarded(node: LocalNode, task: str) -> None:
    wait_until(lambda: bool(show(node, task)["guardians"]), f"a copy of {task}")


def test_closed_lid_all_finishes_and_can_be_read_anywhere(impatient: LocalMesh, ledger: Ledger) -> None:
    a, b, c = (impatient[name] for name in "abc")
    ids = submit(a, *ledger.command("$OPENCLAW_MESH_TASK_ID", then=f"{ledger.held}; echo out"), count=30)
    started(ledger, 8)
    for task in ids:
        guarded(a, task)
    a.kill_all()
    ledger.open()
    for task in ids:
        end = final(c, task)
        assert end["state"] == "succeeded", reasons(end)
        assert end["owner"]["name"] in ("b", "c")
        assert logs(b, task) == b"out\n"
    places: dict[str, list[str]] = {}
    for task, _, _, node in ledger.lines():
        places.setdefault(task, []).append(node)
    assert set(places) == set(ids)
    for task, nodes in places.items():
        again = len(nodes) - len([node for node in nodes if node == "a"])
        assert again <= 1, f"{task} ran on {nodes}: twice on nodes that lived"
    a.start("--slots", "4")
    impatient.settle()
    for task in ids:
        wait_until(lambda task=task: state(a, task) == "succeeded", f"{task} to be known where it came from")
    assert ledger.starts() == sum(map(len, places.values())), "nothing ran again"


def test_once_is_not_started_again_by_whoever_takes_it_over(impatient: LocalMesh, ledger: Ledger) -> None:
    a, b, c = (impatient[name] for name in "abc")
    (task,) = submit(a, *ledger.command("o", then=ledger.held), once=True, needs=at(c))
    in_state(a, task, "running")
    a.kill_all()
    wait_until(lambda: show(b, task)["owner"]["name"] != "a", "somebody to own it")
    ledger.open()
    assert final(b, task)["state"] == "succeeded"
    assert ledger.starts() == 1


def test_once_waits_for_a_guardian_that_would_not_know_and_explain_says_so(ledger: Ledger) -> None:
    with LocalMesh(("a", "b"), "--slots", "1") as mesh:
        a, b = mesh["a"], mesh["b"]
        b.ok("node", "drain")
        wait_until(lambda: sum(row["draining"] for row in a.control("nodes")["nodes"]) == 1, "one to drain")
        (first,) = submit(a, *ledger.command("first", then=ledger.held))
        started(ledger)
        (task,) = submit(a, *ledger.command("once"), once=True)
        guarded(a, task)
        b.kill_all()
        wait_until(lambda: a.control("status")["nodes"]["down"] == 1, "b to be down")
        ledger.open()
        assert final(a, first)["state"] == "succeeded"
        in_state(a, task, "placed")
        assert "starts when b" in a.ok("explain", task)
        b.start("--slots", "1")
        assert final(a, task)["state"] == "succeeded"
        assert ledger.keys() == ["first", "once"]


def test_the_same_key_is_the_same_task_everywhere(mesh: LocalMesh, ledger: Ledger) -> None:
    key = f"key-{ledger.path}"
    first = submit(mesh["a"], *ledger.command("k"), key=key)
    assert submit(mesh["a"], *ledger.command("k"), key=key) == first
    assert submit(mesh["b"], *ledger.command("k"), key=key) == first
    assert final(mesh["c"], first[0])["state"] == "succeeded"
    assert submit(mesh["c"], *ledger.command("k"), key=key) == first
    assert ledger.starts() == 1


def test_a_dead_leader_loses_and_doubles_nothing(mortal: LocalMesh, ledger: Ledger) -> None:
    leader = mortal.leader()
    submitter, other = (node for node in mortal.nodes.values() if node is not leader)
    ids = submit(submitter, *ledger.command("$OPENCLAW_MESH_TASK_ID", then=ledger.held), count=200)
    started(ledger, 8)
    leader.kill_all()
    ledger.open()
    for task in ids:
        end = final(submitter, task)
        assert end["state"] == "succeeded", reasons(end)
    places: dict[str, list[str]] = {}
    for task, _, _, node in ledger.lines():
        places.setdefault(task, []).append(node)
    assert set(places) == set(ids)
    for task, nodes in places.items():
        assert len(nodes) == 1 or (len(nodes) == 2 and nodes[0] == leader.name), reasons(
            show(submitter, task)
        )
    assert other.control("leader")["leader"]["id"] != leader.id


def test_a_leader_dies_while_twenty_thousand_tasks_wait(mortal: LocalMesh, ledger: Ledger) -> None:
    leader = mortal.leader()
    submitter, other = (node for node in mortal.nodes.values() if node is not leader)
    for _ in range(80):
        submit(submitter, *ledger.command(then=ledger.held), count=250, job="many")
    leader.kill_all()

    def succeeded() -> bool:
        found = other.control("leader")["leader"]
        return found is not None and found["id"] in (submitter.id, other.id)

    wait_until(succeeded, "one of the others to lead")
    ledger.open()
    (single,) = submit(other, "true")
    assert final(other, single)["state"] == "succeeded"
    assert submitter.control("status")["tasks"]["queued"] > 10_000  # they did not stand before it
    wait_until(lambda: submitter.control("status")["tasks"]["succeeded"] > 50, "them to go on as well")


# --- a worker dies with everything on it ---------------------------------------------------------------


def test_a_task_of_a_dead_worker_runs_again_elsewhere(mortal: LocalMesh, ledger: Ledger) -> None:
    a, b = mortal["a"], mortal["b"]
    a.ok("node", "drain")
    mortal["c"].ok("node", "drain")
    wait_until(lambda: sum(row["draining"] for row in b.control("nodes")["nodes"]) == 2, "two to drain")
    (task,) = submit(a, *ledger.command(then=f"{ledger.held}; echo done"))
    in_state(a, task, "running")
    started(ledger)
    assert show(a, task)["node"]["name"] == "b"
    mortal["c"].ok("node", "resume")
    b.kill_all()
    started(ledger, 2)
    ledger.open()
    end = final(a, task)
    assert (end["state"], end["node"]["name"], end["starts"]) == ("succeeded", "c", 2), reasons(end)
    assert "down" in reasons(end)
    assert logs(a, task) == b"done\n"
    assert ledger.starts() == 2
    os.kill(ledger.pids()[0], signal.SIGKILL)  # the machine is still there, only its mesh died


ALONE = """
import fcntl, os, pathlib, sys, time
lock, ledger, gate = sys.argv[1:]
file = os.open(lock, os.O_CREAT | os.O_RDWR)
try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    word = "alone"
except BlockingIOError:
    word = "overlap"
with open(ledger, "a") as out:
    out.write(f"{word} {os.getpid()} {os.environ['OPENCLAW_MESH_ATTEMPT']} {os.environ['OPENCLAW_MESH_NODE']}\\n")
while not pathlib.Path(gate).exists():
    time.sleep(0.05)
"""
"""The kernel holds the lock for as long as a process lives, whatever the mesh believes."""


def test_without_overlap_it_starts_elsewhere_only_when_its_lease_is_over(
    ledger: Ledger, tmp_path: Path
) -> None:
    """Its worker's node dies, and its executor with the command does not."""
    with LocalMesh(("a", "b", "c"), "--slots", "4", "--limit", "lease_s=2") as mesh:
        a, b, c = (mesh[name] for name in "abc")
        for node in (a, c):
            node.ok("node", "drain")
        wait_until(lambda: sum(row["draining"] for row in b.control("nodes")["nodes"]) == 2, "two to drain")
        argv = (sys.executable, "-c", ALONE, f"{tmp_path}/lock", f"{ledger.path}", f"{ledger.gate}")
        task = a.ok("run", "-d", "-q", "--no-overlap", "--replicas", "0", "--", *argv).strip()
        started(ledger)
        first = show(a, task)["node"]["name"]
        c.ok("node", "resume")
        b.kill()
        started(ledger, 2)
        ledger.open()
        end = final(a, task)
        assert (first, end["state"], end["node"]["name"]) == ("b", "succeeded", "c"), reasons(end)
        assert ledger.keys() == ["alone", "alone"]
        b.start("--slots", "4")
        mesh.settle()
        assert final(c, task)["node"]["name"] == "c"


def test_without_overlap_it_runs_for_as_long_as_its_owner_is_there(ledger: Ledger, tmp_path: Path) -> None:
    with LocalMesh(("a", "b"), "--slots", "4", "--limit", "lease_s=0.6") as mesh:
        argv = (sys.executable, "-c", ALONE, f"{tmp_path}/lock", f"{ledger.path}", f"{ledger.gate}")
        task = mesh["a"].ok("run", "-d", "-q", "--no-overlap", "--node", "b", "--", *argv).strip()
        started(ledger)
        mesh["a"].ok("run", "-q", "--", "sleep", "2")  # some leases pass
        ledger.open()
        end = final(mesh["a"], task)
        assert (end["state"], end["starts"]) == ("succeeded", 1), reasons(end)
        assert ledger.keys() == ["alone"]


# --- only the executor dies ----------------------------------------------------------------------------


def test_an_executor_that_dies_takes_its_commands_with_it(mortal: LocalMesh, ledger: Ledger) -> None:
    a, b = mortal["a"], mortal["b"]
    (task,) = submit(a, *ledger.command(then=f"sleep 3600 & {ledger.held}; echo done"), needs=at(b))
    (once,) = submit(a, *ledger.command("once", then=ledger.held), needs=at(b), once=True)
    for each in (task, once):
        in_state(a, each, "running")
    started(ledger, 2)
    (executor,) = executor_pids(b.state_dir)
    first = ledger.pids()
    grandchild = [child.pid for pid in first for child in psutil.Process(pid).children(recursive=True)]
    os.kill(executor, signal.SIGKILL)
    gone([*first, *(pid for pid in grandchild)])
    started(ledger, 3)
    ledger.open()
    end = final(a, task)
    assert (end["state"], end["starts"]) == ("succeeded", 2), reasons(end)
    assert final(a, once)["state"] == "lost"
    assert ledger.keys() == ["once", "x", "x"]
    assert a.run("task", "wait", once).returncode == 125


def test_once_never_starts_twice(mortal: LocalMesh, ledger: Ledger) -> None:
    """Its worker is restarted with another executor: what it says of the old attempt settles the task."""
    a, b = mortal["a"], mortal["b"]
    (task,) = submit(a, *ledger.command(then=ledger.held), needs=at(b), once=True)
    in_state(a, task, "running")
    started(ledger)
    b.kill_all()
    b.start("--slots", "4")
    end = final(a, task)
    assert end["state"] == "lost", reasons(end)
    gone(ledger.pids())
    assert ledger.starts() == 1


# --- ending tasks on purpose -----------------------------------------------------------------------


def test_cancel_leaves_no_process(mesh: LocalMesh, ledger: Ledger) -> None:
    """Neither a grandchild nor one that went into a session of its own survives."""
    a, b, c = (mesh[name] for name in "abc")
    below = f"echo g $$ - - >> {ledger.path}; sleep 3600"
    deep = f"setsid sh -c '{below}' & (sh -c '{below}') & {ledger.held}"
    (task,) = submit(a, *ledger.command(then=deep), needs=at(b))
    started(ledger, 3)
    in_state(a, task, "running")
    c.ok("task", "cancel", task)
    assert a.run("task", "wait", task).returncode == 130
    assert final(c, task)["state"] == "cancelled"
    assert not [pid for pid in ledger.pids() if alive(pid)]


def test_a_timeout_ends_with_124(mesh: LocalMesh, ledger: Ledger) -> None:
    a = mesh["a"]
    done = a.run("run", "--node", "b", "--timeout", "1", "--", *ledger.command(then=ledger.held))
    assert done.returncode == 124, done.stderr.decode()
    assert not [pid for pid in ledger.pids() if alive(pid)]
    assert ledger.starts() == 1


# --- stopping a node -------------------------------------------------------------------------------


def test_a_stopped_nodes_task_runs_elsewhere(mortal: LocalMesh, ledger: Ledger) -> None:
    a, b = mortal["a"], mortal["b"]
    a.ok("node", "drain")
    mortal["c"].ok("node", "drain")
    wait_until(lambda: sum(row["draining"] for row in b.control("nodes")["nodes"]) == 2, "two to drain")
    (task,) = submit(a, *ledger.command(then=ledger.held))
    in_state(a, task, "running")
    started(ledger)
    mortal["c"].ok("node", "resume")
    b.ok("node", "stop", "--grace", "0s")
    assert b.process is not None
    assert b.process.wait(20) == 0
    assert left_behind(b) == []
    assert not alive(ledger.pids()[0])
    started(ledger, 2)
    ledger.open()
    end = final(a, task)
    assert (end["state"], end["node"]["name"]) == ("succeeded", "c"), reasons(end)
    assert ledger.starts() == 2


def test_stop_keep_leaves_tasks_to_be_adopted(mortal: LocalMesh, ledger: Ledger) -> None:
    a, b = mortal["a"], mortal["b"]
    (task,) = submit(a, *ledger.command(then=f"{ledger.held}; echo kept"), needs=at(b))
    in_state(a, task, "running")
    started(ledger)
    b.ok("node", "stop", "--keep")
    assert b.process is not None
    assert b.process.wait(20) == 0
    assert executor_pids(b.state_dir)
    wait_until(
        lambda: {row["name"]: row["state"] for row in a.control("nodes")["nodes"]}["b"] == "down",
        "a to miss b",
    )
    assert show(a, task)["state"] == "running"
    b.start("--slots", "4")
    ledger.open()
    end = final(a, task)
    assert (end["state"], end["starts"]) == ("succeeded", 1), reasons(end)
    assert ledger.starts() == 1
    assert logs(mortal["c"], task) == b"kept\n"
    for node in mortal.nodes.values():
        assert node.stop() == 0
        assert left_behind(node) == []


def test_drain_takes_nothing_new_and_resume_takes_again(mesh: LocalMesh, ledger: Ledger) -> None:
    a, b = mesh["a"], mesh["b"]
    (running,) = submit(a, *ledger.command(then=ledger.held), needs=at(b))
    in_state(a, running, "running")

    def draining() -> set[bool]:
        return {
            row["draining"]
            for node in mesh.nodes.values()
            for row in node.control("nodes")["nodes"]
            if row["name"] == "b"
        }

    b.ok("node", "drain")
    wait_until(lambda: draining() == {True}, "everyone to hear of the drain")
    for task in submit(a, "true", count=12):
        assert final(a, task)["node"]["name"] != "b"
    assert show(a, running)["state"] == "running"
    b.ok("node", "resume")
    wait_until(lambda: draining() == {False}, "everyone to hear of the end of it")
    ledger.open()
    assert final(a, running)["state"] == "succeeded"
    assert a.ok("run", "-q", "--node", "b", "--", "echo", "again") == "again\n"


def test_a_node_that_leaves_is_gone_from_every_view(mortal: LocalMesh) -> None:
    b = mortal["b"]
    b.ok("node", "leave")
    assert b.process is not None
    assert b.process.wait(20) == 0
    assert left_behind(b) == []

    def gone_everywhere() -> bool:
        return all(
            row["state"] == "left" or row["name"] != "b"
            for name in "ac"
            for row in mortal[name].control("nodes")["nodes"]
        )

    wait_until(gone_everywhere, "b to be gone from the others' view")
    for name in "ac":
        counts = mortal[name].control("status")["nodes"]
        assert (counts["alive"], counts["suspect"], counts["down"]) == (2, 0, 0)
    assert mortal["a"].ok("run", "-q", "--node", "c", "--", "echo", "on") == "on\n"


# --- exit codes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "kill -9 $$"), 137),
        (("sh", "-c", "kill -TERM $$"), 143),
        (("/nonexistent/command",), 127),
        (("no-such-command-anywhere",), 127),
        (("/etc/passwd",), 126),
    ],
)
def test_exit_codes_come_back_verbatim(mesh: LocalMesh, argv: tuple[str, ...], code: int) -> None:
    done = mesh["a"].run("run", "--node", "b", "--", *argv)
    assert done.returncode == code, done.stderr.decode()
    assert b"running on b" in done.stderr or code in (126, 127)
    as_json = mesh["c"].run("run", "--node", "b", "--json", "--", *argv)
    assert as_json.returncode == code
    assert json.loads(as_json.stdout)["exit_code"] == code
