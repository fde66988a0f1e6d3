"""A program whose connection breaks between a submission and its answer: nothing is lost, and nothing is two tasks."""

from __future__ import annotations

import os
import selectors
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import mesh_handlers
import pytest

import openclaw
from benchmarks.local_mesh import LocalMesh, LocalNode, wait_until

PATIENCE_S = 30
HANDLERS = str(Path(mesh_handlers.__file__).absolute())
READ_BYTES = 1 << 20


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalMesh]:
    with LocalMesh(("laptop",), "--handlers", HANDLERS, "--slots", "2") as nodes:
        laptop = nodes["laptop"]
        wait_until(lambda: bool(laptop.control("nodes")["nodes"][0]["handlers"]), "handlers")
        yield nodes


@pytest.fixture
def wire(nodes: LocalMesh, tmp_path: Path) -> Iterator[Wire]:
    wire = Wire(tmp_path, nodes["laptop"])
    yield wire
    wire.close()


class Wire:
    """Stands between a program and its node, and is cut once, where a test says."""

    def __init__(self, folder: Path, node: LocalNode) -> None:
        self.folder, self._node = folder, node
        self.cut = ""  # "answer": the node has answered a submission; "request": it never came there
        self.cuts = 0
        (folder / "files").symlink_to(node.state_dir / "files")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(folder / "control.sock"))
        self._listener.listen()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._submitting: set[socket.socket] = set()  # the node's answer to come here is one to a submission
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._closed, self._close = os.pipe()
        self._selector.register(self._closed, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        os.write(self._close, b".")
        self._thread.join()

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._connect()
                elif key.fileobj == self._closed:
                    self._drop()
                    self._listener.close()
                    return
                elif key.fileobj in self._pairs:
                    assert isinstance(key.fileobj, socket.socket)
                    self._pass_on(key.fileobj)

    def _connect(self) -> None:
        ours, _ = self._listener.accept()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(str(self._node.state_dir / "control.sock"))
        for one, other in ((ours, theirs), (theirs, ours)):
            self._pairs[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, source: socket.socket) -> None:
        data, target = source.recv(READ_BYTES), self._pairs[source]
        submits = b"session_submit" in data
        if not data or (submits and self.cut == "request") or source in self._submitting:
            self.cuts += bool(data)
            self.cut = "" if data else self.cut
            self._drop()
            return
        if submits and self.cut == "answer":
            self._submitting.add(target)
        target.sendall(data)

    def _drop(self) -> None:
        for one in self._pairs:
            self._selector.unregister(one)
            one.close()
        self._pairs.clear()
        self._submitting.clear()


@pytest.mark.parametrize("cut", ["answer", "request"])
@pytest.mark.parametrize("once", [False, True])
def test_what_had_no_answer_is_one_task(wire: Wire, tmp_path: Path, cut: str, once: bool) -> None:
    started = tmp_path / "started"
    with openclaw.Mesh(wire.folder) as mesh:
        wire.cut = cut
        future = mesh.using(once=once).submit("notes", str(started), "one")
        assert future.result(PATIENCE_S) == "one"
        assert mesh.submit("notes", str(started), "next").result(PATIENCE_S) == "next"
    assert wire.cuts == 1
    assert started.read_text().split() == ["one", "next"]


def test_many_and_large_ones_too(wire: Wire, tmp_path: Path) -> None:
    started = tmp_path / "started"
    with openclaw.Mesh(wire.folder) as mesh:
        wire.cut = "answer"
        words = ["x" * 100_000, *map(str, range(300))]
        submitted = [mesh.submit("notes", str(started), word) for word in words]
        assert [future.result(PATIENCE_S) for future in submitted] == words
    assert wire.cuts == 1
    assert sorted(started.read_text().split()) == sorted(words)


def test_one_that_is_cancelled_meanwhile_is_cancelled(wire: Wire, nodes: LocalMesh, tmp_path: Path) -> None:
    ready, gate = tmp_path / "ready", tmp_path / "gate"
    with openclaw.Mesh(wire.folder) as mesh:
        wire.cut = "answer"
        future = mesh.submit("waits", str(ready), str(gate))
        wait_until(lambda: wire.cuts == 1, "the cut")
        assert future.cancel()
        wait_until(lambda: future.task is not None, "its id")
        document = nodes["laptop"].control
        wait_until(lambda: document("task_show", id=future.task)["task"]["state"] == "cancelled", "its end")


def test_a_key_that_no_program_would_choose_is_refused(nodes: LocalMesh) -> None:
    name = "0123456789abcdef"
    with (
        openclaw.client.Client(nodes["laptop"].state_dir) as into,
        openclaw.client.Client(nodes["laptop"].state_dir) as out,
    ):
        next(into.stream("session_open", session=name))
        with pytest.raises(openclaw.MeshError, match="16 characters of base32"):
            out.call("session_resume", session=name, key="../../etc", tasks=[], unsure=[1])
