"""The connection between a program and its node: tasks go out in batches, ends come back as they happen.

Promises: a future that was submitted ends, whatever becomes of the node, or of the connection, in the meantime. The id
of its task comes of our key and its tag: what no answer came to is asked for when the node is back, and only what that
did not take is submitted again, so nothing is ever two tasks. No task waits for a timer: whoever submits sends at once,
or leaves it to the next answer when some requests are under way.
"""

from __future__ import annotations

import base64
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Iterable
from concurrent.futures import InvalidStateError
from pathlib import Path

from openclaw.api.results import value_of
from openclaw.api.tasks import Doc, MeshFuture
from openclaw.client import Client
from openclaw.config import RECONNECT_EVERY_S, RECONNECT_S_MAX, SUBMIT_BATCH_MAX, SUBMITS_UNDER_WAY_MAX
from openclaw.errors import MeshError, Unavailable

KEY_BYTES = 10  # 16 characters of base32
FULL_S = 0.2
BATCH_BYTES_MAX = 4 << 20
RESUMED_MAX = 10_000  # in one request


class Session:
    """Thread-safe. One thread reads; whoever calls writes."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._unsent: deque[MeshFuture] = deque()
        self._under_way: deque[list[MeshFuture]] = deque()
        self._waiting: dict[int, MeshFuture] = {}  # by tag: all that was sent and has not ended
        self._failed: list[tuple[MeshFuture, BaseException]] = []
        self._to_cancel: list[str] = []
        self._answers: deque[str] = deque()  # what each answer that is to come is about
        self._key = base64.b32encode(os.urandom(KEY_BYTES)).decode().lower()
        self._tag = 0
        self._closing = False
        self._idle = threading.Condition(self._lock)
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._paused_until = 0.0
        self._out: Client | None = None
        self._in: Client | None = None
        self._connect()
        self._thread = threading.Thread(target=self._run, name="openclaw-mesh", daemon=True)
        self._thread.start()

    # --- what a program does ---------------------------------------------------------------------

    def submit(self, future: MeshFuture) -> None:
        future.cancelled_late = self._cancel
        with self._lock:
            self._unsent.append(future)
            if len(self._under_way) < 2:
                self._send_all()

    def drain(self) -> None:
        """Until every future has ended."""
        with self._idle:
            while self._unsent or self._waiting or self._failed:
                self._idle.wait()

    def futures(self) -> list[MeshFuture]:
        """All that have not ended."""
        with self._lock:
            return [*self._unsent, *self._waiting.values()]

    def close(self) -> None:
        """No more reads: futures that have not ended stay as they are, and their tasks go on."""
        with self._lock:
            if not self._closing:
                self._closing = True
                self._ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _cancel(self, future: MeshFuture) -> None:
        with self._lock:
            if future.task is not None:
                self._to_cancel.append(future.task)
                self._send_all()

    # --- sending: with the lock ------------------------------------------------------------------

    def _send_all(self) -> None:
        """As many requests as may be under way. A connection that breaks here is noticed by the reader."""
        if self._out is None or time.monotonic() < self._paused_until:
            return
        try:
            if self._to_cancel:
                ids, self._to_cancel = self._to_cancel[:SUBMIT_BATCH_MAX], self._to_cancel[SUBMIT_BATCH_MAX:]
                self._answers.append("cancel")
                self._out.request("cancel", ids=ids)
            while len(self._under_way) < SUBMITS_UNDER_WAY_MAX and (batch := self._next_batch()):
                self._under_way.append(batch)
                self._answers.append("submit")
                self._request(self._out, batch)
        except (MeshError, OSError):
            self._ring()

    def _next_batch(self) -> list[MeshFuture]:
        batch: list[MeshFuture] = []
        size = 0
        while self._unsent and len(batch) < SUBMIT_BATCH_MAX and size < BATCH_BYTES_MAX:
            if batch and self._unsent[0].wait != batch[0].wait:
                break
            future = self._unsent.popleft()
            if future.cancelled():
                continue
            if not future.tag:  # else it was refused, or no answer came: the same task under the same tag
                self._tag += 1
                future.tag = self._tag
            size += len(future.args)
            batch.append(future)
            self._waiting[future.tag] = future
        return batch

    def _request(self, out: Client, batch: list[MeshFuture]) -> None:
        """Tasks that have all but their arguments in common send that once."""
        numbers: dict[int, int] = {}
        commons: list[Doc] = []
        rows: list[tuple[int, bytes, int]] = []
        for future in batch:
            number = numbers.get(id(future.common))
            if number is None:
                number = numbers[id(future.common)] = len(commons)
                commons.append(future.common)
            rows.append((number, future.args, future.tag))
        out.request(
            "session_submit",
            session=self._name,
            key=self._key,
            wait=batch[0].wait,
            commons=commons,
            rows=rows,
        )

    def _ring(self) -> None:
        try:
            os.write(self._wake, b".")
        except BlockingIOError:
            pass

    # --- reading: the one thread -----------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing:
            try:
                self._read()
            except (MeshError, OSError):
                if not self._reconnected():
                    break
        with self._lock:
            self._closing = True
            self._disconnect()
            os.close(self._wake)
            os.close(self._woken)

    def _read(self) -> None:
        """Until the connection breaks, which raises, or the session is closed."""
        assert self._in is not None
        assert self._out is not None
        with selectors.DefaultSelector() as selector:
            for each in (self._in, self._out, self._woken):
                selector.register(each, selectors.EVENT_READ)
            for frame in self._in.whole_frames():
                self._ended(frame)
            while not self._closing:
                self._settle()
                pause_s = self._paused_until - time.monotonic()
                for key, _ in selector.select(pause_s if pause_s > 0 else None):
                    if key.fileobj is self._in:
                        for frame in self._in.ready_frames():
                            self._ended(frame)
                    elif key.fileobj is self._out:
                        self._answered()
                    else:
                        os.read(self._woken, 64)
                        self._check_connected()
                if pause_s > 0:
                    with self._lock:
                        self._send_all()

    def _check_connected(self) -> None:
        """Somebody's write failed: so will ours, and then the reader mends it."""
        if not self._closing and self._out is not None:
            with self._lock:
                self._answers.append("cancel")
                self._out.request("cancel", ids=[])

    def _answered(self) -> None:
        assert self._out is not None
        for frame in self._out.ready_answers():
            with self._lock:
                if self._answers.popleft() == "submit":
                    self._accepted(self._under_way.popleft(), frame)
                self._send_all()

    def _accepted(self, batch: list[MeshFuture], answer: Doc | MeshError) -> None:
        if isinstance(answer, MeshError):
            if answer.kind == "full":
                self._take_back(batch)
                self._paused_until = time.monotonic() + FULL_S
            else:
                self._refused(batch, answer)
            return
        for future, task in zip(batch, answer["ids"], strict=True):
            future.task = task
            if future.cancelled():
                self._to_cancel.append(task)

    def _refused(self, batch: list[MeshFuture], error: MeshError) -> None:
        """None of them was accepted; one may be at fault, so several are tried one by one."""
        for future in batch:
            del self._waiting[future.tag]
        if len({id(future.common) for future in batch}) > 1:
            self._alone(batch)
            return
        self._failed += [(future, error) for future in batch]

    def _settle(self) -> None:
        """Futures that failed do so without the lock: who waits for them may submit more."""
        with self._lock:
            failed, self._failed = self._failed, []
        for future, error in failed:
            _fail(future, error)
        with self._lock:
            if not (self._unsent or self._waiting or self._failed):
                self._idle.notify_all()

    def _alone(self, batch: list[MeshFuture]) -> None:
        """Submits each by itself, before all others."""
        assert self._out is not None
        for future in batch:
            self._waiting[future.tag] = future
            self._under_way.append([future])
            self._answers.append("submit")
            self._request(self._out, [future])

    def _ended(self, frame: Doc) -> None:
        if frame.get("event") != "ended":
            return
        for tag, kind, what in frame["rows"]:
            future = self._waiting.get(tag)
            if future is not None:
                _resolve(future, kind, what)
        with self._lock:
            for tag, _, _ in frame["rows"]:
                self._waiting.pop(tag, None)

    # --- the connection --------------------------------------------------------------------------

    def _connect(self) -> None:
        """Raises `Unavailable`."""
        self._name = os.urandom(8).hex()
        into = Client(self._state_dir)
        out: Client | None = None
        try:
            if "event" not in next(into.stream("session_open", session=self._name)):
                raise Unavailable(f"the node in {self._state_dir} opens no session", kind="no_session")
            out = Client(self._state_dir)
            waiting = list(self._waiting.values())
            for start in range(0, len(waiting), RESUMED_MAX):
                self._resume(out, waiting[start : start + RESUMED_MAX])
        except BaseException:
            into.close()
            raise
        self._in, self._out = into, out

    def _resume(self, out: Client, futures: list[MeshFuture]) -> None:
        """Hear of these in this session too; what the node never took is first in the queue again."""
        accepted = [[future.task, future.tag] for future in futures if future.task is not None]
        unsure = [future for future in futures if future.task is None]
        tags = [future.tag for future in unsure]
        answer = out.call("session_resume", session=self._name, key=self._key, tasks=accepted, unsure=tags)
        took: dict[int, str] = dict(answer["took"])
        for tag, task in took.items():
            future = self._waiting[tag]
            future.task = task
            if future.cancelled():
                self._to_cancel.append(task)
        self._take_back(future for future in unsure if future.tag not in took)

    def _disconnect(self) -> None:
        for client in (self._in, self._out):
            if client is not None:
                client.close()
        self._in = self._out = None
        self._answers.clear()

    def _reconnected(self) -> bool:
        """Whether the node is back, in time; else everything that waits fails."""
        with self._lock:
            self._disconnect()
            self._under_way.clear()
        deadline = time.monotonic() + RECONNECT_S_MAX
        while not self._closing:
            try:
                with self._lock:
                    self._connect()
                    self._send_all()
                return True
            except (MeshError, OSError) as error:
                if time.monotonic() > deadline:
                    self.give_up(error)
                    return False
            time.sleep(RECONNECT_EVERY_S)
        return False

    def _take_back(self, batch: Iterable[MeshFuture]) -> None:
        """What was not accepted is first in the queue again."""
        again = list(batch)
        for future in again:
            del self._waiting[future.tag]
        self._unsent.extendleft(reversed(again))

    def give_up(self, error: Exception) -> None:
        """Everything that has not ended fails."""
        for future in self.futures():
            _fail(future, error)
        with self._lock:
            self._unsent.clear()
            self._waiting.clear()
            self._idle.notify_all()


def _resolve(future: MeshFuture, kind: str, what: object) -> None:
    try:
        value = value_of(kind, what, check=future.check)
    except BaseException as error:
        _fail(future, error)
        return
    try:
        if future.set_running_or_notify_cancel():
            future.set_result(value)
    except InvalidStateError:
        pass  # cancelled in this very moment


def _fail(future: MeshFuture, error: BaseException) -> None:
    try:
        if future.set_running_or_notify_cancel():
            future.set_exception(error)
    except InvalidStateError:
        pass
