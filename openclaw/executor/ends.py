"""What is said of a command that has ended: its code, what it left, and what a person should know about it.

Promises: made in small steps (a `yield` after each), since outputs are hashed; the error is for people.
"""

from __future__ import annotations

import os
from collections.abc import Generator

from openclaw.executor.logs import head_bytes
from openclaw.executor.outputs import OutputRow, collect
from openclaw.executor.paths import SCRATCH
from openclaw.executor.process import ERROR_CHARS_MAX, ExitRow, Limits, Spec, exit_code
from openclaw.executor.run import LOGS, Run


def ending(run: Run, limits: Limits, now: float) -> Generator[None, None, ExitRow]:
    """The end of a run of which nothing is left; its logs are within their limits."""
    code, error = exit_code(run.process.returncode, run.ended_by), run.error
    outputs: list[OutputRow] = []
    if run.spec.outputs and not run.ended_by:
        outputs, wrong = yield from collect(f"{run.folder}/{SCRATCH}", run.spec.outputs, limits.file_bytes)
        if wrong and code == 0:
            code, error = 125, wrong
    if code and not run.ended_by:
        error = error or _too_much_memory(run) or not_here(run.spec, run.folder)
    head = head_bytes(limits.kept_bytes)
    return ExitRow(
        code,
        run.ended_by,
        error[:ERROR_CHARS_MAX],
        run.started,
        run.started + (now - run.began),
        now - run.began,
        stdout=_inline(run, 0, limits.inline_bytes),
        stderr=_inline(run, 1, limits.inline_bytes),
        stdout_size=run.sizes[0],
        stderr_size=run.sizes[1],
        stdout_cut=run.cuts[0],
        stderr_cut=run.cuts[1],
        outputs=tuple(outputs),
        stdout_head=head if run.cuts[0] else 0,
        stderr_head=head if run.cuts[1] else 0,
        memory_limit=run.confinement.memory,
        cpu_limit=run.confinement.cpus,
    )


def not_here(spec: Spec, folder: str) -> str:
    """What to do about an argument that names a file where the task was submitted and nothing here; or ""."""
    for word in spec.local_files:
        if not os.path.lexists(os.path.join(folder, SCRATCH, spec.cwd, word)):
            return (
                f"{word} is a file where the task was submitted and does not exist on this node: bring it along "
                f"with --input {word}; it is then called {os.path.basename(word)} here"
            )
    return ""


def _too_much_memory(run: Run) -> str:
    if run.group and run.group.out_of_memory():
        return f"it wanted more than the {run.spec.memory_bytes} bytes of memory it had asked for, and was killed"
    return ""


def _inline(run: Run, stream: int, inline_bytes: int) -> bytes:
    if not 0 < run.sizes[stream] <= inline_bytes:
        return b""
    try:
        with open(run.folder + LOGS[stream], "rb", buffering=0) as file:
            return file.read(run.sizes[stream]) or b""
    except OSError:
        return b""
