"""How answers look: JSON for programs, tables and plain lines for people.

Colour appears on a terminal only, and not where NO_COLOR is set; everything else is plain, aligned text.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import NoReturn

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400


def emit(document: object) -> None:
    """One JSON document on one line; followers see it at once."""
    import json

    print(json.dumps(document, ensure_ascii=False, default=_bytes), flush=True)


def _bytes(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} in a document")


def note(text: str) -> None:
    """A line for people, on stderr. Safe in a signal handler."""
    write_all(2, f"openclaw: {text}\n".encode("utf-8", "replace"))


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def leave(exit_code: int) -> NoReturn:
    """Ends the command with a task's own exit code."""
    import click

    raise click.exceptions.Exit(exit_code)


def fancy() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    rows = [tuple(row) for row in rows]
    if fancy():
        _rich_table(headers, rows)
        return
    lines = [tuple(headers), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        cells = zip(line, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())


def _rich_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for header in headers:
        drawn.add_column(header, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console().print(drawn)


_STYLES = {
    "alive": "green", "suspect": "yellow", "down": "red", "left": "dim", "incompatible": "red",
    "succeeded": "green", "running": "cyan", "failed": "red", "timed_out": "red", "lost": "red",
    "cancelled": "dim",
}  # fmt: skip


def facts(rows: Iterable[tuple[str, str]]) -> None:
    """Labelled lines, aligned."""
    rows = list(rows)
    width = max(len(label) for label, _ in rows)
    for label, text in rows:
        print(f"{label.ljust(width)}  {text}")


def span(span_s: float) -> str:
    """A span as people say it: 12s, 5m, 3h, 2d."""
    for unit_s, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "m")):
        if span_s >= unit_s:
            return f"{int(span_s // unit_s)}{unit}"
    return f"{max(0, int(span_s))}s"


def size_of(size_bytes: int) -> str:
    """A size as people say it: 12 bytes, 3.4 MB."""
    if size_bytes < 1000:
        return f"{size_bytes} bytes"
    size, units = size_bytes / 1000, ["kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.1f} {units[0]}"


def when(utc: str | None) -> str:
    """A UTC time of a document, local and relative."""
    if not utc:
        return "-"
    then = datetime.fromisoformat(utc)
    ago = span((datetime.now(UTC) - then).total_seconds())
    return f"{then.astimezone():%Y-%m-%d %H:%M:%S} ({ago} ago)"


def ref(document: object) -> str:
    """The name in `{"id", "name"}`, or a dash."""
    return str(document["name"]) if isinstance(document, dict) else "-"
