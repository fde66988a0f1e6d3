"""Output and files between real nodes: live, binary-safe, complete, whoever asks and whatever dies on the way.

Every payload is made by a seeded generator on the machine that sends it and compared by its hash.
"""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import output
from benchmarks.local_mesh import OPENCLAW, LocalMesh, LocalNode, wait_until

OUTPUT_BYTES = 5 << 20
FILE_BYTES = 20 << 20
# Writes OUTPUT_BYTES of every byte value to stdout in uneven pieces, and one line to stderr.
NOISE = f"""
import random, sys
rest = random.Random(7).randbytes({OUTPUT_BYTES})
while rest:
    size = 1 + len(rest) // 9
    sys.stdout.buffer.write(rest[:size])
    sys.stdout.buffer.flush()
    rest = rest[size:]
print("done", file=sys.stderr)
"""


@pytest.fixture(scope="module")
def mesh() -> Iterator[LocalMesh]:
    with LocalMesh(("a", "b", "c"), "--slots", "4") as mesh:
        yield mesh


def foreground(node: LocalNode, *argv: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*OPENCLAW, "run", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**node.environ, "OPENCLAW_MESH_STATE_DIR": str(node.state_dir)},
    )


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_output_arrives_before_the_task_ends(mesh: LocalMesh, tmp_path: Path) -> None:
    """The command waits for a file that is made only once its first bytes were read here."""
    gate = tmp_path / "gate"
    line = rf"printf '\000\377one'; while [ ! -e {gate} ]; do sleep 0.05; done; echo two"
    with foreground(mesh["a"], "--node", "b", "--", "sh", "-c", line) as running:
        assert running.stdout is not None
        assert running.stdout.read(5) == b"\x00\xffone"
        (task,) = mesh["c"].json("tasks", "--all", "--state", "running")["tasks"]
        assert mesh["c"].run("task", "logs", task["id"]).stdout == b"\x00\xffone"
        gate.touch()
        assert running.stdout.read() == b"two\n"
        assert running.wait() == 0
        assert running.stderr is not None
        assert b"running on b" in running.stderr.read()


def test_five_megabytes_of_any_bytes(mesh: LocalMesh) -> None:
    wanted = random.Random(7).randbytes(OUTPUT_BYTES)
    done = mesh["a"].run("run", "-q", "--node", "b", "--", sys.executable, "-c", NOISE)
    assert done.returncode == 0
    assert digest(done.stdout) == digest(wanted)
    assert done.stderr == b"done\n"
    task = mesh["a"].json("tasks", "--limit", "1")["tasks"][0]["id"]
    from_c = mesh["c"].run("task", "logs", task)
    assert digest(from_c.stdout) == digest(wanted)
    assert mesh["c"].run("task", "logs", task, "--offset", str(OUTPUT_BYTES - 100)).stdout == wanted[-100:]
    assert mesh["b"].run("task", "logs", task, "--stderr").stdout == b"done\n"


LINES = 9_000_000  # of twelve bytes: more than was kept of an output before there was room for all of it
MEMORY_GROWTH_MAX = 48 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_megabytes_stream_through_a_bounded_memory(mesh: LocalMesh) -> None:
    """Longer ones by hand: benchmarks/output.py."""
    programs = [*output.processes_of(mesh["a"]), *output.processes_of(mesh["b"])]
    before = {pid: output.peak_bytes(pid) for pid in programs}
    streamed = output.stream(mesh["a"], "b", LINES)
    assert streamed.size == LINES * len(output.LINE)
    assert streamed.digest == output.digest_of(LINES)
    assert streamed.client_peak_bytes < MEMORY_GROWTH_MAX
    assert max(output.peak_bytes(pid) - before[pid] for pid in programs) < MEMORY_GROWTH_MAX


def test_a_thousand_tasks_that_print_at_once_mix_no_byte(mesh: LocalMesh) -> None:
    """Each its own number, more than rides in a record, from all nodes at once."""
    line = 'yes "$0" | head -c 20000'
    numbers = "\n".join(str(number) for number in range(1000))
    done = mesh["a"].run("map", "-q", "-", "--", "sh", "-c", line, "{}", stdin=numbers, timeout_s=120)
    assert done.returncode == 0
    wanted = b"".join((b"%d\n" % number * 20_000)[:20_000] for number in range(1000))
    assert digest(done.stdout) == digest(wanted)


def test_a_follower_outlives_the_death_of_the_worker(mesh: LocalMesh, tmp_path: Path) -> None:
    """Its node is killed between two lines and comes back: the follower sees each of them once."""
    gate = tmp_path / "gate"
    line = f"echo before; while [ ! -e {gate} ]; do sleep 0.05; done; echo after; exit 5"
    with foreground(mesh["a"], "-q", "--node", "b", "--", "sh", "-c", line) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"before\n"
        mesh["b"].kill()
        mesh["b"].start("--slots", "4")
        gate.touch()
        assert running.stdout.read() == b"after\n"
        assert running.wait() == 5
    mesh.settle()


def test_files_go_there_and_come_back(mesh: LocalMesh, tmp_path: Path) -> None:
    data = random.Random(11).randbytes(FILE_BYTES)
    source, small, target = tmp_path / "in.bin", tmp_path / "two words", tmp_path / "out.bin"
    source.write_bytes(data)
    small.write_text("small")
    program = (
        "data = open('in.bin', 'rb').read(); open('out.bin', 'wb').write(data[::-1]);"
        "print(open('two words').read(), len(data))"
    )
    run = ("run", "-q", "--node", "b", "--input", str(source), "--input", str(small), "--output", str(target))
    assert mesh["a"].ok(*run, "--", sys.executable, "-c", program) == f"small {FILE_BYTES}\n"
    assert digest(target.read_bytes()) == digest(data[::-1])
    task = mesh["a"].json("tasks", "--limit", "1")["tasks"][0]["id"]
    assert mesh["c"].ok("task", "fetch", task, str(tmp_path / "far")).strip() == str(tmp_path / "far/out.bin")
    assert digest((tmp_path / "far/out.bin").read_bytes()) == digest(data[::-1])
    assert mesh["c"].run("task", "fetch", task, str(small)).returncode == 2  # no folder


def test_a_file_is_copied_to_another_machine_and_back(mesh: LocalMesh, tmp_path: Path) -> None:
    """The home of every node here is the folder of the mesh."""
    data = random.Random(17).randbytes(FILE_BYTES)
    source, back = tmp_path / "film", tmp_path / "again"
    source.write_bytes(data)
    sent = mesh["a"].json("cp", str(source), "b:film.copy")
    assert sent == {"path": str(mesh.folder / "film.copy"), "size": FILE_BYTES, "sha256": digest(data)}
    assert digest((mesh.folder / "film.copy").read_bytes()) == digest(data)
    assert b"copied 21.0 MB" in mesh["c"].run("cp", "b:film.copy", str(back)).stderr
    assert digest(back.read_bytes()) == digest(data)
    missing = mesh["a"].run("cp", "b:nothing", str(tmp_path))
    assert missing.returncode == 125
    assert b"b: cannot read" in missing.stderr
    assert mesh["a"].run("cp", str(source), str(back)).returncode == 2


def test_standard_input_travels(mesh: LocalMesh) -> None:
    data = random.Random(13).randbytes(3 << 20)
    program = "import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    run = ("run", "-q", "--node", "c", "--stdin", "--", sys.executable, "-c", program)
    assert mesh["a"].ok(*run, stdin=data) == f"{digest(data)}\n"
    assert mesh["a"].ok("run", "-q", "--node", "c", "--stdin", "--", "wc", "-c", stdin=b"").strip() == "0"
    nothing = ("run", "-q", "--node", "c", "--", "wc", "-c")
    assert mesh["a"].ok(*nothing, stdin=b"not given").strip() == "0"


def test_a_missing_output_says_so_and_leaves_nothing(mesh: LocalMesh, tmp_path: Path) -> None:
    target = tmp_path / "absent"
    done = mesh["a"].run("run", "--node", "b", "--output", str(target), "--", "true")
    assert done.returncode not in (0, 130)
    assert b"absent" in done.stderr
    assert os.listdir(tmp_path) == []


def test_a_missing_input_is_refused_at_once(mesh: LocalMesh, tmp_path: Path) -> None:
    before = mesh["a"].control("status")["tasks"]
    done = mesh["a"].run("run", "--input", str(tmp_path / "nowhere"), "--", "true")
    assert done.returncode == 125
    assert b"nowhere" in done.stderr
    assert mesh["a"].control("status")["tasks"] == before


def test_a_file_that_is_only_here_is_named(mesh: LocalMesh, tmp_path: Path) -> None:
    """The mistake of the first day: a name that means something on this machine alone."""
    (tmp_path / "data.csv").write_text("x")
    done = subprocess.run(
        [*OPENCLAW, "run", "-q", "--node", "b", "--", "cat", "data.csv"],
        cwd=tmp_path,
        capture_output=True,
        env={**mesh["a"].environ, "OPENCLAW_MESH_STATE_DIR": str(mesh["a"].state_dir)},
        check=False,
    )
    assert done.returncode == 1
    assert b"--input data.csv" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="macOS limits nothing of this")
def test_a_task_gets_the_memory_that_it_asked_for_and_no_more(mesh: LocalMesh) -> None:
    program = (sys.executable, "-c", "held = bytearray(512 << 20)")
    assert mesh["a"].run("run", "--node", "b", "--need", "memory=128M", "--", *program).returncode != 0
    task = mesh["a"].json("tasks", "--limit", "1")["tasks"][0]["id"]
    assert mesh["c"].json("task", "show", task)["result"]["limits"]["memory"] in ("cgroup", "process")


def test_ctrl_c_cancels_and_says_so(mesh: LocalMesh) -> None:
    with foreground(mesh["a"], "--node", "b", "--", "sh", "-c", "echo up; sleep 3600") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline() == b"up\n"
        running.send_signal(2)
        assert running.wait() == 130
        assert b"cancelling" in running.stderr.read()
    wait_until(lambda: mesh["b"].control("status")["tasks"]["running"] == 0, "nothing to run any more")
