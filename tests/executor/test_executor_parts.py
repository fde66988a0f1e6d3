"""The executor's parts on their own: frames, names, records, logs."""

from __future__ import annotations

import os
from pathlib import Path

import msgpack
import msgspec
import pytest

from openclaw.errors import BadState
from openclaw.executor import paths, record
from openclaw.executor.frames import Feed, Oversized, framed
from openclaw.executor.logs import BLOCK_BYTES, KEPT_BYTES_MIN, allowed_bytes, head_bytes, read_log, trim
from openclaw.executor.process import ExitRow
from openclaw.records import Exit


def test_an_exit_row_is_an_exit_field_by_field() -> None:
    assert ExitRow._fields == Exit.__struct_fields__
    assert msgspec.convert(ExitRow(0), tuple)[1:] == Exit.__struct_defaults__
    row = ExitRow(3, "", "", outputs=(("a", "b", 1),))
    assert msgspec.msgpack.decode(msgpack.packb(row), type=Exit).outputs[0].size == 1


def test_frames_arrive_however_they_are_cut() -> None:
    bodies = [b"", b"a", b"b" * 1000]
    stream = b"".join(framed(body, 1000) for body in bodies)
    for step in (1, 3, 7, len(stream)):
        feed = Feed(1000)
        got = [frame for i in range(0, len(stream), step) for frame in feed.feed(stream[i : i + step])]
        assert got == bodies


def test_a_frame_over_the_limit_is_refused_by_both_ends() -> None:
    with pytest.raises(Oversized):
        framed(b"x" * 11, 10)
    with pytest.raises(Oversized):
        Feed(10).feed(framed(b"x" * 11, 100)[:4])


def test_a_run_name_says_task_and_token() -> None:
    token = (2, "heir", 3, 4)
    name = paths.run_name("owner-boot7", token)
    assert paths.parse_run_name(name) == ("owner-boot7", token)
    assert name != paths.run_name("owner-boot7", (2, "other", 3, 4))
    assert paths.parse_run_name("anything") is None
    assert paths.parse_run_name("a.b.c.d.e") is None


@pytest.mark.parametrize("task", ["", ".", "..", "a/b", "a.b", "a\0", "a" * 129, "a\n"])
def test_names_that_no_node_mints_are_refused(task: str) -> None:
    with pytest.raises(ValueError):
        paths.run_name(task, (0, "owner", 1, 1))


def test_a_short_socket_path_stays_in_the_folder(tmp_path: Path) -> None:
    assert paths.socket_path(Path("/s"), "x.sock") == Path("/s/x.sock")
    deep = tmp_path / ("d" * 120)
    path = paths.socket_path(deep, "x.sock")
    assert len(os.fsencode(path)) <= paths.SOCKET_PATH_BYTES_MAX
    assert path == paths.socket_path(deep, "x.sock") != paths.socket_path(tmp_path / ("e" * 120), "x.sock")
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_socket_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    path = paths.socket_path(tmp_path / ("f" * 120), "x.sock")
    path.parent.chmod(0o755)
    with pytest.raises(BadState, match="open to others"):
        paths.socket_path(tmp_path / ("f" * 120), "x.sock")
    path.parent.rmdir()


def test_a_record_is_made_once_and_a_torn_end_is_no_end(tmp_path: Path) -> None:
    fd = record.create(str(tmp_path))
    with pytest.raises(FileExistsError):
        record.create(str(tmp_path))
    assert record.read(str(tmp_path)) == (None, None)
    start, end = record.StartRow(1, "2", "boot"), ExitRow(3, stdout=b"x" * 100)
    record.append(fd, start)
    assert record.read(str(tmp_path)) == (start, None)
    record.append(fd, end)
    os.close(fd)
    found = record.read(str(tmp_path))
    assert found[0] == start
    assert found[1] is not None
    assert found[1].stdout == end.stdout
    whole = (tmp_path / "record").read_bytes()
    (tmp_path / "record").write_bytes(whole[:-20])
    assert record.read(str(tmp_path)) == (start, None)


def test_offsets_in_a_cut_log_stay_true(tmp_path: Path) -> None:
    log, kept = tmp_path / "log", 8 * BLOCK_BYTES
    data = b"".join(b"%07d\n" % n for n in range(40 * BLOCK_BYTES // 8))
    cut = 0
    for part in range(0, len(data), 10_000):
        with log.open("ab") as file:
            file.write(data[part : part + 10_000])
        size, cut = trim(str(log), kept, cut)
        assert size - cut <= kept + BLOCK_BYTES
    offset, read = 0, b""
    pieces = []
    while True:
        offset, read = read_log(log, offset, 5000)
        if not read:
            break
        assert read == data[offset : offset + len(read)]
        pieces.append((offset, len(read)))
        offset += len(read)
    assert offset == size == len(data)
    assert sum(length for _, length in pieces) == size - cut


def test_a_log_may_be_as_long_as_asked_for_while_the_disk_has_plenty() -> None:
    assert allowed_bytes(2 << 30, 1 << 40) == 2 << 30
    assert allowed_bytes(2 << 30, 16 << 30) == 1 << 30
    assert allowed_bytes(2 << 30, 0) == KEPT_BYTES_MIN  # it is what was promised before the disk filled up
    assert allowed_bytes(1 << 20, 0) == 1 << 20
    assert head_bytes(2 << 30) == head_bytes(
        KEPT_BYTES_MIN
    )  # a cut begins where it began when there was more room
