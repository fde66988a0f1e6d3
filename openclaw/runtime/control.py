"""The local socket: frames in, frames out, one request at a time per connection.

A Unix socket of mode 0600 in a private folder, and the peer's user id is checked: whoever can use it could stop the
node anyway. A frame is a 4-byte big-endian length and a msgpack map. A request may be answered by any number of
`{"event": ...}` frames and ends with one `{"ok": ...}` frame; a client that goes away ends its request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgpack

from openclaw import platform
from openclaw.config import CONTROL_FRAME_BYTES_MAX, WATCHERS_MAX
from openclaw.errors import MeshError

Frame = dict[str, object]
Emit = Callable[[Frame], Awaitable[None]]
Operation = Callable[[Frame, Emit], Awaitable[Frame]]

log = logging.getLogger("openclaw")

_LENGTH = struct.Struct(">I")
PIPELINED_MAX = 64


class Control:
    """Serves `operations` by name. An operation emits events and returns the fields of the last frame."""

    def __init__(self, path: Path, operations: dict[str, Operation]) -> None:
        self._path, self.operations = path, operations
        self._server: asyncio.Server | None = None
        self.clients: set[_Client] = set()

    async def start(self) -> None:
        self._path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        old = os.umask(0o177)
        try:
            listener.bind(str(self._path))
        finally:
            os.umask(old)
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Client(self), sock=listener
        )

    async def close(self) -> None:
        """Ends every open request, then forgets the socket."""
        if self._server is not None:
            self._server.close()
        for client in tuple(self.clients):
            await client.end()
        self._path.unlink(missing_ok=True)


class _Client(asyncio.Protocol):
    """One connection: requests are served in their order, and die with it."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._requests: deque[Frame] = deque()
        self._work: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        uid = platform.peer_uid(transport.get_extra_info("socket"))
        if uid not in (os.getuid(), 0) or len(self._control.clients) >= WATCHERS_MAX:
            transport.abort()
            return
        self._control.clients.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._control.clients.discard(self)
        self._writable.set()
        if self._work is not None:
            self._work.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            self._parse()
        except (ValueError, msgpack.UnpackException):
            self._close()
            return
        if self._requests and self._work is None:
            self._work = asyncio.get_running_loop().create_task(self._serve())

    async def end(self) -> None:
        self._close()
        if self._work is not None:
            self._work.cancel()
            await asyncio.gather(self._work, return_exceptions=True)

    def _parse(self) -> None:
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > CONTROL_FRAME_BYTES_MAX or len(self._requests) >= PIPELINED_MAX:
                raise ValueError(f"a frame of {size} bytes")
            if len(self._buffer) < _LENGTH.size + size:
                return
            frame = msgpack.unpackb(bytes(self._buffer[_LENGTH.size : _LENGTH.size + size]), raw=False)
            del self._buffer[: _LENGTH.size + size]
            if not isinstance(frame, dict):
                raise ValueError("a request is a map")
            self._requests.append(frame)

    async def _serve(self) -> None:
        try:
            while self._requests:
                await self._emit(await self._answer(self._requests.popleft()))
        finally:
            self._work = None

    async def _answer(self, request: Frame) -> Frame:
        operation = self._control.operations.get(str(request.get("op")))
        try:
            if operation is None:
                raise MeshError(
                    f"this node does not know the request {request.get('op')!r}; is it older than the command?",
                    kind="version",
                )
            return {"ok": True, **await operation(request, self._emit)}
        except MeshError as error:
            return failure(error.kind, str(error), error.exit_code)
        except (AssertionError, ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
            return failure("usage", f"{request.get('op')}: {error!r}", 2)
        except Exception as error:  # whatever it is, whoever asked must not wait for ever
            log.exception("the request %r failed", request.get("op"))
            return failure("internal", f"{request.get('op')} failed on this node: {error!r}", 1)

    async def _emit(self, frame: Frame) -> None:
        """Waits while the client reads more slowly than we write."""
        await self._writable.wait()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(frame))

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def failure(kind: str, message: str, exit_code: int) -> Frame:
    return {"ok": False, "error": {"type": kind, "message": message, "exit_code": exit_code}}


def pack(frame: Frame) -> bytes:
    body = msgpack.packb(frame, use_bin_type=True, default=str)
    return _LENGTH.pack(len(body)) + bytes(body)
