"""One warm process as its pool sees it: a socket, what it was given, and when to look at it next."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from typing import Any, NamedTuple

import msgpack

from openclaw import config
from openclaw.executor.frames import Feed, framed
from openclaw.executor.process import Spec, gpu_variables
from openclaw.platform import exit_fd
from openclaw.platform_limits import Confinement

FOREVER = float("inf")
READ_BYTES = 256 << 10

Key = tuple[str, tuple[int, str, int, int]]


class Kind(NamedTuple):
    """What a process was started with and has for life: which GPUs it sees, and the limits that it is kept within.

    A process only works for calls of its kind: a library that has looked at the GPUs once does not look again.
    """

    gpus: tuple[int, ...] = ()
    memory_bytes: int = 0
    cpus: int = 0

    @classmethod
    def of(cls, spec: Spec) -> Kind:
        return cls(tuple(spec.gpus), spec.memory_bytes, spec.cpus)


class Call:
    """One task on its way through a process. It has begun when it is the first of its process."""

    __slots__ = (
        "began", "deadline", "ended_by", "error", "folder", "key", "kill_at", "kind", "process", "return_at", "seq",
        "spec", "tell_at",
    )  # fmt: skip

    def __init__(self, spec: Spec, key: Key, seq: int, folder: str) -> None:
        self.spec, self.key, self.seq, self.folder = spec, key, seq, folder
        self.kind = Kind.of(spec)
        self.process: Process | None = None
        self.began = 0.0
        self.deadline = self.kill_at = self.tell_at = self.return_at = FOREVER
        self.ended_by = self.error = ""


class Process:
    """Registered with the selector under itself, with its socket and with its exit."""

    def __init__(
        self,
        slot: int,
        kind: Kind,
        confinement: Confinement,
        popen: subprocess.Popen[bytes],
        connection: socket.socket,
        log_fd: int,
        selector: selectors.BaseSelector,
    ) -> None:
        self.slot, self.kind, self.confinement = slot, kind, confinement
        self.look_at = FOREVER
        self.calls: deque[Call] = deque()
        self.ready = self.retiring = self.gone = self.quick = False
        self.served = 0
        self.idle_since = FOREVER
        self.error = ""
        self._popen, self._socket, self._log_fd, self._selector = popen, connection, log_fd, selector
        self._exit_fd = exit_fd(popen.pid)
        self._feed = Feed(config.EXECUTOR_FRAME_BYTES_MAX)
        self._unsent = bytearray()
        connection.setblocking(False)
        selector.register(connection, selectors.EVENT_READ, self)
        selector.register(self._exit_fd, selectors.EVENT_READ, self)

    @property
    def next_at(self) -> float:
        """When its pool has something to do here."""
        if not self.calls:
            return self.idle_since + config.HANDLER_IDLE_S
        call = self.calls[0]
        return min(call.deadline, call.kill_at, call.tell_at, call.return_at, self.look_at)

    def take(self, seq: int) -> Call:
        """The first of its calls, which it has answered; ValueError if it answers another."""
        if not self.calls or self.calls[0].seq != seq:
            raise ValueError(f"it answered {seq}, which is not what it works on")
        return self.calls.popleft()

    def recall(self) -> None:
        """Ask for what it has not begun. It answers at once, unless its handler does not let the interpreter."""
        self.quick = False
        if len(self.calls) > 1:
            self.send("return")
            self.signal(signal.SIGTERM)

    def give_back(self, seqs: set[int]) -> list[Call]:
        """What it says that it will not begin, in order."""
        back = [call for call in self.calls if call.seq in seqs]
        self.calls = deque(call for call in self.calls if call.seq not in seqs)
        for call in back:
            call.process = None
        return back

    def send(self, *frame: object) -> None:
        self._unsent += framed(msgpack.packb(frame), config.EXECUTOR_FRAME_BYTES_MAX)
        self.flush()

    def flush(self) -> None:
        """As far as it takes it; the selector tells when it takes more."""
        try:
            while self._unsent:
                del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent.clear()  # it is gone, which its exit says too
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)
        if self._selector.get_key(self._socket).events != events:
            self._selector.modify(self._socket, events, self)

    def receive(self, ready: object) -> list[list[Any]]:
        """What it has said, its socket or its exit being `ready`; `gone` once it has ended, with nothing unread."""
        if self._unsent:
            self.flush()
        frames: list[list[Any]] = []
        while True:
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:
                data = b""
            frames += [msgpack.unpackb(body) for body in self._feed.feed(data)]
            if len(data) < READ_BYTES:
                break
        self.gone = ready is self._exit_fd
        return frames

    def signal(self, number: signal.Signals) -> None:
        """To the process alone; it is unreaped as long as it is in the pool."""
        os.kill(self._popen.pid, number)

    def kill(self) -> None:
        """It, and what its handlers started; its exit follows."""
        self.retiring = True
        try:
            os.killpg(self._popen.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        if self.confinement.group:
            self.confinement.group.kill()

    @property
    def pid(self) -> int:
        """Also of its process group."""
        return self._popen.pid

    def reap(self) -> int:
        """How it ended, as `subprocess` says it; what its handlers left running ends too."""
        self.kill()
        return self._popen.wait()

    def trim_log(self) -> None:
        if os.fstat(self._log_fd).st_size > config.HANDLER_LOG_BYTES_MAX:
            os.ftruncate(self._log_fd, 0)

    def log_tail(self, length: int) -> bytes:
        """What it, or the interpreter, wrote last past all handlers: of a crash, where it was."""
        size = os.fstat(self._log_fd).st_size
        return os.pread(self._log_fd, length, max(0, size - length))

    def close(self) -> None:
        self._selector.unregister(self._socket)
        self._selector.unregister(self._exit_fd)
        self._socket.close()
        self._exit_fd.close()
        os.close(self._log_fd)


def launch(
    slot: int,
    kind: Kind,
    confinement: Confinement,
    log: str,
    environment: dict[str, str],
    selector: selectors.BaseSelector,
) -> Process:
    """Start one, within the limits that hold now. What is written past all handlers goes to `log`. Raises OSError."""
    ours, theirs = socket.socketpair()
    output = os.open(log, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "openclaw.handlers.worker", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**environment, **dict(gpu_variables(kind.gpus))},
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
        )
    except OSError:
        ours.close()
        os.close(output)
        raise
    finally:
        theirs.close()
    return Process(slot, kind, confinement, popen, ours, output, selector)
