"""The executor: a small process that starts commands for a node and outlives it.

    python -m openclaw.executor.main STATE_DIR ORPHAN_S KEPT INLINE FILE FRAME

Promises: one per state folder; when this command returns 0 the executor serves in the background, detached
from the session and the files of whoever started it; a node that comes back finds all that it held. Without a
node it ends what runs after ORPHAN_S, and goes as soon as it has nothing left to do.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack

from openclaw.executor.frames import Feed, Oversized, framed
from openclaw.executor.leases import LOOK_S
from openclaw.executor.orders import ROWS_BYTES, limits_of, offer_of, seconds_of, spec_of
from openclaw.executor.paths import RUNS, groups_name, socket_path
from openclaw.executor.process import Limits, base_environment
from openclaw.executor.run import FOREVER, Run
from openclaw.executor.supervisor import Supervisor
from openclaw.executor.sweep import sweep
from openclaw.handlers.process import Process
from openclaw.platform import boot_clock_s, peer_uid
from openclaw.platform_limits import Groups

ALREADY_RUNS = 3
IDLE_S = 5.0
STOP_GRACE_S = 5.0
CALLERS_MAX = 8
READ_BYTES = 256 << 10
UNSENT_BYTES_MAX = 64 << 20


class Node:
    """The connection to the node, and what is on its way there."""

    def __init__(self, connection: socket.socket, frame_bytes: int) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.feed = Feed(frame_bytes)
        self.unsent = bytearray()
        self.listing: Iterator[bytes] | None = None
        self.greeted = False

    def fileno(self) -> int:
        return self.socket.fileno()


class Executor:
    """The loop: the node's frames, the ends of processes, and the clock."""

    def __init__(
        self, state_dir: Path, limits: Limits, listener: socket.socket, groups: Groups | None
    ) -> None:
        self.limits = limits
        self.selector = selectors.DefaultSelector()
        self.listener = listener
        self.listener.setblocking(False)
        self.selector.register(listener, selectors.EVENT_READ)
        base = base_environment(os.environ)
        self.supervisor = Supervisor(str(state_dir), base, limits, self.selector, groups)
        self._woken, self.terminated = socket.socketpair()
        self.terminated.setblocking(False)
        self.selector.register(self._woken, selectors.EVENT_READ)
        self.node: Node | None = None
        self.callers: list[Node] = []  # connected, and have not said hello yet
        self.alone_since = time.monotonic()
        self.orphaned = False
        self.stopping = False

    def serve(self) -> None:
        """Until there is nothing left to do and nobody to do it for."""
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(self.terminated.fileno())
        while not self._done(time.monotonic()):
            for key, events in self.selector.select(self._wait_s(time.monotonic())):
                now = time.monotonic()
                if isinstance(key.fileobj, Node):
                    self._serve_node(key.fileobj, events, now)
                elif isinstance(key.data, Run):
                    self.supervisor.ended(key.data, now)
                elif isinstance(key.data, Process):
                    self.supervisor.pool.serve(key.data, key.fileobj, now)
                elif key.fileobj is self.listener:
                    self._accept()
                else:
                    self._woken.recv(READ_BYTES)
                    self._stop(STOP_GRACE_S)
            now = time.monotonic()
            if self.node is None and not self.orphaned and now >= self.alone_since + self.limits.orphan_s:
                self.orphaned = True
                error = f"its node was gone for {self.limits.orphan_s:g} s"
                self.supervisor.end_all("orphaned", STOP_GRACE_S, now, error)
            self.supervisor.tick(now)
            if self._heard:
                self.supervisor.hand_back(now)
            self._flush()

    @property
    def _heard(self) -> bool:
        """Whether a node is there that knows what is held."""
        return self.node is not None and self.node.greeted and self.node.listing is None

    def _stop(self, grace_s: float) -> None:
        self.stopping = True
        self.supervisor.end_all("stop", grace_s, time.monotonic())

    def _done(self, now: float) -> bool:
        supervisor = self.supervisor
        if (
            supervisor.running
            or supervisor.queue
            or supervisor.pool.busy
            or supervisor.jobs
            or (supervisor.unwritten and not self.stopping)
        ):
            return False
        if self.node is None:
            return self.stopping or now >= self.alone_since + IDLE_S
        return self.stopping and not self.node.unsent

    def _wait_s(self, now: float) -> float | None:
        due = self.supervisor.next_at()
        if self._heard:
            due = min(due, self.supervisor.queue.due)
        if self.node is None:
            idle = not (self.supervisor.running or self.supervisor.pool.busy)
            due = min(due, self.alone_since + (IDLE_S if idle else self.limits.orphan_s))
        if self.supervisor.leases:
            due = min(due, now + LOOK_S)
        return None if due == FOREVER else max(0.0, due - now)

    # --- the node --------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            connection, _ = self.listener.accept()
        except OSError:
            return
        if peer_uid(connection) != os.getuid():
            connection.close()
            return
        if len(self.callers) >= CALLERS_MAX:
            self._close(self.callers.pop(0))
        caller = Node(connection, self.limits.frame_bytes)
        self.callers.append(caller)
        self.selector.register(caller, selectors.EVENT_READ)

    def _greeted(self, caller: Node) -> None:
        """Who says hello as a node does takes the place of the one before; nothing less displaces it."""
        self.callers.remove(caller)
        self._drop()
        self.node = caller

    def _close(self, node: Node) -> None:
        self.selector.unregister(node)
        node.socket.close()

    def _drop(self) -> None:
        """The node is gone, or another one takes its place."""
        if self.node is not None:
            self._close(self.node)
            self.node = None
            self.alone_since = time.monotonic()
            self.orphaned = False

    def _serve_node(self, node: Node, events: int, now: float) -> None:
        if node is not self.node and node not in self.callers:
            return  # replaced by an event before this one
        try:
            if events & selectors.EVENT_READ:
                data = node.socket.recv(READ_BYTES)
                if not data:
                    self._lose(node)
                    return
                for body in node.feed.feed(data):
                    frame = msgpack.unpackb(body)
                    if node in self.callers:
                        self._hear_caller(node, frame)
                    self._obey(node, frame, now)
        except BlockingIOError:
            pass
        except (OSError, Oversized, ValueError, TypeError, msgpack.UnpackException) as error:
            print(f"dropped a connection: {error!r}", file=sys.stderr, flush=True)
            self._lose(node)

    def _hear_caller(self, caller: Node, frame: object) -> None:
        match frame:
            case ["hello", [orphan_s, *sizes]]:
                limits_of(orphan_s, sizes[: len(Limits._fields) - 1])  # raises before anybody is displaced
                self._greeted(caller)
            case _:
                raise ValueError(f"a stranger's frame: {str(frame)[:80]}")

    def _lose(self, node: Node) -> None:
        if node is self.node:
            self._drop()
        elif node in self.callers:
            self.callers.remove(node)
            self._close(node)

    def _obey(self, node: Node, frame: list[Any], now: float) -> None:
        match frame:
            case ["start", [*rows]]:
                for row in rows:
                    self.supervisor.start(spec_of(row), now)
            case ["kill", [*rows]]:
                for task, token, reason, grace_s, *_ in rows:
                    self.supervisor.kill(task, token, str(reason), seconds_of(grace_s), now)
            case ["lease", [*rows]]:
                for task, token, until_s, *_ in rows:
                    self.supervisor.leases.extend(task, token, seconds_of(until_s), boot_clock_s())
            case ["forget", [*rows]]:
                for task, token, *_ in rows:
                    self.supervisor.forget(task, token)
            case ["hello", [*limits]]:
                orphan_s, *sizes = limits[: len(Limits._fields)]
                self.limits = self.supervisor.limits = limits_of(orphan_s, sizes)
                node.greeted = True
                node.listing = self._listing()
                self.supervisor.started.clear()
                self.supervisor.exited.clear()
            case ["handlers", [*references], [*folders], slots, *_]:
                self.supervisor.pool.offer(offer_of(references, folders, slots))
            case ["stop", grace_s]:
                self._stop(seconds_of(grace_s))
            case _:
                raise ValueError(f"no such frame: {str(frame)[:80]}")

    def _listing(self) -> Iterator[bytes]:
        rows: list[bytes] = []
        size = 0
        for row in self.supervisor.held():
            rows.append(msgpack.packb(row))
            size += len(rows[-1])
            if size >= ROWS_BYTES:
                yield self._frame("held", rows, True)
                rows, size = [], 0
        yield self._frame("held", rows, False)

    def _frame(self, kind: str, rows: list[bytes], more: bool | None = None) -> bytes:
        packer = msgpack.Packer(autoreset=False)
        packer.pack_array_header(2 if more is None else 3)
        packer.pack(kind)
        if more is not None:
            packer.pack(more)
        packer.pack_array_header(len(rows))
        return framed(packer.bytes() + b"".join(rows), self.limits.frame_bytes)

    def _flush(self) -> None:
        """Send what the node is to hear, as far as it takes it."""
        node = self.node
        if node is None or not node.greeted:
            self.supervisor.started.clear()
            self.supervisor.exited.clear()
            return
        if node.listing is None:
            self._queue_events(node)
        while node.listing is not None and len(node.unsent) < ROWS_BYTES:
            frame = next(node.listing, None)
            if frame is None:
                node.listing = None
                self._queue_events(node)
            else:
                node.unsent += frame
        self._send(node)

    def _queue_events(self, node: Node) -> None:
        supervisor = self.supervisor
        if supervisor.started:
            node.unsent += self._frame("started", [msgpack.packb(row) for row in supervisor.started])
            supervisor.started.clear()
        if progress := supervisor.pool.take_progress():
            node.unsent += self._frame("progress", [msgpack.packb(row) for row in progress])
        if supervisor.handed_back:
            node.unsent += self._frame("back", [msgpack.packb(row) for row in supervisor.handed_back])
            supervisor.handed_back.clear()
        rows: list[bytes] = []
        size = 0
        for row in supervisor.exited:
            rows.append(msgpack.packb(row))
            size += len(rows[-1])
            if size >= ROWS_BYTES:
                node.unsent += self._frame("exited", rows)
                rows, size = [], 0
        if rows:
            node.unsent += self._frame("exited", rows)
        supervisor.exited.clear()

    def _send(self, node: Node) -> None:
        events = selectors.EVENT_READ
        try:
            if node.unsent:
                del node.unsent[: node.socket.send(node.unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._drop()
            return
        if len(node.unsent) > UNSENT_BYTES_MAX:
            self._drop()  # it reads nothing; when it comes back it hears all of it again
            return
        if node.unsent or node.listing is not None:
            events |= selectors.EVENT_WRITE
        if self.selector.get_key(node).events != events:
            self.selector.modify(node, events)


# --- start ---------------------------------------------------------------------------------------


def _lock(state_dir: Path) -> int | None:
    fd = os.open(state_dir / "executor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _listen(path: Path) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # we hold the lock: whoever bound it is gone
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    listener.bind(os.fspath(path))
    os.umask(umask)
    listener.listen(8)
    return listener


def main(argv: list[str]) -> int:
    """Take the folder, put the past in order, then serve in the background."""
    state_dir = Path(argv[0])
    orphan_s, *sizes = argv[1:]
    limits = Limits(float(orphan_s), *map(int, sizes))
    os.chdir("/")
    lock = _lock(state_dir)
    if lock is None:
        return ALREADY_RUNS
    (state_dir / RUNS).mkdir(mode=0o700, exist_ok=True)
    groups = Groups.open(groups_name(state_dir))
    sweep(state_dir, limits)
    path = socket_path(state_dir, "executor.sock")
    listener = _listen(path)
    if os.fork():
        os._exit(0)  # whoever waits for this command knows now that we serve
    executor = Executor(state_dir, limits, listener, groups)
    try:
        executor.serve()
    finally:
        executor.supervisor.pool.close()
        path.unlink(missing_ok=True)
        if groups:
            groups.close()
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
