"""A name among the files is a proof of their content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from openclaw.errors import MeshError
from openclaw.files import Files, WrongContent

DATA = b"hello" * 1000
NAME = hashlib.sha256(DATA).hexdigest()


def test_what_is_put_in_is_found_under_its_hash(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    files = Files(tmp_path / "files")
    assert not files.has(NAME)
    assert files.put(source) == files.put_bytes(DATA) == (NAME, len(DATA))
    assert files.has(NAME)
    with files.open_read(NAME) as file:
        assert file.read() == DATA
    assert files.path(NAME).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "files").stat().st_mode & 0o777 == 0o700


def test_a_file_comes_in_pieces_and_over_a_break(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    with files.writer(NAME, len(DATA)) as writer:
        writer.write(DATA[:1234])
    assert not files.has(NAME)
    with files.writer(NAME, len(DATA)) as writer:
        assert writer.offset == 1234
        writer.write(DATA[1234:])
        assert not files.has(NAME)
        writer.commit()
    assert files.path(NAME).read_bytes() == DATA
    assert not list((tmp_path / "files" / "partial").iterdir())


@pytest.mark.parametrize("data", [DATA[:-1], DATA[:-1] + b"!", DATA + b"!"])
def test_wrong_content_never_appears_and_is_not_taken_up_again(tmp_path: Path, data: bytes) -> None:
    files = Files(tmp_path / "files")
    with files.writer(NAME, len(DATA)) as writer, pytest.raises(WrongContent):  # noqa: PT012
        writer.write(data)
        writer.commit()
    assert not files.has(NAME)
    with files.writer(NAME, len(DATA)) as writer:
        assert writer.offset == 0


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    with files.writer(NAME, len(DATA)) as one, files.writer(NAME, len(DATA)) as two:
        one.write(DATA[:2000])
        two.write(DATA)
        one.write(DATA[2000:])
        two.commit()
        one.commit()
    assert files.path(NAME).read_bytes() == DATA


def test_what_a_command_does_to_its_input_stays_its_own(tmp_path: Path) -> None:
    files = Files(tmp_path / "files")
    files.put_bytes(DATA)
    target = tmp_path / "scratch" / "in" / "data"
    files.link_into(NAME, target)
    target.write_bytes(b"changed")
    assert files.path(NAME).read_bytes() == DATA


@pytest.mark.parametrize("name", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63])
def test_only_a_hash_is_a_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(MeshError, match="not the hash"):
        Files(tmp_path / "files").has(name)


def test_sizes_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openclaw.files.FILE_BYTES_MAX", 100)
    files = Files(tmp_path / "files")
    with pytest.raises(OSError, match="larger"):
        files.put_bytes(DATA)
    with pytest.raises(MeshError, match="at most"), files.writer(NAME, len(DATA)):
        pass
    assert not list((tmp_path / "files" / "partial").iterdir())


def test_a_folder_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        Files(tmp_path / "files").put(tmp_path)
