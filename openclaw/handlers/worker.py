"""The process that runs handlers, one task at a time, for as long as its executor keeps it.

    python -m openclaw.handlers.worker FD

Promises: every task that it is sent is answered in order, its answer is sent before the next one begins, and what a
handler raises, prints or returns never ends the process. SIGTERM is a doorbell: what is to end stands in a frame.

Frames, as in `executor.frames`. From the executor: `load [references] [folders] [gpus]`, once and first; `task seq type
args args_path folder outputs id attempt`; `end seq`; `return`, of what has not begun. To it: `ready [types]` or
`broken text`; `done seq code error result runtime_s stdout stderr outputs`; `returned [seqs]`; `progress seq done
total note`.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import msgpack

from openclaw import config
from openclaw.errors import MeshError
from openclaw.executor.frames import Feed, framed
from openclaw.executor.outputs import OutputRow, collect
from openclaw.executor.paths import SCRATCH
from openclaw.handlers.declared import Handler, load
from openclaw.handlers.task import Cancelled, task
from openclaw.handlers.values import RESULT_FILE, Unsendable, decode, encode

if TYPE_CHECKING:
    import asyncio

READ_BYTES = 256 << 10
CODE_RAISED, CODE_MESH, CODE_CANCELLED = 1, 125, 130
ERROR_CHARS_MAX = 1000
TRACEBACK_BYTES_MAX = 8000  # with all the rest of an exception it still rides inline


class Printed(io.TextIOBase):
    """Stands in for stdout or stderr: what a task prints is a part of its answer, up to the limit."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._left = config.INLINE_OUTPUT_BYTES_MAX // 4  # characters: in UTF-8 none has more than 4 bytes
        self._dropped = 0

    def write(self, text: str) -> int:
        kept = text[: self._left]
        if kept:
            self._parts.append(kept)
            self._left -= len(kept)
        self._dropped += len(text) - len(kept)
        return len(text)

    def take(self) -> bytes:
        if not self._parts:
            return b""
        text = "".join(self._parts)
        if self._dropped:
            text += (
                f"\n[{self._dropped} more characters are not kept; write them to a file in task.scratch]\n"
            )
        self.__init__()  # type: ignore[misc]
        return text.encode(errors="replace")


class Answer:
    """How a task ended, field by field as in the `done` frame."""

    def __init__(self, code: int = 0, error: str = "", result: bytes = b"") -> None:
        self.code, self.error, self.result = code, error[:ERROR_CHARS_MAX], result
        self.outputs: list[OutputRow] = []


class Worker:
    """The loop of one process."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._feed = Feed(config.EXECUTOR_FRAME_BYTES_MAX)
        self._frames: deque[list[Any]] = deque()
        self._handlers: dict[str, Handler] = {}
        self._current = 0
        self._to_end: set[int] = set()
        self._talking = self._rang = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: asyncio.Task[Any] | None = None
        self.stdout, self.stderr = Printed(), Printed()

    def serve(self) -> None:
        signal.signal(signal.SIGTERM, self._rung)
        while True:
            while not self._frames:
                self._read(0)
            self._obey(self._frames.popleft())

    def _obey(self, frame: list[Any]) -> None:
        match frame:
            case ["task", seq, *_]:
                self._do(seq, frame)
            case ["load", references, folders, gpus]:
                task.gpus = tuple(gpus)
                self._load(references, folders)

    def _load(self, references: list[str], folders: list[str]) -> None:
        try:
            self._handlers = load(references, folders)
        except MeshError as error:
            self._say("broken", str(error)[:ERROR_CHARS_MAX])
        else:
            self._say("ready", sorted(self._handlers))

    # --- one task --------------------------------------------------------------------------------

    def _do(self, seq: int, frame: list[Any]) -> None:
        _, _, name, args, path, folder, outputs, id, attempt, *_ = frame
        began = time.perf_counter()
        if seq in self._to_end:
            answer = Answer(CODE_CANCELLED, "ended before it began")
        else:
            task.begin(id, attempt, folder, lambda *report: self._say("progress", seq, *report))
            answer = self._answer(seq, name, args, path)
            self._keep(answer, folder, outputs)
            task.end()
        runtime_s = time.perf_counter() - began
        self._to_end.discard(seq)
        self._say(
            "done", seq, answer.code, answer.error, answer.result, runtime_s,
            self.stdout.take(), self.stderr.take(), answer.outputs,
        )  # fmt: skip

    def _answer(self, seq: int, name: str, args: bytes, path: str) -> Answer:
        function = self._handlers.get(name)
        if function is None:
            return Answer(
                CODE_MESH, f"there is no handler {name!r} here; there are: {', '.join(self._handlers)}"
            )
        try:
            values, named = decode(_read_file(path) if path else args)
        except (OSError, ValueError) as error:
            return Answer(CODE_MESH, f"its arguments cannot be read: {error}")
        try:
            try:
                self._current = seq
                self._look()
                value = function(*values, **named)
                if isinstance(value, CoroutineType):
                    value = self._await(value)
            finally:
                self._current = 0
            return Answer(result=encode(value))
        except Unsendable as error:
            return self._raised(TypeError(f"the handler {name!r} returned what cannot be sent: {error}"))
        except BaseException as error:  # whatever it is, it is this task's alone
            if seq in self._to_end:
                return Answer(CODE_CANCELLED, "cancelled")
            return self._raised(error)

    def _await(self, coroutine: Any) -> Any:
        import asyncio  # 36 ms, which only async handlers pay

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        self._running = self._loop.create_task(coroutine)
        try:
            return self._loop.run_until_complete(self._running)
        finally:
            self._running = None

    def _raised(self, error: BaseException) -> Answer:
        """The exception as a value, and its traceback on stderr, where `task logs --stderr` shows it."""
        import traceback

        here = error.__traceback__
        while here is not None and here.tb_frame.f_code.co_filename == __file__:
            here = here.tb_next  # what the handler did, and not how it was called
        text = "".join(traceback.format_exception(type(error), error, here))
        text = text.encode(errors="replace")[-TRACEBACK_BYTES_MAX:].decode(errors="ignore")
        self.stderr.write(text)
        kind = type(error)
        try:
            args = encode(error.__reduce__()[1])  # of an OSError with its file names, which `args` lacks
        except (Unsendable, IndexError, TypeError):
            args = b""
        if not 0 < len(args) <= ERROR_CHARS_MAX:
            args = encode([str(error)[:ERROR_CHARS_MAX]])
        document = {
            "type": kind.__qualname__,
            "module": kind.__module__,
            "message": str(error)[:ERROR_CHARS_MAX],
            "traceback": text,
        }
        return Answer(
            CODE_RAISED,
            f"{kind.__qualname__}: {error}" if str(error) else kind.__qualname__,
            encode({**document, "args": args}),
        )

    def _keep(self, answer: Answer, folder: str, outputs: list[str]) -> None:
        """A large result becomes a file beside the outputs, to be fetched as they are."""
        scratch = f"{folder}/{SCRATCH}"
        names = list(outputs) if answer.code == 0 else []
        if len(answer.result) > config.RESULT_BYTES_MAX:
            size, limit = len(answer.result) >> 20, config.RESULT_BYTES_MAX >> 20
            message = (
                f"the result is {size} MiB, the limit is {limit}; write it to a file and name it as an output"
            )
            answer.code, answer.error, answer.result = CODE_MESH, message, b""
        elif len(answer.result) > config.RESULT_INLINE_BYTES_MAX:
            try:
                os.makedirs(scratch, 0o700, exist_ok=True)
                with open(f"{scratch}/{RESULT_FILE}", "wb") as file:
                    file.write(answer.result)
            except OSError as error:
                answer.code, answer.error = (
                    CODE_MESH,
                    f"cannot write its result to {scratch}: {error.strerror}",
                )
            else:
                names.append(RESULT_FILE)
            answer.result = b""
        if names:
            answer.outputs, wrong = _collected(scratch, names)
            if wrong and answer.code == 0:
                answer.code, answer.error = CODE_MESH, wrong[:ERROR_CHARS_MAX]

    # --- the executor ----------------------------------------------------------------------------

    def _rung(self, *_: object) -> None:
        """The doorbell. In the middle of a read or a write, whoever does that looks when it is done."""
        self._rang = True
        if not self._talking:
            self._look()

    def _look(self) -> None:
        """If the bell has rung, see what for; and end what is to end."""
        if self._rang:
            self._rang = False
            self._read(socket.MSG_DONTWAIT)
        if self._current not in self._to_end:
            return
        if self._running is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._running.cancel)
            return
        raise Cancelled

    def _read(self, flags: int) -> None:
        """Take in what has come. The bell waits meanwhile: the feed is not to be entered twice."""
        self._talking = True
        try:
            data = self._receive(flags)
            for body in self._feed.feed(data):
                frame = msgpack.unpackb(body)
                if frame[0] == "end":
                    self._to_end.add(frame[1])
                elif frame[0] == "return":
                    self._send("returned", [each[1] for each in self._frames])
                    self._frames.clear()
                else:
                    self._frames.append(frame)
        finally:
            self._talking = False

    def _receive(self, flags: int) -> bytes:
        """b"" when nothing is there; without its executor this process ends: nobody would take its answers."""
        try:
            data = self._socket.recv(READ_BYTES, flags)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            os._exit(0)
        return data

    def _say(self, *frame: object) -> None:
        self._talking = True
        try:
            self._send(*frame)
        finally:
            self._talking = False
        if self._current:  # a report from within a handler
            self._look()

    def _send(self, *frame: object) -> None:
        try:
            self._socket.sendall(framed(msgpack.packb(frame), config.EXECUTOR_FRAME_BYTES_MAX))
        except OSError:
            os._exit(0)


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _collected(scratch: str, names: list[str]) -> tuple[list[OutputRow], str]:
    steps = collect(scratch, names, config.FILE_BYTES_MAX)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            rows, wrong = end.value
            return rows, wrong


def _expendable() -> None:
    """Where the system runs out of memory, it takes this process and not a node."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("900")
    except OSError:
        pass  # not Linux, or not ours to say


def main(argv: list[str]) -> int:
    import faulthandler

    faulthandler.enable()
    _expendable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=int(argv[0]))
    connection.setblocking(True)
    connection.set_inheritable(False)
    worker = Worker(connection)
    sys.stdout, sys.stderr = worker.stdout, worker.stderr
    worker.serve()
    return 0


def listing(argv: list[str]) -> int:
    """`--list` REFERENCES and FOLDERS as JSON: prints the task types, or why there are none, as JSON."""
    import json

    references, folders = json.loads(argv[0])
    answer: dict[str, Any]
    try:
        answer = {"types": sorted(load(references, folders))}
    except MeshError as error:
        answer = {"error": str(error)}
    os.write(int(argv[1]), json.dumps(answer).encode())
    return 0


Main = Callable[[list[str]], int]

if __name__ == "__main__":
    entry: Main = listing if sys.argv[1] == "--list" else main
    sys.exit(entry(sys.argv[2:] if entry is listing else sys.argv[1:]))
