"""All commands that an executor has running: starts, ends, watches them and writes down how they ended.

Promises: each start is answered by exactly one end on disk, whatever the command, its group or the disk did, or is
handed back and never begins; an end is told only when nothing of the command is left; nothing here waits.
"""

from __future__ import annotations

import os
import selectors
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from itertools import chain
from pathlib import Path

from openclaw.executor import record
from openclaw.executor.ends import ending, not_here
from openclaw.executor.leases import Leases
from openclaw.executor.logs import allowed_bytes
from openclaw.executor.outputs import remove
from openclaw.executor.paths import RUNS, SCRATCH, SCRATCH_VARIABLE, marker, parse_run_name, run_name
from openclaw.executor.process import (
    ERROR_CHARS_MAX,
    ExitRow,
    Limits,
    Refused,
    Spec,
    TokenRow,
    exit_code,
    start,
)
from openclaw.executor.queue import Queue
from openclaw.executor.run import DRAIN_S, FOREVER, LOGS, Phase, Run
from openclaw.executor.warden import Warden
from openclaw.faultpoints import passed
from openclaw.handlers.pool import Pool
from openclaw.platform import boot_clock_s, boot_id, exit_fd, free_disk_bytes, process_start
from openclaw.platform_limits import Confinement, Groups, confined

HeldRow = tuple[str, TokenRow, ExitRow | None]
UNWRITTEN_RETRY_S = 1.0
LOOK_EVERY_S = 1.0
REMOVALS_MAX = 4096
FREE = nullcontext(Confinement(None, "", "", frozenset()))


class Supervisor:
    """`started` and `exited` collect what the node is to hear; whoever serves it takes them from here."""

    def __init__(
        self,
        state_dir: str,
        base: dict[str, str],
        limits: Limits,
        selector: selectors.BaseSelector,
        groups: Groups | None,
    ) -> None:
        self.limits = limits
        self.runs = f"{state_dir}/{RUNS}"
        self.marker = marker(Path(state_dir), "")
        self.base = base
        self.selector = selector
        self.groups = groups
        self.running: dict[str, Run] = {}
        self.queue = Queue()
        self.leases = Leases()
        self.warden = Warden()
        self.jobs: deque[Iterator[None]] = deque()
        self.removals: deque[Iterator[None]] = deque()
        self.unwritten: dict[str, tuple[int, ExitRow]] = {}
        self.retry_at = FOREVER
        self.looked_at, self.allowed = -FOREVER, 0
        self.started: list[tuple[str, TokenRow, float]] = []
        self.exited: list[tuple[str, TokenRow, ExitRow]] = []
        self.handed_back: list[tuple[str, TokenRow]] = []
        self.pool = Pool(state_dir, base, selector, groups, self.warden, self.started, self.exited)

    # --- what the node asks ----------------------------------------------------------------------

    def start(self, spec: Spec, now: float) -> None:
        """Start a command, or answer with what became of it if it was started before."""
        passed("executor.asked")
        try:
            name = run_name(spec.task, spec.token)
        except ValueError as error:
            self.exited.append((spec.task, spec.token, ExitRow(125, "spawn", str(error)[:ERROR_CHARS_MAX])))
            return
        folder = f"{self.runs}/{name}"
        self.leases.begin(spec.task, spec.token, spec.until_s, boot_clock_s())
        if spec.handler:
            self.pool.start(spec, folder, now)
        elif name in self.queue:
            pass
        elif 0 < spec.until_s <= boot_clock_s() and not os.path.exists(f"{folder}/record"):
            self._never(name, spec, "lease")
        elif (self.queue or not self.queue.fits(spec, self.limits.slots)) and not os.path.exists(
            f"{folder}/record"
        ):
            self.queue.add(name, spec, now)
        else:
            self._begin(spec, name, folder, now)

    def _begin(self, spec: Spec, name: str, folder: str, now: float) -> None:
        self.pool.vacate(spec.gpus)
        try:
            for place in (folder, f"{folder}/{SCRATCH}"):
                try:
                    os.mkdir(place, 0o700)
                except FileExistsError:
                    pass
            record_fd = record.create(folder)
        except FileExistsError:
            self._answer_again(name, spec.task, spec.token)
        except OSError as error:
            row = ExitRow(125, "spawn", f"cannot make {folder} to run in: {error.strerror}")
            self.exited.append((spec.task, spec.token, row))
        else:
            passed("executor.recorded")
            self._launch(spec, name, folder, record_fd, now)

    def _launch(self, spec: Spec, name: str, folder: str, record_fd: int, now: float) -> None:
        mark = self.marker + name
        wall = time.time()
        marker_name, _, marker_value = mark.partition("=")
        environment = {**self.base, **dict(spec.env), marker_name: marker_value}
        environment[SCRATCH_VARIABLE] = f"{folder}/{SCRATCH}"
        if spec.until_s:
            with suppress(OSError):  # said when it is to be watched
                self.warden.prepare()
        try:
            with self._confined(spec, name) as confinement:
                process = start(spec, folder, environment)
        except Refused as refused:
            hint = not_here(spec, folder)
            error = f"{refused.error}; {hint}" if hint else refused.error
            row = ExitRow(refused.code, "spawn", error[:ERROR_CHARS_MAX], started=wall, ended=wall)
            self._write_end(name, spec.task, spec.token, record_fd, row)
            return
        passed("executor.spawned")
        exits = exit_fd(process.pid)
        run = Run(spec, name, folder, mark, process, exits, record_fd, now, wall, confinement)
        if spec.until_s:
            self._watch(run, now)
        self.running[name] = run
        self.queue.taken += spec.slots
        self.selector.register(run.exit_fd, selectors.EVENT_READ, run)
        self.started.append((spec.task, spec.token, wall))

    def _watch(self, run: Run, now: float) -> None:
        """What has a lease must not outlive us: nobody would end it in time."""
        try:
            self.warden.watch(run.process.pid)
        except OSError as error:
            run.end(
                "spawn", 0.0, now, f"nobody would end it in time: no /bin/sh can be started: {error.strerror}"
            )

    def _confined(self, spec: Spec, name: str) -> AbstractContextManager[Confinement]:
        if not (spec.memory_bytes or spec.cpus):
            return FREE
        taken = chain(
            self.pool.bound, (cpu for run in self.running.values() for cpu in run.confinement.bound)
        )
        return confined(self.groups, name, spec.memory_bytes, spec.cpus, taken)

    def _answer_again(self, name: str, task: str, token: TokenRow) -> None:
        row = self._held_row(name)
        if row and row[2]:
            self.exited.append((task, token, row[2]))
        elif name in self.running:
            self.started.append((task, token, self.running[name].started))

    def kill(self, task: str, token: TokenRow, reason: str, grace_s: float, now: float) -> None:
        """End a command. Its end is told when nothing of it is left; one that is not here has ended."""
        try:
            name = run_name(task, token)
        except ValueError:
            return
        if name in self.running:
            self.running[name].end(reason, grace_s, now)
            return
        if self.pool.kill(task, token, reason, grace_s, now):
            return
        if spec := self.queue.drop(name):
            self._never(name, spec, reason)
            return
        row = self._held_row(name)
        if row is None:
            ended = ExitRow(exit_code(0, reason), reason, "it was not running here")
            self.exited.append((task, token, ended))
        elif row[2]:
            self.exited.append((task, token, row[2]))

    def _never(self, name: str, spec: Spec, reason: str) -> None:
        """It is over before it began: told to end while it waited, or its lease was over."""
        row = ExitRow(exit_code(0, reason), reason, "it had not begun")
        folder = f"{self.runs}/{name}"
        try:
            os.makedirs(folder, 0o700, exist_ok=True)
            self._write_end(name, spec.task, spec.token, record.create(folder), row)
        except OSError:
            self.exited.append((spec.task, spec.token, row))

    def hand_back(self, now: float) -> None:
        """What waited too long for a slot is the node's again; only while there is one to hear of it."""
        self.handed_back += [(spec.task, spec.token) for spec in self.queue.overdue(now)]

    def forget(self, task: str, token: TokenRow) -> None:
        """Remove all of a run that has ended; one that runs is kept."""
        try:
            name = run_name(task, token)
        except ValueError:
            return
        if name not in self.running:
            kept = self.unwritten.pop(name, None)
            if kept:
                os.close(kept[0])
            folder = f"{self.runs}/{name}"
            if self.pool.forget(task, token) and not os.path.exists(folder):
                return
            (self.removals if self._light(folder) else self.jobs).append(self._remove(folder))

    def _remove(self, folder: str) -> Iterator[None]:
        try:
            yield from remove(folder)
        except OSError as error:
            print(f"{folder} is no longer needed and cannot be removed: {error}", file=sys.stderr, flush=True)

    def end_all(self, reason: str, grace_s: float, now: float, error: str = "") -> None:
        for run in self.running.values():
            run.end(reason, grace_s, now, error)
        for spec in self.queue.clear():
            self._never(run_name(spec.task, spec.token), spec, reason)
        self.pool.end_all(reason, grace_s, now, error)

    def held(self) -> Iterator[HeldRow]:
        """All runs that got as far as a record, and what handlers were called for."""
        for name in sorted(os.listdir(self.runs)):
            row = self._held_row(name)
            if row:
                yield row
        for spec in self.queue:
            yield (spec.task, spec.token, None)
        yield from self.pool.held()

    def _held_row(self, name: str) -> HeldRow | None:
        parsed = parse_run_name(name)
        if parsed is None:
            return None
        if name in self.running:
            return (*parsed, None)
        if name in self.unwritten:
            return (*parsed, self.unwritten[name][1])
        try:
            return (*parsed, record.read(f"{self.runs}/{name}")[1])
        except OSError:
            return None

    # --- what time and the system bring ----------------------------------------------------------

    def next_at(self) -> float:
        """When `tick` is due, on the clock that `now` is from; 0 while there is work to go on with."""
        if self.jobs or self._may_remove():
            return 0.0
        retry_at = self.retry_at if self.unwritten else FOREVER
        return min((retry_at, self.pool.next_at(), *(run.next_at for run in self.running.values())))

    def tick(self, now: float) -> None:
        """Timeouts, graces, logs, stragglers, and one step of each slow job."""
        for run in list(self.running.values()):
            if run.next_at <= now:
                self._attend(run, now)
        self.pool.tick(now)
        if self.leases:
            self._end_leases(now)
        self._fill(now)
        for _ in range(len(self.jobs)):
            self._step(self.jobs.popleft())
        if self._may_remove():
            self._step(self.removals.popleft(), self.removals)
        if self.unwritten and now >= self.retry_at:
            self._retry_unwritten(now)

    def _end_leases(self, now: float) -> None:
        for task, token, _ in self.exited:
            self.leases.drop(task, token)
        for task, token, left_s in self.leases.ending(boot_clock_s()):
            self.kill(task, token, "lease", left_s, now)

    def _fill(self, now: float) -> None:
        """Start what waits, as far as there is room."""
        self.pool.spare = self.limits.slots - self.queue.taken
        self.pool.feed(now)
        self.queue.others = self.pool.active
        while taken := self.queue.take(self.limits.slots):
            name, spec = taken
            self._begin(spec, name, f"{self.runs}/{name}", now)

    def _step(self, job: Iterator[None], jobs: deque[Iterator[None]] | None = None) -> None:
        """Go one step on, and come back for the next if there is one."""
        if next(job, True) is None:
            (self.jobs if jobs is None else jobs).append(job)

    def _light(self, folder: str) -> bool:
        """Whether a finished run holds next to nothing on the disk, so that its removal can wait."""
        try:
            os.rmdir(f"{folder}/{SCRATCH}")
            return all(os.stat(folder + log).st_size <= self.limits.inline_bytes for log in LOGS)
        except OSError:
            return False

    def _may_remove(self) -> bool:
        """Light folders are cleared away when nothing runs, or when too many have gathered."""
        return bool(self.removals) and (not self.running or len(self.removals) > REMOVALS_MAX)

    def _attend(self, run: Run, now: float) -> None:
        if now >= run.deadline:
            run.end("timeout", run.spec.grace_s, now, f"it ran longer than {run.spec.timeout_s:g} s")
        match run.phase:
            case Phase.RUNNING:
                if now >= run.kill_at:
                    run.kill()
                if now >= run.check_at:
                    self._note(run, now)
                    self._trim(run, now)
            case Phase.LINGERING if now >= run.kill_at or not run.survivors():
                self._reap(run, now)
            case Phase.LINGERING:
                run.poll_later(now)
            case Phase.DRAINING:
                self._drain(run, now)

    def _note(self, run: Run, now: float) -> None:
        """Write down which process it is, once it has lived for a moment.

        A short one is spared that (a sixth of its cost): until then the marker in its environment finds it.
        """
        if run.noted:
            return
        run.noted = True
        pid = run.process.pid
        try:
            record.append(run.record_fd, record.StartRow(pid, process_start(pid) or "", boot_id()))
        except OSError as error:
            run.end("spawn", 0.0, now, f"cannot write to {run.folder}: {error.strerror or error}")

    def _trim(self, run: Run, now: float) -> None:
        if now >= self.looked_at + LOOK_EVERY_S:  # at how full the disk is
            self.looked_at = now
            self.allowed = allowed_bytes(self.limits.kept_bytes, free_disk_bytes(self.runs))
        if not run.trim_logs(self.allowed, now):
            error = (
                f"its output passed {self.allowed} bytes, and the disk of {run.folder} cannot give "
                f"back the middle of a file: write less, or into a file in the scratch directory"
            )
            run.end("output", 0.0, now, error)

    def ended(self, run: Run, now: float) -> None:
        """The leader has ended: its exit descriptor is readable."""
        self.selector.unregister(run.exit_fd)
        run.exit_fd.close()
        run.deadline = FOREVER
        if run.ended_by and now < run.kill_at < FOREVER:
            run.phase = Phase.LINGERING
            run.check_at = now
            self._attend(run, now)
        else:
            self._reap(run, now)

    def _reap(self, run: Run, now: float) -> None:
        run.kill()
        self.warden.release(run.process.pid)
        run.process.wait()
        run.phase = Phase.DRAINING
        run.kill_at = now + DRAIN_S
        self._drain(run, now)

    def _drain(self, run: Run, now: float) -> None:
        left = run.survivors()
        if left and now < run.kill_at:
            run.poll_later(now)
            return
        if left:
            run.error = run.error or f"these processes of it cannot be ended: {left}"
        run.kill_at = run.check_at = FOREVER
        self._step(self._finish(run, now))

    # --- ends ------------------------------------------------------------------------------------

    def _finish(self, run: Run, now: float) -> Iterator[None]:
        """Take in what it left, and write down how it ended."""
        self._trim(run, now)
        row = yield from ending(run, self.limits, now)
        if run.group:
            run.group.remove()
        del self.running[run.name]
        self.queue.taken -= run.spec.slots
        self._write_end(run.name, run.spec.task, run.spec.token, run.record_fd, row)

    def _write_end(self, name: str, task: str, token: TokenRow, record_fd: int, row: ExitRow) -> None:
        passed("executor.ending")
        try:
            record.append(record_fd, row)
        except OSError as error:
            print(f"cannot write down how {name} ended, trying on: {error}", file=sys.stderr, flush=True)
            self.unwritten[name] = (record_fd, row)
            self.retry_at = 0.0
        else:
            os.close(record_fd)
        passed("executor.ended")
        self.exited.append((task, token, row))

    def _retry_unwritten(self, now: float) -> None:
        self.retry_at = now + UNWRITTEN_RETRY_S
        for name, (record_fd, row) in list(self.unwritten.items()):
            try:
                record.append(record_fd, row)
            except OSError:
                continue
            os.close(record_fd)
            del self.unwritten[name]
