"""What the system says of itself, checked against what it can be made to do."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from openclaw import platform


def test_importing_it_is_cheap() -> None:
    check = "import sys, openclaw.platform; print(*{'psutil', 'ctypes', 'subprocess', 'hashlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_clock_goes_on_and_identities_stay() -> None:
    before = platform.boot_clock_s()
    assert platform.boot_clock_s() >= before
    platform.boot_id.cache_clear()
    first = platform.boot_id()
    platform.boot_id.cache_clear()
    assert platform.boot_id() == first != ""
    assert len(platform.machine_id()) in (0, 32)


def test_a_process_has_one_start_until_it_ends() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        first = platform.process_start(process.pid)
        assert first is not None
        assert platform.process_start(process.pid) == first
        process.kill()
        descriptor = platform.exit_fd(process.pid)
        assert select.select([descriptor], [], [], 10)[0]
        assert platform.process_start(process.pid) is None  # a zombie is no process
        descriptor.close()


def test_an_exit_descriptor_waits_for_the_end_and_does_not_reap() -> None:
    with subprocess.Popen(["sh", "-c", "read x; exit 3"], stdin=subprocess.PIPE) as process:
        descriptor = platform.exit_fd(process.pid)
        assert not select.select([descriptor], [], [], 0)[0]
        assert process.stdin is not None
        process.stdin.close()
        assert select.select([descriptor], [], [], 10)[0]
        descriptor.close()
        assert process.wait() == 3


def test_processes_are_found_by_group_and_by_marker() -> None:
    environment = {**os.environ, "MESH_TEST_MARK": "abc"}
    with subprocess.Popen(
        ["sh", "-c", "sleep 60 & echo; wait"],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        group = platform.living(process.pid, "")
        assert len(group) == 2
        assert process.pid in group
        assert platform.living(0, "MESH_TEST_MARK=abc") == group
        assert platform.living(0, "MESH_TEST_MARK=ab") == []
        os.killpg(process.pid, 9)


def test_the_peer_of_a_socket_is_us() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert platform.peer_uid(one) == os.getuid()


def test_a_hole_gives_blocks_back_and_keeps_the_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (1 << 20))
    with path.open("r+b") as file:
        if not platform.punch_hole(file.fileno(), 4096, (1 << 20) - 8192):
            pytest.skip("this file system has no holes")
        os.fsync(file.fileno())
    data = path.read_bytes()
    assert len(data) == 1 << 20
    assert data.strip(b"\0").count(b"\0") == (1 << 20) - 8192
    assert path.stat().st_blocks * 512 <= 65536


def test_a_read_only_file_gets_no_hole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 8192)
    with path.open("rb") as file:
        assert not platform.punch_hole(file.fileno(), 0, 4096)


@pytest.mark.skipif(sys.platform != "linux", reason="the table of mounts is Linux's")
def test_a_network_file_system_is_known_by_its_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    table = (
        "1 0 8:1 / / rw - ext4 /dev/sda rw\n"
        "2 1 0:5 / /home\\040of rw,relatime shared:1 - nfs4 server:/ rw\n"
        "3 2 0:6 / /home\\040of/local rw - xfs /dev/sdb rw\n"
    )
    monkeypatch.setattr(platform, "_text", lambda _path: table)
    assert platform.is_network_filesystem(Path("/home of/me/not yet there"))
    assert not platform.is_network_filesystem(Path("/home of/local/me"))
    assert not platform.is_network_filesystem(Path("/home offside"))


def test_the_machine_reports_its_means(tmp_path: Path) -> None:
    assert platform.free_disk_bytes(tmp_path) > 0
    assert platform.power_source() in ("mains", "battery")
    assert platform.raise_open_files() >= 256
    assert platform.memory_bytes() > 1 << 26


SLOW = "exec sleep 60"


@pytest.mark.parametrize(
    ("tool", "script", "gpus"),
    [
        ("nvidia-smi", "printf '0\\n1\\n'", 2),
        ("nvidia-smi", "echo 'No devices were found'", 0),
        ("nvidia-smi", "echo 0; exit 9", 0),
        ("nvidia-smi", SLOW, 0),
        ("rocm-smi", """echo '{"card0": {}, "card1": {}, "system": {}}'""", 2),
        ("rocm-smi", "echo 'no driver'", 0),
        ("other", "echo 0", 0),
    ],
)
def test_gpus_are_what_their_tools_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, script: str, gpus: int
) -> None:
    (tmp_path / tool).write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / tool).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert platform.count_gpus(0.2 if script is SLOW else 10.0) == gpus
