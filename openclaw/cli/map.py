"""`openclaw map`: one task a line, many under way at once, results in the order of the lines.

Bounded whatever the input: lines are read as they are needed, chunks of tasks are submitted while others run, and of
results that wait for their turn only what is printed is kept, their output up to a limit; past it the node, which has
it on disk, is asked again.
"""

from __future__ import annotations

import os
import selectors
import stat
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import click

from openclaw.cli.common import json_option, state_dir, state_dir_option
from openclaw.cli.output import emit, leave, note, write_all
from openclaw.cli.outputs import bring_back
from openclaw.cli.progress import EVERY_S, Progress
from openclaw.cli.request import task_options
from openclaw.cli.results import FIELDS, STREAMS, output
from openclaw.cli.template import Targets, Template
from openclaw.client import Client, Doc
from openclaw.config import (
    MAP_AHEAD_MAX,
    MAP_CHUNKS_MAX,
    MAP_HELD_BYTES_MAX,
    MAP_KEY_CHARS_MAX,
    MAP_LINE_BYTES_MAX,
    SUBMIT_BATCH_MAX,
)
from openclaw.errors import MeshError

PRINTED = ("id", "state", "exit_code", "error", *FIELDS)


@click.command("map")
@click.argument("file")
@click.argument("argv", nargs=-1, type=click.UNPROCESSED)
@click.option("--keep-going", is_flag=True, help="Run the others when one has failed.")
@click.option("--key", default="", metavar="KEY", help="The same KEY again goes on where this one got to.")
@task_options
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@state_dir_option
def map_lines(file: str, argv: tuple[str, ...], **options: Any) -> None:
    """Run a command or a skill once for each line of FILE (- is standard input), on all machines that can do it.

    \b
    ls *.wav | openclaw map - -- oggenc /share/{}
    openclaw map urls.txt --keep-going --retries 2 -- curl -fsS {}
    ls *.png | openclaw map --skill media:thumbnail -p file={} -p out=small-{} -

    {} stands for the line. Files that a skill puts out are written here when its task succeeded. Outputs come in the
    order of the lines; the exit code is 0 only if all succeeded. With --key nothing is cancelled when it is interrupted
    or crashes: the same command again prints all results from the first line on, and runs only what no node knows yet.
    A line or a command that was changed is a new task.
    """
    if len(options["key"]) > MAP_KEY_CHARS_MAX:
        raise click.UsageError(f"--key is over {MAP_KEY_CHARS_MAX} characters")
    with _opened(file) as source:
        mapping = Mapping(state_dir(), source, argv, options)
        try:
            failed = mapping.run()
        except (KeyboardInterrupt, BrokenPipeError, MeshError):
            mapping.cancel()
            raise
        finally:
            mapping.close()
    leave(1 if failed else 0)


def _opened(file: str) -> BinaryIO:
    if file == "-":
        return sys.stdin.buffer
    try:
        return Path(file).open("rb")
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None


class Chunk:
    """Tasks that were submitted together, and the connection on which their ends arrive."""

    def __init__(self, client: Client, ids: list[str], first: int) -> None:
        self.client = client
        self.index = {task: first + offset for offset, task in enumerate(ids)}


class Mapping:
    """One `map` from its first line to its last result. `run` returns how many tasks did not succeed."""

    def __init__(
        self, folder: Path, source: BinaryIO, argv: tuple[str, ...], options: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._options = options
        self._lines = enumerate(_lines(source))
        self._key: str = options["key"]
        self._job = f"map-{_digest(self._key) if self._key else os.urandom(4).hex()}"
        self._client = Client(folder)
        self._template = Template(self._client, argv, options)
        self._targets: dict[int, Targets] = {}  # of lines whose tasks have not been printed
        self._selector = selectors.DefaultSelector()
        self._chunks: set[Chunk] = set()
        self._refused: list[tuple[int, Doc]] = []  # by a full mesh; they are the next
        self._done: dict[int, Doc] = {}
        self._held_bytes = 0
        self._next = 0
        self._failed = 0
        self._read_all = False
        self._progress = Progress(options["quiet"] or not sys.stderr.isatty(), _size(source))

    def run(self) -> int:
        while True:
            while self._may_submit() and self._submit():
                pass
            if not self._chunks:
                break
            for key, _ in self._selector.select(EVERY_S):
                self._receive(key.data)
            self._print_in_order()
            self._progress.show(self._next + len(self._done), self._failed)
        self._progress.clear()
        return self._failed

    def cancel(self) -> None:
        """Everything that was submitted and has not ended; under a key it goes on, to be met again."""
        self._progress.clear()
        if self._key:
            note(f"what was submitted goes on; the same command with --key {self._key} picks it up")
            return
        left = [task for chunk in self._chunks for task in chunk.index]
        if left:
            note(f"cancelling {len(left)} tasks")
            with Client(self._folder) as client:
                for start in range(0, len(left), SUBMIT_BATCH_MAX):
                    client.call("cancel", ids=left[start : start + SUBMIT_BATCH_MAX])

    def close(self) -> None:
        for chunk in self._chunks:
            chunk.client.close()
        self._selector.close()
        self._client.close()

    def _may_submit(self) -> bool:
        under_way = len(self._chunks) < MAP_CHUNKS_MAX and len(self._done) < MAP_AHEAD_MAX
        return under_way and (bool(self._refused) or not self._read_all)

    def _submit(self) -> bool:
        """False while the mesh is full: what was refused is asked for again when some of ours have ended."""
        requests = self._refused or self._next_requests()
        if not requests:
            return True
        try:
            tasks = [request for _, request in requests]
            ids = self._client.call("submit", answer_s=None, tasks=tasks, wait=False)["ids"]
        except MeshError as error:
            if error.kind != "full" or not self._chunks:
                raise
            self._refused = requests
            return False
        self._refused = []
        chunk = Chunk(Client(self._folder), ids, requests[0][0])
        self._chunks.add(chunk)
        self._selector.register(chunk.client, selectors.EVENT_READ, chunk)
        chunk.client.request("wait", ids=ids)  # only now: an interrupt cancels what is among the chunks
        return True

    def _next_requests(self) -> list[tuple[int, Doc]]:
        """The next chunk of lines as tasks, with their numbers; empty when there are no more."""
        requests: list[tuple[int, Doc]] = []
        for number, line in self._lines:
            made, targets = self._template.made(number + 1, line)
            if targets:
                self._targets[number] = targets
            request = self._keyed(number, made)
            requests.append((number, request | {"job": self._job}))
            self._progress.read(line)
            if len(requests) == SUBMIT_BATCH_MAX:
                break
        else:
            self._read_all = True
            self._progress.read_all()
        return requests

    def _keyed(self, number: int, request: Doc) -> Doc:
        """A task of its own for each line, the same whenever that line and the command are."""
        if not self._key:
            return request
        return request | {"key": f"{self._key}/{number + 1}:{_digest(repr(request))}"}

    def _receive(self, chunk: Chunk) -> None:
        for frame in chunk.client.ready_frames():
            if "ok" in frame:
                self._selector.unregister(chunk.client)
                chunk.client.close()
                self._chunks.discard(chunk)
                return
            self._take(chunk.index.pop(frame["task"]["id"]), frame["task"])

    def _take(self, index: int, task: Doc) -> None:
        size = len(task["stdout"]) + len(task["stderr"])
        if self._held_bytes + size > MAP_HELD_BYTES_MAX:
            task["stdout"] = task["stderr"] = b""  # shorter than its size says: asked for again in its turn
            size = 0
        self._held_bytes += size
        fields = task.keys() - {"story"} if self._options["as_json"] else PRINTED
        self._done[index] = {field: task[field] for field in task if field in fields}
        if task["state"] != "succeeded":
            self._failed += 1
            if not self._options["keep_going"]:
                self._read_all, self._refused = True, []

    def _print_in_order(self) -> None:
        while (task := self._done.pop(self._next, None)) is not None:
            self._held_bytes -= len(task["stdout"]) + len(task["stderr"])
            self._progress.clear()
            self._print(task, self._next)
            self._next += 1
            if task["state"] != "succeeded" and not self._options["keep_going"]:
                raise MeshError(
                    f"line {self._next}: task {task['id']} {task['state']} (exit {task['exit_code']})"
                    f"{': ' + task['error'] if task['error'] else ''}; --keep-going runs the others",
                    kind="task_failed",
                )

    def _print(self, task: Doc, index: int) -> None:
        for name, stream in STREAMS:
            if self._options["as_json"]:
                task[name] = b"".join(output(self._client, task, name, stream))
                continue
            for data in output(self._client, task, name, stream):
                write_all(stream, data)
        targets = self._targets.pop(index, {})
        if targets and task["state"] == "succeeded":
            bring_back(self._client, task["id"], targets.get, quiet=True)
        if self._options["as_json"]:
            emit({"line": index + 1} | task)
        elif task["state"] != "succeeded" and self._options["keep_going"]:
            note(f"line {index + 1}: task {task['id']} {task['state']} (exit {task['exit_code']})")


def _lines(source: BinaryIO) -> Iterator[str]:
    """Raises `MeshError` for a line that no task can be given."""
    number = 0
    while line := source.readline(MAP_LINE_BYTES_MAX + 1):
        number += 1
        if len(line) > MAP_LINE_BYTES_MAX:
            raise MeshError(
                f"line {number} is over {MAP_LINE_BYTES_MAX >> 10} KiB; put such data in files",
                kind="too_large",
            )
        try:
            yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
        except UnicodeDecodeError:
            raise MeshError(
                f"line {number} is not valid UTF-8, and only text can be passed on", kind="usage"
            ) from None


def _digest(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _size(source: BinaryIO) -> int:
    """How many bytes there are to read; 0 when only the end of them will tell."""
    try:
        found = os.fstat(source.fileno())
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
