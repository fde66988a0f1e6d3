"""The node's side of its executor: asks it to start and end commands, hears how they ended.

Promises: after `start` there is an executor, this node's own or the one that its former self left, and
`ExecutorUp` has told all that it holds; when it dies another takes its place, told as `ExecutorDown` and then
`ExecutorUp`. What is asked while there is none is not done: the next `ExecutorUp` does not hold it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from openclaw import config, faultpoints
from openclaw.effects import Event, ExecutorDown, ExecutorUp, HandedBack, ProcessExited, ProcessStarted
from openclaw.errors import MeshError, Unavailable
from openclaw.executor.frames import Feed, Oversized, framed
from openclaw.executor.paths import RUNS, run_name, socket_path
from openclaw.executor.process import Limits, Spec, gpu_variables
from openclaw.handlers.pool import Offer
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.records import Held, Payload

LOG = logging.getLogger(__name__)
ALREADY_RUNS = 3
ORPHAN_S = 3600.0
GRACE_S = config.Settings().kill_grace_s
BACKOFF_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
STOP_MARGIN_S = 15.0
START_BYTES = 1 << 20  # a frame of starts is closed at this size
LOG_BYTES_MAX = 1 << 20
LIMITS = Limits(
    orphan_s=ORPHAN_S,
    kept_bytes=config.OUTPUT_KEPT_BYTES_MAX,
    inline_bytes=config.INLINE_OUTPUT_BYTES_MAX,
    file_bytes=config.FILE_BYTES_MAX,
    frame_bytes=config.EXECUTOR_FRAME_BYTES_MAX,
)


class _Frame(Struct, frozen=True, array_like=True, tag_field="kind"):
    """What the executor says; see `frames`."""


class _Held(_Frame, frozen=True, tag="held"):
    more: bool
    rows: tuple[Held, ...]


class _Started(_Frame, frozen=True, tag="started"):
    rows: tuple[tuple[TaskId, Token, float], ...]


class _Progress(_Frame, frozen=True, tag="progress"):
    rows: tuple[tuple[TaskId, Token, float, float, str], ...]


class _Back(_Frame, frozen=True, tag="back"):
    rows: tuple[tuple[TaskId, Token], ...]


class _Exited(_Frame, frozen=True, tag="exited"):
    rows: tuple[Held, ...]


DECODER = msgspec.msgpack.Decoder(_Held | _Started | _Progress | _Back | _Exited)
ENCODER = msgspec.msgpack.Encoder()


class Report(NamedTuple):
    """How far a handler says it has come: `done` of `total`, 0 when that is not known."""

    done: float
    total: float
    note: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A command whose inputs are staged in its scratch directory. `stdin_path` "" reads nothing."""

    task: TaskId
    token: Token
    payload: Payload
    owner: NodeId
    epoch: Epoch
    stdin_path: str = ""
    gpus: tuple[int, ...] = ()  # which it has to itself; none leaves the machine's own setting
    slots: int = 1  # it starts when so many are free
    until_s: float = 0.0  # when its lease is over, by `boot_clock_s`; 0 is never


class ExecutorLink(asyncio.Protocol):
    """One per node. `on_event` is called in the event loop; nothing here blocks it."""

    def __init__(
        self,
        state_dir: Path,
        on_event: Callable[[Event], None],
        node_name: str,
        orphan_s: float = ORPHAN_S,
        limits: Limits = LIMITS,
        grace_s: float = GRACE_S,
    ) -> None:
        self._state_dir = state_dir.absolute()
        self._on_event = on_event
        self._node_name = node_name
        self._limits = limits._replace(orphan_s=orphan_s)
        self._grace_s = grace_s
        self._transport: asyncio.Transport | None = None
        self._feed = Feed(limits.frame_bytes)
        self._held: list[Held] = []
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._leaving = False
        self._offer = Offer([], [], 0)
        self._leases: dict[tuple[TaskId, Token], float] = {}
        self.reports: dict[tuple[TaskId, Token], Report] = {}  # what handlers that run said last
        self.life = 0  # of executors that we had; counted when one is lost
        self._restoring: asyncio.Task[None] | None = None

    # --- life ------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Have an executor from now on; returns at once, and `ExecutorUp` tells when there is one."""
        self._restoring = asyncio.get_running_loop().create_task(self._restore())

    async def start(self) -> None:
        """Connect to the executor of this folder, starting it if there is none; raises Unavailable."""
        (self._state_dir / RUNS).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._leaving = False
        for wait_s in BACKOFF_S:
            if await self._dial():
                return
            code = await asyncio.to_thread(self._launch)
            if code not in (0, ALREADY_RUNS):
                break
            if await self._dial():
                return
            await asyncio.sleep(wait_s)  # another one is on its way out, and holds the folder until then
        raise Unavailable(
            f"the process that runs commands does not start in {self._state_dir}. "
            f"Its own words, in {self._log}: {self._last_words()}"
        )

    async def stop(self, grace_s: float | None = None) -> None:
        """The executor ends its commands and goes; what ended is told before this returns."""
        await self._end_restoring()
        if self._transport is None:
            return
        self._leaving = True
        grace = self._grace_s if grace_s is None else grace_s
        self._write(ENCODER.encode(("stop", grace)))
        try:
            await asyncio.wait_for(self._down.wait(), grace + STOP_MARGIN_S)
        except TimeoutError:
            LOG.error("the executor did not end in time; its log is %s", self._log)
            await self.detach()

    async def detach(self) -> None:
        """Leave the executor and what it runs; the next `start` in this folder finds them."""
        await self._end_restoring()
        self._leaving = True
        if self._transport is not None:
            self._transport.close()
            await self._down.wait()

    async def _end_restoring(self) -> None:
        if self._restoring is not None:
            self._restoring.cancel()
            await asyncio.gather(self._restoring, return_exceptions=True)
            self._restoring = None

    # --- what the node asks ----------------------------------------------------------------------

    def run(self, spec: RunSpec) -> None:
        """Start one command."""
        self.run_many((spec,))

    def run_many(self, specs: Iterable[RunSpec]) -> None:
        """Start commands, in order; each is answered by `ProcessStarted` unless refused, and `ProcessExited`;
        or by `HandedBack`."""
        rows: list[msgspec.Raw] = []
        size = 0
        for spec in specs:
            row = msgspec.Raw(ENCODER.encode(self._row(spec)))
            if rows and size + len(row) > START_BYTES:
                self._write(ENCODER.encode(("start", rows)))
                rows, size = [], 0
            rows.append(row)
            size += len(row)
        if rows:
            self._write(ENCODER.encode(("start", rows)))

    def offer(self, offer: Offer) -> None:
        """From now on handlers run here, and at most so many processes of them."""
        self._offer = offer
        self._write(ENCODER.encode(("handlers", *offer)))

    def kill(self, task: TaskId, token: Token, reason: str, grace_s: float) -> None:
        """End a command; its `ProcessExited` comes when nothing of it is left, at once if it is not there."""
        self._write(ENCODER.encode(("kill", ((task, token, reason, grace_s),))))

    def extend(self, task: TaskId, token: Token, until_s: float) -> None:
        """Its lease is over later, also if it is still on its way there."""
        self._leases[task, token] = until_s
        self._write(ENCODER.encode(("lease", ((task, token, until_s),))))

    def forget(self, runs: Sequence[tuple[TaskId, Token]]) -> None:
        """Remove the folders of runs that have ended or never started."""
        for run in runs:
            self._leases.pop(run, None)
        self._write(ENCODER.encode(("forget", runs)))

    def run_dir(self, task: TaskId, token: Token) -> Path:
        """Where a run has its `scratch`, `stdout` and `stderr`; ValueError for an id that no node minted."""
        return self._state_dir / RUNS / run_name(task, token)

    def _row(self, spec: RunSpec) -> Spec:
        payload = spec.payload
        mesh = {
            "TASK_ID": spec.task,
            "ATTEMPT": str(spec.token.attempt),
            "NODE": self._node_name,
            "OWNER": spec.owner,
            "EPOCH": str(spec.epoch.term),
        }
        return Spec(
            task=spec.task,
            token=spec.token,
            argv=list(payload.argv),
            env=[
                *payload.env,
                *((config.ENV_PREFIX + name, value) for name, value in mesh.items()),
                *gpu_variables(spec.gpus),
            ],
            cwd=payload.cwd,
            stdin_path=spec.stdin_path,
            timeout_s=payload.timeout_s,
            grace_s=self._grace_s,
            outputs=list(payload.outputs),
            handler=payload.handler,
            args=payload.args,
            memory_bytes=payload.memory_bytes,
            cpus=payload.cpus,
            local_files=list(payload.local_files),
            slots=spec.slots,
            gpus=list(spec.gpus),
            until_s=max(spec.until_s, self._leases.get((spec.task, spec.token), 0.0)),
        )

    def _write(self, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(framed(body, self._limits.frame_bytes))

    # --- the connection --------------------------------------------------------------------------

    async def _dial(self) -> bool:
        path = socket_path(self._state_dir, "executor.sock")
        try:
            await asyncio.get_running_loop().create_unix_connection(lambda: self, str(path))
        except OSError:
            return False
        up = asyncio.ensure_future(self._up.wait())
        down = asyncio.ensure_future(self._down.wait())
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        down.cancel()
        return self._up.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._feed = Feed(self._limits.frame_bytes)
        self._held = []
        self._up.clear()
        self._down.clear()
        self._write(ENCODER.encode(("hello", self._limits)))
        self._write(ENCODER.encode(("handlers", *self._offer)))

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._feed.feed(data):
                self._hear(DECODER.decode(body))
        except (Oversized, msgspec.DecodeError, UnicodeDecodeError) as error:
            LOG.error("the executor speaks in an unknown way (%s); connecting anew", error)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        was_up = self._up.is_set()
        self._transport = None
        self.reports.clear()
        self._up.clear()
        self._down.set()
        self.life += 1
        if was_up and not self._leaving:
            self._on_event(ExecutorDown())
            self.keep()

    def _hear(self, frame: _Held | _Started | _Progress | _Back | _Exited) -> None:
        match frame:
            case _Held(more, rows):
                self._held.extend(rows)
                if not more:
                    held, self._held = tuple(self._held), []
                    self._up.set()
                    self._on_event(ExecutorUp(held, self.life))
            case _Started(rows=started):
                for task, token, at in started:
                    self._on_event(ProcessStarted(task, token, at))
            case _Progress(rows=reports):
                for task, token, done, total, note in reports:
                    self.reports[task, token] = Report(done, total, note)
            case _Back(rows=back):
                for task, token in back:
                    self._on_event(HandedBack(task, token))
            case _Exited(rows=exited):
                for row in exited:
                    if row.exit is not None:
                        self.reports.pop((row.task, row.token), None)
                        self._on_event(ProcessExited(row.task, row.token, row.exit))

    async def _restore(self) -> None:
        """Until there is an executor again: without one this node is no worker, but still a member."""
        while True:
            try:
                await self.start()
                return
            except (MeshError, OSError) as error:
                LOG.error("%s", error)
                await asyncio.sleep(BACKOFF_S[-1])

    # --- the process -----------------------------------------------------------------------------

    @property
    def _log(self) -> Path:
        return self._state_dir / "executor.log"

    def _launch(self) -> int:
        """Start an executor; returns when it serves, or its exit code says why it does not."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name == faultpoints.VARIABLE or not name.startswith(config.ENV_PREFIX)
        }
        mode = "ab" if self._log.exists() and self._log.stat().st_size < LOG_BYTES_MAX else "wb"
        with self._log.open(mode) as log:
            return subprocess.run(
                [
                    *(sys.executable, "-P", "-m", "openclaw.executor.main", str(self._state_dir)),
                    *map(str, self._limits),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
                check=False,
            ).returncode

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return lines[-1] if lines else "none"
