"""In the foreground: a task's output on ours as it comes, its exit code ours, and what Ctrl-C means.

The first Ctrl-C cancels the task and waits for its end, the second leaves it alone. The signal handler
does this itself, between two reads, so that no byte of a frame is lost to an exception.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from openclaw.cli.output import note, size_of, write_all
from openclaw.client import Client, Doc
from openclaw.errors import MeshError

EXIT_CANCELLED = 130
EXIT_MESH = 125
STDOUT, STDERR = 1, 2


class Detached(MeshError):
    """The person pressed Ctrl-C twice; the task is left to itself."""

    kind = "detached"
    exit_code = EXIT_CANCELLED


class Following:
    """One task in the foreground, from its submission or from wherever it is."""

    def __init__(self, state_dir: Path, *, quiet: bool, stdout: int = STDOUT, task: str = "") -> None:
        self.task = task
        self._state_dir = state_dir
        self._quiet = quiet
        self._streams = {1: stdout, 2: STDERR}
        self._interrupts = 0

    def follow(self, frames: Iterator[Doc]) -> Doc:
        """The final answer. Raises `Detached`, BrokenPipeError if nobody reads us, or what the node said."""
        with self._interruptible():
            try:
                for frame in frames:
                    if "ok" in frame:
                        return frame
                    self._show(frame)
            except BrokenPipeError:
                self._cancel()
                raise
            except MeshError as error:
                if error.kind != "node_gone":
                    raise
                known = f"The task goes on or starts again: openclaw task wait {self.task}"
                unknown = "Whether it took the task, it says when it runs again: openclaw tasks"
                raise MeshError(
                    f"{error}. {known if self.task else unknown}", kind=error.kind, exit_code=EXIT_MESH
                ) from None
        raise AssertionError("a stream ends with its final answer or raises")

    def _show(self, frame: Doc) -> None:
        match frame["event"]:
            case "out":
                write_all(self._streams[frame["stream"]], frame["data"])
            case "accepted":
                self.task = frame["id"]
                if self._interrupts:
                    self._cancel()
            case "placed" if not self._quiet:
                note(f"running on {frame['node']}")

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        before = signal.signal(signal.SIGINT, self._interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _interrupt(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._interrupts > 1:
            raise Detached(
                f"left to itself; read it later: openclaw task wait {self.task or '(not accepted yet)'}"
            )
        note(f"cancelling {self.task or 'the task'} (Ctrl-C again leaves it running)")
        if self.task:
            self._cancel()

    def _cancel(self) -> None:
        with Client(self._state_dir) as client:
            client.call("cancel", ids=[self.task])


def end(task: Doc) -> int:
    """The exit code that a task's end means for us; says why where its own output cannot have."""
    code = task["exit_code"]
    result = task["result"] or {}
    for stream in ("stdout", "stderr"):
        if cut := result.get(f"{stream}_cut_bytes"):
            note(
                f"{size_of(cut)} were cut out of the middle of its {stream}: more was written than its node keeps"
            )
    if task["error"] or task["state"] in ("timed_out", "lost"):
        note(f"task {task['id']} {task['state']}: {task['error'] or 'no reason is known'}")
    return EXIT_MESH if code is None else int(code)
