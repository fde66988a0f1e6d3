"""Frames between a node and its executor: four bytes of length, then msgpack.

Promises: nothing longer than the limit is ever buffered; a longer frame raises Oversized, and whoever reads
drops the connection.

A frame is an array whose first element is its kind. From the node: `hello [limits]`, `start [specs]`,
`kill [[task, token, reason, grace_s]]`, `forget [[task, token]]`, `handlers [references] [folders] slots`,
`stop grace_s`. From the executor: `held more [[task, token, exit or nil]]`, `started [[task, token, at]]`,
`progress [[task, token, done, total, note]]`, `exited [[task, token, exit]]`.
Rows are only ever appended to, since an upgraded node finds yesterday's executor still running.
"""

from __future__ import annotations

import struct

LENGTH = struct.Struct(">I")


class Oversized(Exception):
    """The other end sent, or we were about to send, a frame over the limit."""


def framed(body: bytes, bytes_max: int) -> bytes:
    """`body` as it goes over the socket."""
    if len(body) > bytes_max:
        raise Oversized(f"a frame of {len(body)} bytes is over the limit of {bytes_max}")
    return LENGTH.pack(len(body)) + body


class Feed:
    """Cuts a stream of bytes into frames."""

    __slots__ = ("_buffer", "_bytes_max")

    def __init__(self, bytes_max: int) -> None:
        self._buffer = bytearray()
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that `data` completes."""
        buffer = self._buffer
        buffer += data
        frames = []
        position = 0
        while len(buffer) - position >= LENGTH.size:
            (length,) = LENGTH.unpack_from(buffer, position)
            if length > self._bytes_max:
                raise Oversized(f"a frame of {length} bytes is over the limit of {self._bytes_max}")
            end = position + LENGTH.size + length
            if len(buffer) < end:
                break
            frames.append(bytes(buffer[position + LENGTH.size : end]))
            position = end
        del buffer[:position]
        return frames
