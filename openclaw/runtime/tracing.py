"""A running node writes its own trace (`openclaw.trace`) into the file that OPENCLAW_MESH_TRACE names, its alone.

For looking at a real mesh: `python -m sims timeline --trace a.jsonl b.jsonl -o mesh.html`. The taps below wrap what
the node is put together from, once, at its start: while no trace is asked for they return it as it is, so tracing
costs nothing then. A trace never stops a node: when the file is full (TRACE_BYTES_MAX) or cannot be written, it ends.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from openclaw import wire
from openclaw.config import ENV_PREFIX, TRACE_BYTES_MAX
from openclaw.effects import Effect, Event, ProcessExited, ProcessStarted
from openclaw.errors import MeshError
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage
from openclaw.runtime.context import Context
from openclaw.trace import (
    VERSION,
    AnyRow,
    DownRow,
    EndRow,
    MarkRow,
    NamedRow,
    ReceiveRow,
    SendRow,
    StartRow,
    TraceRow,
    UpRow,
    encode,
    row_of,
    token_name,
    words,
)

VARIABLE = ENV_PREFIX + "TRACE"
FLUSH_EVERY_S = 1.0

SendMessage = Callable[[NodeId, AnyMessage], bool]
TakeBytes = Callable[[NodeId, bytes], None]


class TraceFile:
    """Lines appended up to a limit; what a crash may cost is the last second."""

    def __init__(
        self, path: Path, log: Callable[[str, object], None], bytes_max: int = TRACE_BYTES_MAX
    ) -> None:
        self._log = log
        self._flushed = 0.0
        try:
            self._file: BinaryIO | None = path.open("ab")
        except OSError as error:
            raise MeshError(f"{VARIABLE} names {path}, which cannot be written: {error.strerror}") from error
        self._room = bytes_max - self._file.tell()
        self._file.write(b"\n" * bool(self._file.tell()))  # after a crash the last line may be half a one

    def write(self, row: AnyRow) -> None:
        if self._file is None:
            return
        line = encode(row) + b"\n"
        self._room -= len(line)
        try:
            if self._room < 0:
                self._file.write(
                    encode(MarkRow(row.at, row.node, "the trace ends here: its file is full")) + b"\n"
                )
                self.close()
                return
            self._file.write(line)
            if row.at - self._flushed > FLUSH_EVERY_S:
                self._flushed = row.at
                self._file.flush()
        except OSError as error:
            self._log("the trace ends here: %s", error)
            self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()


class Tracing:
    """The taps of one node. Each returns what it was given when nobody asked for a trace."""

    def __init__(
        self, context: Context, stack: contextlib.AsyncExitStack, log: Callable[[str, object], None]
    ) -> None:
        self._context = context
        self._file: TraceFile | None = None
        path = os.environ.get(VARIABLE)
        if path:
            self._file = TraceFile(Path(path), log)
            stack.callback(self._end)
            self._begin(self._file)

    def _begin(self, file: TraceFile) -> None:
        context, at = self._context, self._context.wall()
        file.write(TraceRow(at, context.me, VERSION, "node", context.name_of(context.me)))
        for node, member in context.mesh.roster.members().items():
            file.write(NamedRow(at, context.me, node, member.name))
        file.write(UpRow(at, context.me))

    def _end(self) -> None:
        assert self._file is not None
        self._file.write(DownRow(self._context.wall(), self._context.me, "stops"))
        self._file.close()

    def sending(self, send: SendMessage) -> SendMessage:
        if (file := self._file) is None:
            return send
        context = self._context

        def traced(to: NodeId, message: AnyMessage) -> bool:
            at, left = context.wall(), send(to, message)
            fingerprint = _fingerprint(wire.encode(message)) if left else ""
            text = words(message, context.name_of)
            file.write(SendRow(at, context.me, to, type(message).__name__, fingerprint, text))
            return left

        return traced

    def receiving(self, take: TakeBytes) -> TakeBytes:
        if (file := self._file) is None:
            return take
        context = self._context

        def traced(sender: NodeId, data: bytes) -> None:
            with contextlib.suppress(wire.Rejected):
                kind = type(wire.decode(data)).__name__
                file.write(ReceiveRow(context.wall(), context.me, sender, kind, _fingerprint(data)))
            take(sender, data)

        return traced

    def performing(self, perform: Callable[[Sequence[Effect]], None]) -> Callable[[Sequence[Effect]], None]:
        if (file := self._file) is None:
            return perform
        context = self._context

        def traced(effects: Sequence[Effect]) -> None:
            at = context.wall()
            for effect in effects:
                if (row := row_of(at, context.me, effect, str)) is not None:
                    file.write(row)
            perform(effects)

        return traced

    def posting(self, post: Callable[[Event], None]) -> Callable[[Event], None]:
        if (file := self._file) is None:
            return post
        context = self._context

        def traced(event: Event) -> None:
            match event:
                case ProcessStarted(task, token):
                    file.write(StartRow(context.wall(), context.me, task, token_name(token)))
                case ProcessExited(task, token, exit):
                    file.write(
                        EndRow(context.wall(), context.me, task, token_name(token), exit.code, exit.ended_by)
                    )
                case _:
                    pass
            post(event)

        return traced


def _fingerprint(data: bytes) -> str:
    """What both ends can work out: they need share no counter."""
    return f"{zlib.crc32(data):08x}"
