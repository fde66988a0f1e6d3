"""The warm processes of one executor: starts, feeds, watches and ends them, and answers for what they were given.

Promises: each call has exactly one end, whatever its handler did to its process; at most `slots` processes, each for
calls of one kind (GPUs and limits) as long as it lives; what was behind a call that killed its process begins in
another; nothing here waits. The ends are kept until they are
forgotten, in memory alone: without this executor there are no processes either, and nobody knows.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgpack

from openclaw import config
from openclaw.executor.frames import Oversized
from openclaw.executor.paths import marker
from openclaw.executor.process import ERROR_CHARS_MAX, ExitRow, Spec, TokenRow, exit_code
from openclaw.executor.warden import Warden
from openclaw.handlers.process import FOREVER, Call, Kind, Process, launch
from openclaw.platform_limits import Group, Groups, confined

MARK = "handlers"
LOG = "handlers-{}.log"
LOG_TAIL_BYTES = 4096
TELL_S = 0.005  # what ends sooner is told with its end
RETURN_S = 0.02  # what was thought to be quick and is not gives back what is behind it
LOOK_EVERY_S = 1.0
QUICK_S = 0.001
EWMA_WEIGHT = 0.1

Key = tuple[str, TokenRow]
ProgressRow = tuple[str, TokenRow, float, float, str]


class Offer(NamedTuple):
    """What the node offers: where its handlers are, and how many tasks may run at a time."""

    references: list[str]
    folders: list[str]
    slots: int


class Pool:
    """What the node is to hear of ends and late starts goes into the supervisor's own lists."""

    def __init__(
        self,
        state_dir: str,
        base: dict[str, str],
        selector: selectors.BaseSelector,
        groups: Groups | None,
        warden: Warden,
        started: list[tuple[str, TokenRow, float]],
        exited: list[tuple[str, TokenRow, ExitRow]],
    ) -> None:
        self._state_dir = state_dir
        self._selector, self._groups, self._warden = selector, groups, warden
        self._emptying: list[Group] = []
        self._spawned = 0
        name, _, value = marker(Path(state_dir), MARK).partition("=")
        self._environment = {**base, name: value}
        if "PYTHONPATH" in os.environ:
            self._environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        self._started, self._exited = started, exited
        self._progress: dict[Key, ProgressRow] = {}
        self._offer = Offer([], [], 0)
        self._calls: dict[Key, Call] = {}
        self._waiting: dict[Kind, deque[Call]] = {}  # none of them is empty
        self._processes: list[Process] = []
        self._ended: dict[Key, ExitRow] = {}
        self._took_s: dict[str, float] = {}
        self._sequence = 0
        self.spare = 1 << 16  # processes that may be at work at once: what commands leave of the slots

    @property
    def active(self) -> int:
        """Processes that are at work."""
        return sum(bool(process.calls) for process in self._processes)

    @property
    def busy(self) -> bool:
        return bool(self._calls)

    @property
    def bound(self) -> Iterator[int]:
        """Processors that processes are bound to, once for each."""
        return (cpu for process in self._processes for cpu in process.confinement.bound)

    # --- what the node asks ----------------------------------------------------------------------

    def offer(self, offer: Offer) -> None:
        """From now on these handlers: every node that starts says so, and its code may be another."""
        self._offer = offer
        for process in list(self._processes):
            self._retire(process)

    def start(self, spec: Spec, folder: str, now: float) -> None:
        """Answered as commands are; one that was started before with what became of it."""
        key = _key(spec.task, spec.token)
        if key in self._ended:
            self._exited.append((spec.task, spec.token, self._ended[key]))
            return
        if key in self._calls:
            return
        self._sequence += 1
        call = self._calls[key] = Call(spec, key, self._sequence, folder)
        self.vacate(spec.gpus, heir=call.kind)
        self._wait((call,))
        if self._offer.references:
            self.feed(now)
        else:
            self._fail_waiting(call.kind, "this node offers no handlers: start it with --handlers MODULE")

    def vacate(self, gpus: Sequence[int], heir: Kind | None = None) -> None:
        """A task has these from now on: a process that had one of them lets go of it, unless it is of the `heir` kind.

        None of them is at work: a GPU belongs to one task at a time.
        """
        for process in list(self._processes) if gpus else ():
            if process.kind != heir and not process.calls and set(gpus) & set(process.kind.gpus):
                self._retire(process)

    def kill(self, task: str, token: TokenRow, reason: str, grace_s: float, now: float) -> bool:
        """Whether the call was here; its end is told when its handler has ended."""
        key = _key(task, token)
        if key in self._ended:
            self._exited.append((task, token, self._ended[key]))
            return True
        call = self._calls.get(key)
        if call is not None:
            self._end(call, reason, grace_s, now)
        return call is not None

    def forget(self, task: str, token: TokenRow) -> bool:
        """Whether the call was here, and had ended."""
        return self._ended.pop(_key(task, token), None) is not None

    def end_all(self, reason: str, grace_s: float, now: float, error: str = "") -> None:
        for call in list(self._calls.values()):
            self._end(call, reason, grace_s, now, error)

    def held(self) -> Iterator[tuple[str, TokenRow, ExitRow | None]]:
        for call in self._calls.values():
            yield (call.spec.task, call.spec.token, None)
        for (task, token), row in self._ended.items():
            yield (task, token, row)

    def take_progress(self) -> list[ProgressRow]:
        """What handlers have said of how far they are, since the last time."""
        rows = list(self._progress.values())
        self._progress.clear()
        return rows

    def close(self) -> None:
        """The executor goes, and its processes with it."""
        for process in list(self._processes):
            process.kill()

    # --- what time and the processes bring -------------------------------------------------------

    def next_at(self) -> float:
        return min((process.next_at for process in self._processes), default=FOREVER)

    def tick(self, now: float) -> None:
        for process in list(self._processes):
            if process.next_at <= now:
                self._attend(process, now)

    def serve(self, process: Process, ready: object, now: float) -> None:
        """Its socket or its exit is `ready`."""
        if process not in self._processes:
            return
        try:
            for frame in process.receive(ready):
                self._hear(process, frame, now)
        except (Oversized, ValueError, TypeError, msgpack.UnpackException) as error:
            process.kill()
            process.error = f"its process said what cannot be read: {error!r}"
        if process.gone:
            self._bury(process, now)
        self.feed(now)

    def feed(self, now: float) -> None:
        """Give what waits to processes that are free, and start more of those as long as there are slots."""
        for kind, calls in list(self._waiting.items()):
            while calls and (process := self._free(calls[0])) is not None:
                self._give(process, calls.popleft(), now)
            if not calls:
                del self._waiting[kind]
        for kind in sorted(self._waiting, key=lambda kind: self._waiting[kind][0].seq):
            self._make_room(kind, now)

    def _make_room(self, kind: Kind, now: float) -> None:
        """Start processes of a kind. Where others have all the slots one of those goes, idle, or for who is first."""
        calls = self._waiting.get(kind, deque())
        alike = [process for process in self._processes if process.kind == kind]
        others = [process for process in self._processes if process.kind != kind]
        starting = sum(not process.ready or not (process.calls or process.retiring) for process in alike)
        while len(calls) > starting and len(self._processes) < self._offer.slots:
            if any(set(kind.gpus) & set(process.kind.gpus) for process in others):
                return  # who has its GPU is on the way out, and goes first
            self._spawn(kind, now)
            starting += 1
        going = sum(process.retiring for process in self._processes)
        could = [process for process in others if process.ready and not process.retiring]
        if len(calls) > starting + going and could:
            least = min(could, key=lambda process: len(process.calls))
            behind = self._waiting.get(least.kind)
            if not least.calls or not (alike or (behind and behind[0].seq < calls[0].seq)):
                self._retire(least)

    def _free(self, call: Call) -> Process | None:
        """An idle process of its kind; for a call that will be quick also one with a few of the same before it."""
        quick = self._took_s.get(call.spec.handler, FOREVER) < QUICK_S
        best: Process | None = None
        full = self.active >= self.spare
        for process in self._processes:
            if process.kind != call.kind or not process.ready or process.retiring:
                continue
            if not process.calls:
                if full:
                    continue
                return process
            if quick and process.quick and len(process.calls) < config.HANDLER_CALLS_AHEAD_MAX:
                best = process if best is None or len(process.calls) < len(best.calls) else best
        return best

    def _wait(self, calls: Iterable[Call], *, front: bool = False) -> None:
        for call in calls:
            waiting = self._waiting.setdefault(call.kind, deque())
            if front:
                waiting.appendleft(call)
            else:
                waiting.append(call)

    def _give(self, process: Process, call: Call, now: float) -> None:
        spec = call.spec
        call.process = process
        if not process.calls:
            self._begin(call, now)
        process.calls.append(call)
        process.quick = self._took_s.get(spec.handler, FOREVER) < QUICK_S
        process.idle_since = FOREVER
        process.send(
            "task", call.seq, spec.handler, spec.args, spec.stdin_path, call.folder, spec.outputs, spec.task,
            spec.token[3],
        )  # fmt: skip

    def _begin(self, call: Call, now: float) -> None:
        call.began = now
        call.tell_at = now + TELL_S
        call.return_at = now + RETURN_S
        if call.spec.timeout_s:
            call.deadline = now + call.spec.timeout_s

    def _spawn(self, kind: Kind, now: float) -> None:
        slot = next(n for n in range(self._offer.slots) if all(p.slot != n for p in self._processes))
        self._spawned += 1
        name = f"{MARK}-{self._spawned}"
        try:
            with confined(self._groups, name, kind.memory_bytes, kind.cpus, self.bound) as confinement:
                process = launch(slot, kind, confinement, self._log(slot), self._environment, self._selector)
        except OSError as error:
            self._fail_waiting(kind, f"cannot start a process for handlers: {error.strerror}")
            return
        process.look_at = now + LOOK_EVERY_S
        self._processes.append(process)
        with suppress(OSError):  # whoever follows this executor ends it then
            self._warden.watch(process.pid)
        process.send("load", self._offer.references, self._offer.folders, kind.gpus)

    def _log(self, slot: int) -> str:
        return f"{self._state_dir}/{LOG.format(slot)}"

    def _fail_waiting(self, kind: Kind, error: str) -> None:
        for call in self._waiting.pop(kind, ()):
            self._finish(call, ExitRow(125, "spawn", error[:ERROR_CHARS_MAX]))

    # --- what a process says ---------------------------------------------------------------------

    def _hear(self, process: Process, frame: list[Any], now: float) -> None:
        match frame:
            case ["done", seq, *answer]:
                self._done(process, process.take(seq), answer, now)
            case ["returned", [*seqs]]:
                self._wait(reversed(process.give_back(set(seqs))), front=True)
            case ["progress", seq, done, total, note] if process.calls and process.calls[0].seq == seq:
                task, token = process.calls[0].key
                self._progress[task, token] = (task, token, float(done), float(total), str(note))
            case ["ready", _]:
                process.ready = True
                process.idle_since = now
            case ["broken", error]:
                self._fail_waiting(process.kind, str(error))
                self._retire(process)

    def _done(self, process: Process, call: Call, answer: list[Any], now: float) -> None:
        code, error, result, runtime_s, stdout, stderr, outputs, *_ = answer
        process.served += 1
        if process.calls:
            self._begin(process.calls[0], now)
        else:
            process.idle_since = now
        took_s = self._took_s.get(call.spec.handler, runtime_s)
        self._took_s[call.spec.handler] = took_s + EWMA_WEIGHT * (runtime_s - took_s)
        wall = time.time()
        if call.ended_by:
            code, error, result, outputs = exit_code(0, call.ended_by), call.error or error, b"", []
            process.retiring = True  # it was interrupted anywhere: what it has in memory is not to be trusted
        row = ExitRow(
            code, call.ended_by, error, wall - runtime_s, wall, runtime_s, stdout, stderr, len(stdout), len(stderr),
            outputs=tuple((str(name), str(sha256), int(size)) for name, sha256, size in outputs), result=result,
            memory_limit=process.confinement.memory, cpu_limit=process.confinement.cpus,
        )  # fmt: skip
        self._finish(call, row)
        spoilt = "MemoryError" in error  # what it wanted too much of, it may still have
        if process.retiring or spoilt or process.served >= config.HANDLER_TASKS_PER_PROCESS:
            self._retire(process)

    def _finish(self, call: Call, row: ExitRow) -> None:
        del self._calls[call.key]
        self._progress.pop(call.key, None)
        self._ended[call.key] = row
        self._exited.append((call.spec.task, call.spec.token, row))

    # --- ends ------------------------------------------------------------------------------------

    def _end(self, call: Call, reason: str, grace_s: float, now: float, error: str = "") -> None:
        """Ask its handler to end; after the grace its process is killed. The first reason stands."""
        process = call.process
        if process is None:
            waiting = self._waiting[call.kind]
            waiting.remove(call)
            if not waiting:
                del self._waiting[call.kind]
            self._finish(call, ExitRow(exit_code(0, reason), reason, error or "it had not begun"))
            return
        if not call.ended_by:
            call.ended_by, call.error = reason, error
            process.send("end", call.seq)
            process.signal(signal.SIGTERM)
        call.deadline = FOREVER
        call.kill_at = min(call.kill_at, now + grace_s)

    def _attend(self, process: Process, now: float) -> None:
        process.look_at = now + LOOK_EVERY_S
        process.trim_log()
        if now >= process.idle_since + config.HANDLER_IDLE_S:
            self._retire(process)
        if not process.calls:
            return
        call = process.calls[0]  # what is behind it has not begun: its time comes when it is first
        if now >= call.tell_at:
            call.tell_at = FOREVER
            self._started.append((call.spec.task, call.spec.token, time.time() - (now - call.began)))
        if now >= call.return_at:
            call.return_at = FOREVER
            process.recall()
        if now >= call.deadline:
            self._end(
                call, "timeout", call.spec.grace_s, now, f"it ran longer than {call.spec.timeout_s:g} s"
            )
        if now >= call.kill_at:
            call.kill_at = FOREVER
            process.kill()

    def _retire(self, process: Process) -> None:
        """It gets nothing more, and goes when what it has is done."""
        process.retiring = True
        if not process.calls:
            process.kill()

    def _bury(self, process: Process, now: float) -> None:
        """It has ended: so has what it worked on, and what it had not begun starts again elsewhere."""
        self._processes.remove(process)
        self._warden.release(process.pid)
        returncode = process.reap()
        calls, process.calls = process.calls, deque()
        if calls:
            call = calls.popleft()
            code = exit_code(returncode, call.ended_by) or 1
            error = call.error if call.ended_by else process.error or _death(returncode, process)
            tail = process.log_tail(LOG_TAIL_BYTES)
            wall, runtime_s = time.time(), now - call.began
            row = ExitRow(
                code, call.ended_by, error[:ERROR_CHARS_MAX], wall - runtime_s, wall, runtime_s,
                stderr=tail, stderr_size=len(tail),
                memory_limit=process.confinement.memory, cpu_limit=process.confinement.cpus,
            )  # fmt: skip
            self._finish(call, row)
        elif not process.ready and not process.retiring:
            ended = f"the process for handlers ends as it starts: {_death(returncode, process)}"
            self._fail_waiting(process.kind, ended)
        for call in calls:
            call.process = None
        self._wait(reversed(calls), front=True)
        for call in calls:
            if call.ended_by:  # it was told to end before it began
                reason, call.ended_by = call.ended_by, ""
                self._end(call, reason, 0.0, now, call.error)
        process.close()
        if process.confinement.group:
            self._emptying.append(process.confinement.group)
        self._emptying = [group for group in self._emptying if not group.remove()]


def _key(task: str, token: TokenRow) -> Key:
    takeover, owner, incarnation, attempt = token
    return task, (takeover, owner, incarnation, attempt)


def _death(returncode: int, process: Process) -> str:
    group, limit = process.confinement.group, process.kind.memory_bytes
    if group and group.out_of_memory():
        return f"it wanted more than the {limit} bytes of memory it had asked for, and was killed"
    if returncode >= 0:
        hint = f"; it has {limit} bytes of memory" if limit and not process.ready else ""
        return f"its process ended itself with exit code {returncode}{hint}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    memory = "; perhaps the machine ran out of memory" if -returncode == signal.SIGKILL else ""
    return f"its process was ended by signal {-returncode} ({name}){memory}"
