"""A state folder is one node's, on one machine, and nobody else's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from openclaw import platform
from openclaw.errors import BadState
from openclaw.trust.identity import Identity


def test_the_folder_keeps_the_node(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "state"
    with Identity.open(folder, "box") as first:
        node = first.keys.node_id
    with Identity.open(folder, "box") as again:
        assert again.keys.node_id == node
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert not list(folder.glob("*.new"))


def test_a_running_node_is_named(tmp_path: Path) -> None:
    with Identity.open(tmp_path / "s", "box"):
        with pytest.raises(BadState, match=rf"'box' already runs.*pid {os.getpid()}") as caught:
            Identity.open(tmp_path / "s", "other")
        assert (caught.value.kind, caught.value.exit_code) == ("already_runs", 125)
    Identity.open(tmp_path / "s", "other").close()


def test_a_killed_node_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\nfrom openclaw.trust.identity import Identity\n"
        "held = Identity.open(pathlib.Path(sys.argv[1]), 'x')\nprint('held', flush=True)\nsys.stdin.read()"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "s")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(BadState, match=f"pid {child.pid}"):
        Identity.open(tmp_path / "s", "y")
    child.send_signal(signal.SIGKILL)
    child.communicate()
    Identity.open(tmp_path / "s", "y").close()


def test_a_copy_on_another_machine_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine_id", lambda: "a" * 32)
    Identity.open(tmp_path / "s", "x").close()
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    (tmp_path / "copy").chmod(0o700)
    monkeypatch.setattr(platform, "machine_id", lambda: "b" * 32)
    with pytest.raises(BadState, match=r"another machine.*mv .*--join TOKEN"):
        Identity.open(tmp_path / "copy", "x")
    (tmp_path / "copy" / "machine").unlink()
    with pytest.raises(BadState, match="lost the file"):
        Identity.open(tmp_path / "copy", "x")


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "is_network_filesystem", lambda _: True)
    with pytest.raises(BadState, match=r"network file system.*--state-dir"):
        Identity.open(tmp_path / "s", "x")
    assert not (tmp_path / "s" / "seed").exists()


@pytest.mark.parametrize(("name", "mode"), [("", "700"), ("seed", "600")])
def test_what_others_can_read_is_refused(tmp_path: Path, name: str, mode: str) -> None:
    folder = tmp_path / "s"
    Identity.open(folder, "x").close()
    (folder / name).chmod(0o755)
    with pytest.raises(BadState, match=f"chmod {mode} "):
        Identity.open(folder, "x")


def test_a_damaged_seed_is_refused(tmp_path: Path) -> None:
    Identity.open(tmp_path / "s", "x").close()
    (tmp_path / "s" / "seed").write_bytes(b"short")
    with pytest.raises(BadState, match="damaged"):
        Identity.open(tmp_path / "s", "x")
    (tmp_path / "s" / "seed").write_bytes(b"s" * 32)
    Identity.open(tmp_path / "s", "x").close()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(BadState, match="is not a folder"):
        Identity.open(tmp_path / "s", "x")
    with pytest.raises(BadState, match="is not a folder"):
        Identity.open(tmp_path / "s" / "t", "x")


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir(mode=0o500)
    before = os.geteuid()
    if before == 0:
        os.chown(tmp_path / "s", 65534, 65534)
        os.seteuid(65534)
    try:
        with pytest.raises(BadState, match=r"cannot write.*chmod u\+rwx"):
            Identity.open(tmp_path / "s" / "state", "x")
    finally:
        os.seteuid(before)
