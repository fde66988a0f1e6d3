"""What people get wrong, and what machines do to a node: each is refused in words that say what to do.

On real processes, through the command line: the exit code, the kind that scripts read, and that nothing is lost.
The same list is also covered elsewhere, where the rest of it is seen better:

* attacks on the ports and sockets of a live node: `test_bad_bytes.py`; a full disk: `test_bad_disk.py`; arbitrary
  bytes into every decoder: `test_bad_frames.py` and what it names;
* a state folder on a network file system, with open modes, or a file in its place: `trust/test_identity.py`;
* every spelling of a garbled token, invites put together from two: `trust/test_joining.py`;
* a store that is truncated, flipped or of something else: `test_store.py`;
* addresses that this machine has not: `transport/test_mesh.py`;
* workers, owners, leaders and executors that die mid-task: `test_deaths.py`;
* floods and odd JSON of the `tailscale` tool, seeds and TXT records that mean nothing: `discovery/`;
* wrong usage, settings and values: `cli/`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.local_mesh import OPENCLAW, WAIT_S, Doc, LocalMesh, LocalNode, wait_until
from openclaw.effects import Store as Write
from openclaw.records import Number, Table
from openclaw.store import Store

NOBODY_UID = 65534
AS_NOBODY = (  # imports all that it needs while it may read it
    sys.executable,
    "-c",
    "import encodings.unicode_escape, os, sys, openclaw.cli.node, openclaw.cli.start, openclaw.runtime.app\n"
    "from openclaw.__main__ import main\n"
    f"os.setgid({NOBODY_UID}); os.setuid({NOBODY_UID}); sys.exit(main())",
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("a", "b")) as mesh:
        yield mesh


@pytest.fixture
def solo() -> Iterator[LocalMesh]:
    with LocalMesh(("solo",)) as mesh:
        yield mesh


def serves(node: LocalNode) -> bool:
    return node.ok("run", "-q", "--", sys.executable, "-c", "print('here')") == "here\n"


@contextmanager
def guest(mesh: LocalMesh, name: str, *options: str, join: str) -> Iterator[LocalNode]:
    """A node that joins for a while, and leaves for good."""
    node = mesh.node(name)
    try:
        yield node.start(*options, join=join)
        assert node.run("node", "leave").returncode == 0
    finally:
        assert node.process is not None
        assert node.process.stdout is not None
        node.process.stdout.close()
        node.stop()


def refused(node: LocalNode, *options: str, command: tuple[str, ...] = OPENCLAW) -> Doc:
    """The error with which `node start` gave up; its exit code is 125."""
    argv = [*command, "--state-dir", str(node.state_dir), "node", "start", "--name", node.name, "--json"]
    argv += [*(() if "--port" in options else ("--port", "0")), "--bind", "127.0.0.1"]
    argv += ["--no-mdns", "--no-tailscale", *options]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, env=node.environ, check=False)
    assert done.returncode == 125, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    assert document["ok"] is False
    return dict(document["error"])


# --- tokens --------------------------------------------------------------------------------------


def free_ports() -> int:
    """The first of three free ports in a row."""
    for port in range(27500, 29000, 3):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for offset, each in enumerate((one, two, three)):
                    each.bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port
    raise AssertionError("no free ports")


def test_a_garbled_token(mesh: LocalMesh) -> None:
    token = mesh["a"].json("node", "invite")["token"]
    newcomer = mesh.node("garbled")
    for garbled in (token[:-5], token[:40] + "AAAA" + token[44:], "hello"):
        error = refused(newcomer, "--join", garbled)
        assert error["type"] == "bad_token"
        assert "openclaw node invite" in error["message"]
        assert garbled not in error["message"]
    with guest(mesh, "garbled", join=token) as newcomer:
        assert serves(newcomer)


def test_an_expired_token(mesh: LocalMesh) -> None:
    token = mesh["a"].json("node", "invite", "--expires", "1ms")["token"]
    error = refused(mesh.node("late"), "--join", token)
    assert error["type"] == "token_expired"
    assert "openclaw node invite" in error["message"]


def test_a_used_token(mesh: LocalMesh) -> None:
    token = mesh["a"].json("node", "invite")["token"]
    with guest(mesh, "first", join=token):
        error = refused(mesh.node("second"), "--join", token)
    assert error["type"] == "token_used"
    assert "openclaw node invite" in error["message"]
    assert serves(mesh["a"])


def test_a_token_of_somebody_who_left(solo: LocalMesh) -> None:
    """Leaving revokes: what the leaver promised no longer lets anybody in."""
    port, home = free_ports(), solo["solo"]
    assert home.stop() == 0
    home.start("--port", str(port), "--bind", "127.0.0.1")
    admin = home.json("node", "invite", "--capabilities", "skill,shell,admin")["token"]
    with guest(solo, "leaver", join=admin) as leaver:
        token = leaver.json("node", "invite")["token"]
    error = refused(solo.node("guest"), "--join", token, "--seed", f"127.0.0.1:{port}")
    assert error["type"] == "token_revoked"
    assert "openclaw node invite" in error["message"]
    assert refused(leaver)["type"] == "revoked"
    assert serves(home)


def test_a_token_of_another_mesh(mesh: LocalMesh, solo: LocalMesh) -> None:
    """A node that belongs elsewhere, and is not alone there, keeps its mesh and starts in it as before."""
    token = solo["solo"].json("node", "invite")["token"]
    node = mesh["b"]
    assert node.stop() == 0
    error = refused(node, "--join", token)
    assert error["type"] == "other_mesh"
    assert "already belongs" in error["message"]
    node.start()
    mesh.settle()
    assert serves(node)


# --- the state folder and the ports --------------------------------------------------------------


def test_a_port_in_use(solo: LocalMesh) -> None:
    for offset in range(3):
        port = free_ports()
        with socket.create_server(("127.0.0.1", port + offset)):
            error = refused(solo.node("p"), "--port", str(port))
        assert f" {port + offset} " in error["message"]
        assert "--port" in error["message"]
    port = free_ports()
    solo.nodes["p"] = solo.node("p").start("--port", str(port), "--bind", "127.0.0.1")
    assert serves(solo.nodes["p"])


def test_a_folder_whose_node_runs(mesh: LocalMesh) -> None:
    error = refused(mesh["a"])
    assert "'a' already runs" in error["message"]
    assert "openclaw node stop" in error["message"]
    assert "--state-dir" in error["message"]
    assert serves(mesh["a"])


@pytest.mark.parametrize("mode", [0o500, 0o400])
def test_an_unwritable_folder(solo: LocalMesh, mode: int) -> None:
    node = solo.node("locked")
    node.state_dir.mkdir(mode=mode)
    command = OPENCLAW
    if os.geteuid() == 0:
        command = AS_NOBODY
        solo.folder.chmod(0o711)
        os.chown(node.state_dir, NOBODY_UID, NOBODY_UID)
    error = refused(node, command=command)
    assert error["type"] == "bad_state"
    assert "chmod u+rwx" in error["message"]


def other_machine(folder: Path) -> None:
    (folder / "machine").write_text("0" * 32 + "\n")


def newer_schema(folder: Path) -> None:
    store = Store.open(folder / "store")
    store.commit([Write(Table.META, "schema", Number(99))])
    store.close()


def damaged_store(folder: Path) -> None:
    data = folder / "store" / "data.mdb"
    data.write_bytes(os.urandom(data.stat().st_size))


def damaged_seed(folder: Path) -> None:
    (folder / "seed").write_bytes(b"short")


def seed_of_another(folder: Path) -> None:
    (folder / "seed").write_bytes(b"s" * 32)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (other_machine, "--join TOKEN"),
        (newer_schema, "pip install --upgrade openclaw-mesh"),
        (damaged_store, ".damaged && openclaw node start --join TOKEN"),
        (damaged_seed, ".damaged && openclaw node start --join TOKEN"),
        (seed_of_another, "another node"),
    ],
)
def test_a_folder_that_must_not_be_used_is_left_as_it_is(
    solo: LocalMesh, spoil: Callable[[Path], None], says: str
) -> None:
    """Once it is mended, the node is who it was and has all that it had."""
    node = solo["solo"]
    task = node.ok("run", "-d", "--", sys.executable, "-c", "print('kept')").strip()
    assert node.run("task", "wait", task).returncode == 0
    before = node.ready["node"], node.ready["mesh"]
    assert node.stop() == 0
    shutil.copytree(node.state_dir, solo.folder / "backup", ignore=shutil.ignore_patterns("*.sock"))
    spoil(node.state_dir)
    error = refused(node)
    assert error["type"] == "bad_state"
    assert says in error["message"]
    assert refused(node) == error
    shutil.rmtree(node.state_dir)
    (solo.folder / "backup").rename(node.state_dir)
    node.start()
    assert (node.ready["node"], node.ready["mesh"]) == before
    assert node.ok("task", "logs", task) == "kept\n"
    assert serves(node)


# --- no node here --------------------------------------------------------------------------------

NEEDS_A_NODE = (
    ("run", "--", "true"),
    ("map", "-", "--", "echo", "{}"),
    ("nodes",),
    ("status",),
    ("leader",),
    ("events",),
    ("tasks",),
    ("task", "show", "abcdefgh-x"),
    ("task", "cancel", "abcdefgh-x"),
    ("node", "status"),
    ("node", "invite"),
    ("node", "drain"),
    ("node", "leave"),
)


@pytest.mark.parametrize("line", NEEDS_A_NODE, ids=" ".join)
def test_no_node_runs_here(killed: LocalNode, line: tuple[str, ...]) -> None:
    """Not even its socket is gone, for it was killed."""
    done = killed.run(*line, stdin="x\n")
    assert done.returncode == 125
    assert b"openclaw node start" in done.stderr
    assert done.stdout == b""


@pytest.fixture(scope="module")
def killed() -> Iterator[LocalNode]:
    with LocalMesh(("killed",)) as mesh:
        mesh["killed"].kill_all()
        yield mesh["killed"]


def test_the_node_here_vanishes_while_its_task_runs(solo: LocalMesh) -> None:
    """Whoever waited is told the id, and under that id the task is found when the node is back."""
    node = solo["solo"]
    go = solo.folder / "go"
    code = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\nprint('done')"
    waiting = subprocess.Popen(
        [*OPENCLAW, "--state-dir", str(node.state_dir), "run", "--", sys.executable, "-c", code],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=node.environ,
    )  # fmt: skip
    assert waiting.stderr is not None
    assert waiting.stderr.readline() == "openclaw: running on solo\n"  # so it knows its id
    node.kill()
    out, err = waiting.communicate(timeout=WAIT_S)
    assert (waiting.returncode, out) == (125, "")
    assert "Traceback" not in err
    task = next(word for word in err.replace(";", " ").split() if word.startswith(node.id)).rstrip(".,:")
    node.start()
    go.touch()
    assert node.run("task", "wait", task).returncode == 0
    assert node.ok("task", "logs", task) == "done\n"


# --- tasks that nobody can run -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "argv", "code", "says"),
    [
        ((), ("/nowhere/tool",), 127, "/nowhere/tool"),
        ((), ("no-such-tool-anywhere",), 127, "no-such-tool-anywhere"),
        ((), ("/etc/passwd",), 126, "chmod +x"),
        ((), ("/etc",), 126, "/etc"),
        (("--cwd", "/nowhere"), ("true",), 125, "--cwd"),
        (("--cwd", "/etc/passwd"), ("true",), 125, "--cwd"),
        (("--node", "atlantis"), ("true",), 125, "there are: a, b"),
        (("--label", "gpu=yes"), ("true",), 125, "a: has no label gpu=yes"),
        (("--skill", "alchemy"), ("true",), 125, "b: does not have the skill alchemy"),
        (("--input", "/nowhere/file"), ("true",), 125, "/nowhere/file"),
        (("--timeout", "soon"), ("true",), 2, "10s"),
    ],
)
def test_what_cannot_run_says_why(
    mesh: LocalMesh, options: tuple[str, ...], argv: tuple[str, ...], code: int, says: str
) -> None:
    done = mesh["a"].run("run", *options, "--", *argv)
    assert done.returncode == code, done.stderr
    assert says in done.stderr.decode()
    assert done.stdout == b""


def test_wait_keeps_it_until_such_a_node_joins(mesh: LocalMesh) -> None:
    line = ("run", "-d", "--wait", "--label", "gpu=yes", "--", "sh", "-c", "echo $OPENCLAW_MESH_NODE")
    task = mesh["a"].ok(*line).strip()
    assert serves(mesh["a"])
    assert mesh["a"].json("task", "show", task)["state"] == "queued"
    token = mesh["a"].json("node", "invite")["token"]
    with guest(mesh, "able", "--label", "gpu=yes", join=token):
        assert mesh["a"].run("task", "wait", task).returncode == 0
        assert mesh["a"].ok("task", "logs", task) == "able\n"


# --- discovery that does not work ----------------------------------------------------------------

TAILSCALES = {
    "missing": None,
    "logged out": """echo '{"BackendState": "NeedsLogin"}'""",
    "failing": "echo 'failed to connect to local tailscaled' >&2; exit 1",
    "hanging": "exec sleep 600",
    "nonsense": r"printf '\377{[\0 what?'",
}


@pytest.mark.parametrize("how", TAILSCALES)
def test_a_tailscale_that_does_not_work_keeps_nothing_from_working(solo: LocalMesh, how: str) -> None:
    tools = solo.folder / "tools"
    tools.mkdir()
    for name in ("sleep", "sh"):
        (tools / name).symlink_to(str(shutil.which(name)))
    if script := TAILSCALES[how]:
        (tools / "tailscale").write_text(f"#!/bin/sh\n{script}\n")
        (tools / "tailscale").chmod(0o755)
    node = LocalNode("t", solo.folder / "t", {**solo.environ, "PATH": str(tools)})
    solo.nodes["t"] = start_discovering(node, "--no-mdns")
    assert serves(node)
    wait_until(lambda: "tailscale" in (node.state_dir / "node.log").read_text().lower(), "the log to say why")
    assert serves(node)


def test_without_mdns_a_node_serves(solo: LocalMesh) -> None:
    """As where its package was taken out; a network without multicast is in `hosts/` and `discovery/`."""
    (solo.folder / "zeroconf").mkdir()
    (solo.folder / "zeroconf" / "__init__.py").write_text("raise ImportError('no zeroconf here')\n")
    node = LocalNode("m", solo.folder / "m", {**solo.environ, "PYTHONPATH": str(solo.folder)})
    solo.nodes["m"] = start_discovering(node, "--no-tailscale")
    wait_until(lambda: "mdns" in (node.state_dir / "node.log").read_text().lower(), "the log to say why")
    assert serves(node)


def start_discovering(node: LocalNode, *without: str) -> LocalNode:
    """`LocalNode.start`, but with one of the sources that it leaves out."""
    argv = [*OPENCLAW, "--state-dir", str(node.state_dir), "node", "start", "--name", node.name, "--json"]
    argv += ["--port", "0", "--bind", "127.0.0.1", *without]
    with open(node.state_dir.with_suffix(".log"), "a") as log:
        node.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=log, text=True, env=node.environ)
    assert node.process.stdout is not None
    node.ready = json.loads(node.process.stdout.readline())
    return node
