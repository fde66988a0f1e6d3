"""`openclaw cp`: one file to another machine of the mesh, or from it."""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path

import click

from openclaw.cli.common import connect, json_option, state_dir_option
from openclaw.cli.output import emit, note, size_of, span, write_all

REMOTE = re.compile(r"([^/:]+):(.*)", re.DOTALL)
STDERR = 2
BAR_CHARS = 24
SILENT_S = 1.0


@click.command()
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@json_option
@state_dir_option
def cp(source: str, target: str, quiet: bool, as_json: bool) -> None:
    """Copy a file to another machine of the mesh (DST is NODE:PATH), or from it (SRC is NODE:PATH).

    \b
    openclaw cp film.mkv nas:films/
    openclaw cp nas:films/film.mkv .

    PATH is relative to the home of the user whose node it is. A copy that broke off goes on where it stopped when
    it is started again. A name with a colon on this machine: ./a:b.
    """
    there, back = REMOTE.fullmatch(target), REMOTE.fullmatch(source)
    remote = there or back
    if remote is None or (there and back):
        raise click.UsageError("one of the two is on another machine: SRC NODE:DST, or NODE:SRC DST")
    near = source if there else target
    absolute = os.path.join(Path(near).absolute(), "") if near.endswith("/") else str(Path(near).absolute())
    bar = Bar(quiet or not sys.stderr.isatty())
    try:
        with connect() as client:
            for frame in client.stream(
                "copy", node=remote[1], far=remote[2], near=absolute, back=back is not None
            ):
                if frame.get("event") == "progress":
                    bar.show(frame["received"], frame["size"])
    finally:
        bar.clear()
    if as_json:
        emit({key: frame[key] for key in ("path", "size", "sha256")})
    elif not quiet:
        place = f"{remote[1]}:{frame['path']}" if there else frame["path"]
        note(f"copied {size_of(frame['size'])} to {place}")


class Bar:
    """A line on a terminal's stderr, from the second second on."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._began = time.monotonic()
        self._first: tuple[float, int] | None = None
        self._shown = False

    def show(self, received: int, size: int) -> None:
        now = time.monotonic()
        self._first = self._first or (now, received)
        if self._silent or now - self._began < SILENT_S:
            return
        then, before = self._first
        rate = (received - before) / max(now - then, 0.001)
        left = f", {span((size - received) / rate)} left" if rate else ""
        filled = BAR_CHARS * received // max(size, 1)
        bar = "=" * filled + " " * (BAR_CHARS - filled)
        text = f"[{bar}] {size_of(received)} of {size_of(size)}, {size_of(int(rate))}/s{left}"
        write_all(STDERR, f"\r\x1b[K{text}".encode())
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            write_all(STDERR, b"\r\x1b[K")
