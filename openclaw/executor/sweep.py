"""What an executor does first: put an end to what a lost one left running.

Promises: afterwards every run that got as far as a record has an end in it, and no process of one is alive.
A process is known by its number and start time within this boot, or by the marker in its environment, so a
stranger that was given an old number is never touched.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from openclaw.executor import record
from openclaw.executor.logs import head_bytes, trim
from openclaw.executor.paths import RUNS, marker, parse_run_name
from openclaw.executor.process import ENDED_CODES, ExitRow, Limits
from openclaw.executor.run import LOGS
from openclaw.handlers.pool import LOG, MARK
from openclaw.platform import boot_id, living, process_start

END_S_MAX = 5.0
POLL_S = 0.01


def sweep(state_dir: Path, limits: Limits) -> None:
    """End and write down whatever has a record without an end."""
    _end_handlers(state_dir)
    for name in sorted(os.listdir(state_dir / RUNS)):
        folder = str(state_dir / RUNS / name)
        if parse_run_name(name) is None:
            continue
        try:
            start, ended = record.read(folder)
            if ended is None:
                _write_end(folder, _end(start, marker(state_dir, name)), limits)
        except FileNotFoundError:
            continue  # its inputs were staged, it never started
        except OSError as error:
            print(f"cannot write down how {folder} ended: {error}", file=sys.stderr, flush=True)


def _end_handlers(state_dir: Path) -> None:
    """Warm processes of a lost executor, some of which may be busy; their logs say that there were any."""
    logs = sorted(state_dir.glob(LOG.format("*")))
    if logs:
        _end(None, marker(state_dir, MARK))
    for log in logs:
        log.unlink()


def _end(start: record.StartRow | None, mark: str) -> str:
    """Kill what is left of a run; what is to be said about it."""
    deadline = time.monotonic() + END_S_MAX
    seen: set[int] = set()
    while left := living(_own_group(start), mark):
        if time.monotonic() > deadline:
            return f"its executor was lost, and these processes of it cannot be ended: {left}"
        seen.update(left)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                pass
        time.sleep(POLL_S)
    if seen:
        return f"its executor was lost while it ran; {len(seen)} of its processes were still there and were ended"
    return "its executor was lost while it ran, and it is gone too: how it ended is not known"


def _own_group(start: record.StartRow | None) -> int:
    """The run's process group while its leader lives; 0 when the number may be a stranger's by now."""
    if start and start.boot == boot_id() and process_start(start.pid) == start.process_start:
        return start.pid
    return 0


def _write_end(folder: str, error: str, limits: Limits) -> None:
    logs = [
        trim(folder + log, limits.kept_bytes, 0) if os.path.exists(folder + log) else (0, 0) for log in LOGS
    ]
    (stdout, stdout_cut), (stderr, stderr_cut) = logs
    head = head_bytes(limits.kept_bytes)
    began = os.stat(folder).st_mtime
    row = ExitRow(
        ENDED_CODES["orphaned"],
        "orphaned",
        error,
        started=began,
        ended=time.time(),
        stdout_size=stdout,
        stderr_size=stderr,
        stdout_cut=stdout_cut,
        stderr_cut=stderr_cut,
        stdout_head=head if stdout_cut else 0,
        stderr_head=head if stderr_cut else 0,
    )
    fd = record.reopen(folder)
    try:
        record.append(fd, row)
    finally:
        os.close(fd)
