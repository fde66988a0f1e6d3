"""A node as the command line sees it: a real server on the control socket, whose answers a test writes down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from openclaw.executor.paths import socket_path

Doc = dict[str, Any]
Answer = Callable[[Doc], Iterator[Doc]]


class ScriptedNode:
    """`answers[op]` gets the request and yields frames; `requests` keeps all that was asked."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self.answers: dict[str, Answer] = {}
        self.requests: list[Doc] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(socket_path(state_dir, "control.sock")))
        self._listener.listen(64)
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def answer(self, op: str, *frames: Doc) -> None:
        """The same frames whatever is asked."""
        self.answers[op] = lambda _request: iter(frames)

    def asked(self, op: str) -> list[Doc]:
        return [request for request in self.requests if request["op"] == op]

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for each in self._open:
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as file:
            try:
                while header := file.read(4):
                    request = msgpack.unpackb(file.read(int.from_bytes(header, "big")))
                    self.requests.append(request)
                    for frame in self.answers[request["op"]](request):
                        if frame.get("event") == "hang up":
                            connection.shutdown(socket.SHUT_RDWR)
                            return
                        if "raw" in frame:
                            connection.sendall(frame["raw"])
                            continue
                        body = msgpack.packb(frame)
                        connection.sendall(len(body).to_bytes(4, "big") + body)
            except OSError:
                return


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedNode]:
    monkeypatch.setenv("OPENCLAW_MESH_STATE_DIR", str(tmp_path))
    scripted = ScriptedNode(tmp_path)
    yield scripted
    scripted.close()


@pytest.fixture
def ended() -> Callable[..., Doc]:
    """A task's document, as `task show` has it."""

    def document(**fields: object) -> Doc:
        return {
            "id": "aaaa-b1",
            "name": "",
            "state": "succeeded",
            "exit_code": 0,
            "kind": "command",
            "argv": ["true"],
            "skill": None,
            "owner": {"id": "aaaa", "name": "laptop"},
            "guardians": [],
            "provisional": False,
            "node": {"id": "bbbb", "name": "nas"},
            "attempt": 1,
            "epoch": {"term": 1, "leader": {"id": "aaaa", "name": "laptop"}},
            "submitted": "2026-01-02T03:04:05.000Z",
            "started": "2026-01-02T03:04:05.100Z",
            "finished": "2026-01-02T03:04:05.200Z",
            "result": None,
            "error": None,
            "story": [],
        } | fields

    return document
