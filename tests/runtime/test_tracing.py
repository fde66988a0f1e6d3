"""A node's trace: nothing when nobody asked, what the node did when somebody did, and never the end of the node."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.local_mesh import LocalMesh
from openclaw.errors import MeshError
from openclaw.runtime.context import Context
from openclaw.runtime.tracing import VARIABLE, TraceFile, Tracing
from openclaw.trace import (
    DownRow,
    EndRow,
    LeaderRow,
    MarkRow,
    ReceiveRow,
    SendRow,
    StartRow,
    TaskRow,
    UpRow,
    decode,
)


def complain(*words: object) -> None:
    raise AssertionError(words)


async def test_taps_give_back_what_they_got_when_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    async with contextlib.AsyncExitStack() as stack:
        tracing = Tracing(cast(Context, None), stack, complain)
        thing: Any = object()
        taps: list[Callable[[Any], object]] = [
            tracing.sending,
            tracing.receiving,
            tracing.performing,
            tracing.posting,
        ]
        assert all(tap(thing) is thing for tap in taps)


def test_a_file_that_is_full_says_so_and_grows_no_more(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    file = TraceFile(path, complain, bytes_max=2000)
    for second in range(100):
        file.write(MarkRow(float(second), "a", "something"))
    file.close()
    rows = [decode(line) for line in path.read_bytes().splitlines()]
    assert path.stat().st_size < 2200
    assert isinstance(rows[-1], MarkRow)
    assert "full" in rows[-1].text
    assert None not in rows


def test_a_disk_that_is_full_ends_the_trace_and_nothing_else() -> None:
    said: list[str] = []
    file = TraceFile(Path("/dev/full"), lambda text, _: said.append(text))
    for second in range(20_000):
        file.write(MarkRow(float(second), "a", "something"))
    file.close()
    assert len(said) == 1


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(MeshError, match="no_such"):
        TraceFile(tmp_path / "no_such" / "trace.jsonl", complain)


def test_real_nodes_write_down_what_they_did(tmp_path: Path) -> None:
    mesh = LocalMesh(("a", "b"))
    for name in ("a", "b"):
        mesh[name].environ = {**mesh[name].environ, VARIABLE: str(tmp_path / name)}
    with mesh:
        mesh["a"].ok("run", "-q", "--node", "b", "--", "true")
        ids = [mesh[name].id for name in ("a", "b")]
        assert [mesh[name].stop() for name in ("b", "a")] == [0, 0]
    a, b = ([decode(line) for line in (tmp_path / name).read_bytes().splitlines()] for name in ("a", "b"))
    assert {row.node for row in a if row} == {ids[0]}
    assert {type(row) for row in a} >= {UpRow, LeaderRow, TaskRow, DownRow}
    assert {type(row) for row in b} >= {UpRow, StartRow, EndRow, DownRow}
    sent = {(row.node, row.to, row.id) for row in a + b if isinstance(row, SendRow)}
    came = {(row.sender, row.node, row.id) for row in a + b if isinstance(row, ReceiveRow)}
    assert came
    assert came <= sent, "both ends call a message by one name"
