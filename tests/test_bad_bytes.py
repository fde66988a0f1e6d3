"""A live node under attack: on every port and socket, by strangers and by members, it goes on serving.

Each attack here is made on real nodes; while it goes on, and after it, tasks submitted at the node attacked run on
itself and on its peer. What one packet does to one part is in `transport/test_strangers.py`, `transport/test_bulk.py`,
`trust/test_joining.py`, `executor/test_executor_parts.py` and `test_wire.py`.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import msgpack
import psutil
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from benchmarks.local_mesh import LocalMesh, LocalNode, executor_pids, wait_until
from openclaw import messages as m
from openclaw import wire
from openclaw.config import CONTROL_FRAME_BYTES_MAX, EXECUTOR_FRAME_BYTES_MAX, MESSAGE_BYTES_MAX
from openclaw.executor.paths import socket_path
from openclaw.ids import Epoch, Incarnation, NodeId, TaskId, Token
from openclaw.records import Batch, Needs, Payload, Tier
from openclaw.runtime.submit import encode
from openclaw.transport.sockets import Bounds, dealer
from openclaw.trust.batches import leaf, needs_bytes, sign_batch
from openclaw.trust.keys import NodeKeys

Raw = zmq.Socket[bytes]
IDLE = 300
GARBAGE = (
    b"\0",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE" + bytes(4096),
    b"\xff" * 65536,
)


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("a", "b", "mallory"), "--slots", "4") as mesh:
        mesh["mallory"].kill_all()
        yield mesh


@pytest.fixture
def node(mesh: LocalMesh) -> Iterator[LocalNode]:
    """Node a. After the test it runs tasks as before, and nothing in it has failed in a way that nobody foresaw."""
    node = mesh["a"]
    pid = node.process.pid if node.process else 0
    yield node
    serves(mesh)
    assert node.process is not None
    assert (node.process.poll(), node.process.pid) == (None, pid)
    for name in ("a", "b"):
        assert "Traceback" not in mesh[name].log()
        assert "Traceback" not in (mesh[name].state_dir / "node.log").read_text()


def serves(mesh: LocalMesh) -> None:
    for worker in ("a", "b"):
        assert mesh["a"].ok("run", "-q", "--node", worker, "--", "echo", worker) == f"{worker}\n"
    assert mesh["a"].ok("run", "-q", "--", "echo", "anywhere") == "anywhere\n"


def keys_of(node: LocalNode) -> NodeKeys:
    return NodeKeys.from_seed((node.state_dir / "seed").read_bytes())


def ports(node: LocalNode) -> list[int]:
    """Every TCP port that the node listens on."""
    assert node.process is not None
    found = psutil.Process(node.process.pid).net_connections("tcp")
    return sorted({one.laddr.port for one in found if one.status == psutil.CONN_LISTEN})


def unix(node: LocalNode, name: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    try:
        client.connect(str(socket_path(node.state_dir, name)))
    except OSError:
        client.close()
        raise
    client.settimeout(10)
    return client


# --- strangers -----------------------------------------------------------------------------------


def test_garbage_slow_and_idle_connections_on_every_port(mesh: LocalMesh, node: LocalNode) -> None:
    assert len(ports(node)) == 3
    with ExitStack() as held:
        for port in ports(node):
            for data in GARBAGE:
                held.enter_context(socket.create_connection(("127.0.0.1", port))).sendall(data)
            slow = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            for byte in b"\xff\0\0\0\0\0\0\0\x01\x7f":
                slow.send(bytes([byte]))
            for _ in range(IDLE):
                held.enter_context(socket.create_connection(("127.0.0.1", port)))
        serves(mesh)


def test_strangers_who_speak_zeromq(mesh: LocalMesh, node: LocalNode) -> None:
    """Without encryption, and with a key that nobody certified: not a word of theirs is heard."""
    server = keys_of(node).curve_public
    stranger = NodeKeys.from_seed(os.urandom(32))
    with zmq.Context[Raw]() as context, ExitStack() as held:
        for port in ports(node):
            for raw in (context.socket(zmq.DEALER), dealer(context, stranger, server, Bounds(1 << 30))):
                held.callback(raw.close, linger=0)
                raw.setsockopt(zmq.IMMEDIATE, 0)
                raw.connect(f"tcp://127.0.0.1:{port}")
                for message in (b"let me in", bytes(MESSAGE_BYTES_MAX + 1)):
                    raw.send(message)
        serves(mesh)
        assert {row["name"] for row in node.json("nodes")["nodes"]} == {"a", "b", "mallory"}


# --- the sockets in the state folder -------------------------------------------------------------

FRAMES = (
    b"\0",
    b"\0\0\0\x01\xc1",
    (2**32 - 1).to_bytes(4, "big") + b"x" * 100_000,
    (max(CONTROL_FRAME_BYTES_MAX, EXECUTOR_FRAME_BYTES_MAX) + 1).to_bytes(4, "big"),
    b"\0\0\0\x05" + b"\x91" * 5,
    b"\0\x01\0\0" + b"\x91" * 65536,
    os.urandom(4096),
)


@pytest.mark.parametrize("name", ["control.sock", "executor.sock"])
def test_garbage_on_a_local_socket_while_a_task_runs(mesh: LocalMesh, node: LocalNode, name: str) -> None:
    started, go = mesh.folder / f"started-{name}", mesh.folder / f"go-{name}"
    script = f"echo x >> {started}; while [ ! -e {go} ]; do sleep 0.05; done; echo once"
    task = node.ok("run", "-d", "--node", "a", "--shell", script).strip()
    wait_until(started.exists, "the task to start")
    with ExitStack() as held:
        for frame in FRAMES:
            client = held.enter_context(unix(node, name))
            with suppress(OSError):  # whoever comes next takes the place
                client.sendall(frame)
        if name == "control.sock":
            for _ in range(IDLE):
                held.enter_context(unix(node, name))
            serves(mesh)
    serves(mesh)
    go.touch()
    assert node.run("task", "wait", task).returncode == 0
    assert node.ok("task", "logs", task) == "once\n"
    assert started.read_text() == "x\n"


NUMBERS = st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | NUMBERS | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
ASKED = ("hello", "nodes", "status", "leader", "events", "submit", "run", "attach", "task_logs", "wait", "tasks",
         "task_show", "cancel", "outputs", "node_invite", "node_status", "none such")  # fmt: skip
FIELDS = ("task", "tasks", "id", "ids", "limit", "state", "offsets", "offset", "stream", "follow", "watch", "wait",
          "expires_s", "uses", "capabilities", "name", "all")  # fmt: skip
HOSTILE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)


def test_any_request_is_answered(node: LocalNode) -> None:
    @HOSTILE
    @given(st.sampled_from(ASKED), st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=6))
    @example("cancel", {"ids": 7})
    @example("attach", {"id": "abcdefgh", "offsets": 7})
    @example("node_invite", {"capabilities": 7})
    @example("node_invite", {"expires_s": 1e300, "uses": 2**63})
    @example("tasks", {"limit": 2**64 - 1})
    def ask(op: str, fields: dict[str, Any]) -> None:
        body = msgpack.packb({**fields, "op": op})
        with unix(node, "control.sock") as client:
            client.sendall(len(body).to_bytes(4, "big") + body)
            if not (fields.get("watch") or fields.get("follow")):
                assert client.recv(4), f"{op} {fields} ended without an answer"

    ask()


EXECUTOR_FRAMES = st.tuples(st.sampled_from(["start", "kill", "forget", "hello", "stop!"]), VALUES) | VALUES
ROWS = st.lists(st.lists(VALUES, min_size=2, max_size=9), min_size=1, max_size=2)


def test_any_frame_leaves_the_executor_alive(mesh: LocalMesh, node: LocalNode) -> None:
    """The node takes its place back each time, so a frame may also find the connection closed."""
    before = executor_pids(node.state_dir)

    @HOSTILE
    @given(EXECUTOR_FRAMES | st.tuples(st.sampled_from(["start", "kill", "forget"]), ROWS))
    @example(["hello", [1, 1, 1, 1, 1]])
    @example(["hello", [float("nan"), "x", None, {}, -1]])
    @example(["start", [["t", [0, "o", 1, 1], ["true"], [], "", "", "soon", None, []]]])
    def say(frame: object) -> None:
        body = msgpack.packb(frame)
        with unix(node, "executor.sock") as client, suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(len(body).to_bytes(4, "big") + body)

    say()
    serves(mesh)
    assert executor_pids(node.state_dir) == before
    assert "Traceback" not in (node.state_dir / "executor.log").read_text()


# --- a member's key in the wrong hands -----------------------------------------------------------


class Forger:
    """Speaks to node a as the member mallory."""

    def __init__(self, mesh: LocalMesh, context: zmq.Context[Raw]) -> None:
        self.keys = keys_of(mesh["mallory"])
        self.mesh_id = mesh["a"].ready["mesh"]["id"]
        self.me, self.a, self.b = self.keys.node_id, NodeId(mesh["a"].id), NodeId(mesh["b"].id)
        self._raw = dealer(context, self.keys, keys_of(mesh["a"]).curve_public, Bounds())
        self._raw.setsockopt(zmq.IMMEDIATE, 0)
        self._raw.setsockopt(zmq.SNDTIMEO, 10_000)
        self._raw.connect(f"tcp://{mesh['a'].ready['addresses'][0]}")

    def head(self, **fields: Any) -> m.Head:
        return m.Head(Incarnation(50, "forged"), **fields)

    def say(self, *said: m.AnyMessage) -> None:
        for one in said:
            self._raw.send(wire.encode(one))

    def bytes(self, data: bytes) -> None:
        self._raw.send(data)

    def heard(self) -> str:
        """Returns once all that was said before has been handled; which start of its life node a is in."""
        self.say(m.Ping(777, self.head()))
        while self._raw.poll(10_000):
            answer = wire.decode(self._raw.recv())
            if isinstance(answer, m.Ack) and answer.seq == 777:
                return answer.head.incarnation.boot
        raise AssertionError("no answer to a ping")

    def close(self) -> None:
        self._raw.close(linger=0)


@pytest.fixture
def forger(mesh: LocalMesh) -> Iterator[Forger]:
    with zmq.Context[Raw]() as context:
        forger = Forger(mesh, context)
        yield forger
        forger.close()


@pytest.mark.usefixtures("node")
def test_random_bytes_of_a_member(forger: Forger) -> None:
    for size in range(0, 2000, 20):
        forger.bytes(os.urandom(size))
        forger.bytes(b"\x01" + os.urandom(size))
    forger.bytes(b"\x01" + b"\x91" * 100_000)
    forger.bytes(bytes(MESSAGE_BYTES_MAX))
    forger.heard()


@pytest.mark.parametrize("forge", ["signature", "owner", "payload", "leaf"])
def test_a_forged_task_never_runs(mesh: LocalMesh, node: LocalNode, forger: Forger, forge: str) -> None:
    made = mesh.folder / f"forged-{forge}"
    victim = forger.b if forge == "owner" else forger.me
    task = TaskId(f"{victim}-forged{forge[0]}")
    payload = encode(Payload(("touch", str(made))))
    leaves = leaf(task, needs_bytes(Needs()), payload)
    signature = os.urandom(64) if forge == "signature" else sign_batch(forger.keys, forger.mesh_id, leaves)
    if forge == "payload":
        payload = encode(Payload(("touch", str(made), "more")))
    item = m.Item(task, Token(0, victim, 1, 1), Needs(), payload, 0, 7 if forge == "leaf" else 0)
    epoch = node.control("leader")["leader"]
    boot = forger.heard()
    batches = (Batch(signature, leaves),)
    forger.say(m.Assign(Epoch(epoch["term"], NodeId(epoch["id"])), 0, boot, batches, (item,)))
    forger.heard()
    serves(mesh)
    assert not made.exists()


ABSURD = (2**40, 2**52, 2**53 - 1, 2**53, 2**63 - 1, 2**64 - 1)


@pytest.mark.parametrize("n", ABSURD)
def test_absurd_counters(mesh: LocalMesh, node: LocalNode, forger: Forger, n: int) -> None:
    """Terms and incarnations at the end of all numbers: nobody follows, nobody answers with one more."""
    forger.heard()  # alive from now on, so that its word counts
    mine = Epoch(n, forger.me)
    forger.say(
        m.Coordinator(mine),
        m.Higher(mine),
        m.Gossip(forger.head(epoch=mine)),
        m.Gossip(m.Head(Incarnation(n, "forged"))),
        m.ElectAnswer(1, True, Tier.MAINS, mine, mine),
    )
    for subject in (forger.a, forger.b, forger.me):
        for status in m.Status:
            rumour = m.Rumour(subject, Incarnation(n, "forged"), status, accuser=forger.me)
            forger.say(m.Gossip(forger.head(rumours=(rumour,))), m.Digest((rumour,)))
    if n < 2**53:
        forger.say(m.Elect(n), m.Offer(n, 1e9), m.OfferRefused(n, ""))
        forger.say(
            m.Gossip(forger.head(rumours=(m.Rumour(forger.a, Incarnation(1, "x"), m.Status.ALIVE, n),)))
        )
    forger.heard()
    for name in ("a", "b"):
        leader = mesh[name].control("leader")["leader"]
        assert leader is None or (leader["id"] in (forger.a, forger.b) and leader["term"] < 1000)
    states = {row["name"]: row["state"] for row in node.control("nodes")["nodes"]}
    assert states["a"] == "alive"
    assert states["b"] == "alive"


@pytest.mark.usefixtures("node")
def test_any_message_of_a_member(forger: Forger) -> None:
    from test_wire import made_of

    kinds = [kind for kind in m.AnyMessage.__args__ if kind not in (m.RosterSync,)]

    @HOSTILE
    @given(st.lists(st.one_of([made_of(inspect.type_info(kind)) for kind in kinds]), min_size=1, max_size=8))
    def say(said: list[m.AnyMessage]) -> None:
        forger.say(*said)

    say()
    forger.heard()
