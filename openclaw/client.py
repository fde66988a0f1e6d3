"""A blocking client of the node on this machine, over its control socket.

It promises to start fast (no asyncio, no msgspec, no ZeroMQ) and to turn whatever goes wrong into a
`MeshError` that says what to do next. One request at a time on a connection; a signal that arrives while a
frame is being read loses nothing of it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import msgpack

from openclaw.config import ANSWER_S_MAX, CONTROL_FRAME_BYTES_MAX
from openclaw.errors import MeshError, Unavailable

Doc = dict[str, Any]

HEADER_BYTES = 4
READ_BYTES = 256 << 10


class Client:
    """One connection to the node that lives in `state_dir`."""

    def __init__(self, state_dir: Path) -> None:
        from openclaw.executor.paths import socket_path

        self.state_dir = state_dir
        self._buffer = bytearray()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(socket_path(state_dir, "control.sock")))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            self._socket.close()
            raise Unavailable(
                f"no node runs here (state folder {state_dir}); start one: openclaw node start",
                kind="no_node",
            ) from None
        except OSError as error:
            self._socket.close()
            raise Unavailable(
                f"cannot talk to the node in {state_dir}: {error.strerror or error}; run the "
                "command as the user who started the node",
                kind="no_node",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends whatever the node still sends on this connection."""
        self._socket.close()

    def fileno(self) -> int:
        """For a selector. What is readable may be less than a frame."""
        return self._socket.fileno()

    def call(self, op: str, *, answer_s: float | None = ANSWER_S_MAX, **fields: Any) -> Doc:
        """The final answer, past any event frames. Raises the node's refusal as a `MeshError`."""
        self.request(op, **fields)
        self._socket.settimeout(answer_s)
        try:
            while "ok" not in (frame := self._next_frame()):
                pass
            return frame
        except TimeoutError:
            raise Unavailable(
                f"the node in {self.state_dir} did not answer within {answer_s:g} s; see: openclaw node logs",
                kind="no_answer",
            ) from None
        finally:
            self._socket.settimeout(None)

    def stream(self, op: str, **fields: object) -> Iterator[Doc]:
        """Every event frame of the answer, then the final one (which has `ok`)."""
        self.request(op, **fields)
        while True:
            frame = self._next_frame()
            yield frame
            if "ok" in frame:
                return

    def request(self, op: str, **fields: object) -> None:
        """Sends a request whose frames will be taken with `ready_frames`."""
        try:
            body = msgpack.packb({"op": op, **fields})
        except UnicodeEncodeError as error:
            raise MeshError(
                f"{error.object!r} is not valid UTF-8, and only text can be sent", kind="usage", exit_code=2
            ) from None
        if len(body) > CONTROL_FRAME_BYTES_MAX:
            raise MeshError(
                f"the request is {len(body) >> 20} MiB, the limit is {CONTROL_FRAME_BYTES_MAX >> 20}; "
                "put the data in a file and use --input",
                kind="too_large",
                exit_code=125,
            )
        try:
            self._socket.sendall(len(body).to_bytes(HEADER_BYTES, "big") + body)
        except (BrokenPipeError, ConnectionResetError):
            raise self._gone() from None

    def ready_frames(self) -> list[Doc]:
        """After `fileno` became readable: the frames that are now whole, perhaps none."""
        self._read_more()
        return self.whole_frames()

    def whole_frames(self) -> list[Doc]:
        """Without a read: what came together with the last frame."""
        frames = []
        while (frame := self._whole_frame()) is not None:
            frames.append(frame)
        return frames

    def ready_answers(self) -> list[Doc | MeshError]:
        """As `ready_frames`, for several requests under way: a refusal is one of the answers."""
        self._read_more()
        answers: list[Doc | MeshError] = []
        while (frame := self._any_frame()) is not None:
            answers.append(_refusal(frame) if frame.get("ok") is False else frame)
        return answers

    def wait_closed(self, timeout_s: float) -> bool:
        """Whether the node closed the connection in time."""
        self._socket.settimeout(timeout_s)
        try:
            while self._socket.recv(READ_BYTES):
                pass
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        return True

    def _next_frame(self) -> Doc:
        while (frame := self._whole_frame()) is None:
            self._read_more()
        return frame

    def _read_more(self) -> None:
        try:
            data = self._socket.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._gone()
        self._buffer += data

    def _whole_frame(self) -> Doc | None:
        """The first frame of the buffer. Raises if it is the node's refusal."""
        frame = self._any_frame()
        if frame is not None and frame.get("ok") is False:
            raise _refusal(frame)
        return frame

    def _any_frame(self) -> Doc | None:
        if len(self._buffer) < HEADER_BYTES:
            return None
        end = HEADER_BYTES + int.from_bytes(self._buffer[:HEADER_BYTES], "big")
        if end - HEADER_BYTES > CONTROL_FRAME_BYTES_MAX:
            raise Unavailable(
                f"the node in {self.state_dir} speaks another protocol; restart it: openclaw node stop"
            )
        if len(self._buffer) < end:
            return None
        frame: Doc = msgpack.unpackb(memoryview(self._buffer)[HEADER_BYTES:end])
        del self._buffer[:end]
        return frame

    def _gone(self) -> Unavailable:
        return Unavailable(
            f"the node in {self.state_dir} closed the connection; see: openclaw node logs", kind="node_gone"
        )


def _refusal(frame: Doc) -> MeshError:
    error = frame["error"]
    return MeshError(error["message"], kind=error["type"], exit_code=error["exit_code"])
