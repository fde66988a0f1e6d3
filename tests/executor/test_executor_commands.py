"""Real commands under a real executor: how they start, how they end, what is left and what is kept."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import sys
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from executor_node import Node, command, node, shell, token, until

from openclaw import platform
from openclaw.effects import ProcessExited, ProcessStarted
from openclaw.executor.link import LIMITS
from openclaw.executor.logs import read_log
from openclaw.executor.paths import MARKER
from openclaw.ids import TaskId
from openclaw.records import Exit

CAP_BYTES = 64 << 10


def go(test: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def run_one(state_dir: Path, *argv: str, **payload: object) -> Exit:
    async def one() -> Exit:
        async with node(state_dir) as here:
            return await here.run(command("t", *argv, **payload))  # type: ignore[arg-type]

    return asyncio.run(one())


def test_a_command_gives_its_code_and_both_outputs(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            here.link.run(shell("t", "echo out; echo err >&2; exit 3"))
            started, ended = await here.next(), await here.next()
            assert isinstance(started, ProcessStarted)
            assert isinstance(ended, ProcessExited)
            assert (started.task, started.token) == (ended.task, ended.token) == ("t", token())
            assert (ended.exit.code, ended.exit.ended_by, ended.exit.error) == (3, "", "")
            assert (ended.exit.stdout, ended.exit.stderr) == (b"out\n", b"err\n")
            assert ended.exit.inline
            assert started.started == ended.exit.started <= ended.exit.ended

    go(test())


def test_output_is_bytes_and_input_is_read(tmp_path: Path) -> None:
    every_byte = bytes(range(256)) * 8
    (tmp_path / "input").write_bytes(every_byte)

    async def test() -> None:
        async with node(tmp_path / "state") as here:
            ended = await here.run(command("t", "cat", stdin_path=str(tmp_path / "input")))
            assert ended.stdout == every_byte
            assert (await here.run(command("u", "cat"))).stdout_size == 0

    go(test())


def test_a_signal_is_128_and_its_number(tmp_path: Path) -> None:
    ended = run_one(tmp_path, "sh", "-c", "kill -9 $$")
    assert (ended.code, ended.ended_by) == (137, "")


@pytest.mark.parametrize(
    ("argv", "cwd", "code", "says"),
    [
        (("no-such-program",), "", 127, "no 'no-such-program' in PATH"),
        (("./missing",), "", 127, "./missing"),
        (("/etc/passwd",), "", 126, "chmod +x"),
        (("true",), "/no/such/folder", 125, "no directory /no/such/folder"),
        ((), "", 125, "empty"),
        (("a\0b",), "", 125, "null byte"),
    ],
)
def test_what_cannot_start_says_why(
    tmp_path: Path, argv: tuple[str, ...], cwd: str, code: int, says: str
) -> None:
    ended = run_one(tmp_path, *argv, cwd=cwd)
    assert (ended.code, ended.ended_by) == (code, "spawn")
    assert says in ended.error


def test_a_task_named_like_a_path_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / "state") as here:
            ended = await here.run(command("../../escaped", "true"))
            assert (ended.code, ended.ended_by) == (125, "spawn")
            assert not list(tmp_path.rglob("*escaped*"))

    go(test())


def test_the_environment_is_the_base_and_what_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_WORKER", "1")
    monkeypatch.setenv("LC_TIME", "C")
    ended = run_one(tmp_path, "env", env=(("GIVEN", "a b"), ("OPENCLAW_MESH_NODE", "forged")))
    found = dict(line.split("=", 1) for line in ended.stdout.decode().splitlines())
    assert "SECRET_OF_THE_WORKER" not in found
    assert (found["GIVEN"], found["LC_TIME"], found["PATH"]) == ("a b", "C", os.environ["PATH"])
    assert found["OPENCLAW_MESH_TASK_ID"] == "t"
    assert (found["OPENCLAW_MESH_NODE"], found["OPENCLAW_MESH_OWNER"]) == ("here", "owner")
    assert (found["OPENCLAW_MESH_ATTEMPT"], found["OPENCLAW_MESH_EPOCH"]) == ("1", "7")
    assert found["OPENCLAW_MESH_SCRATCH"].endswith("/scratch")
    assert found[MARKER].endswith(".t.0.owner.1.1")


def test_a_program_is_found_in_the_path_that_it_is_given(tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "tool").write_text("#!/bin/sh\necho found")
    (tools / "tool").chmod(0o755)
    (tools / "text").write_text("no program")
    path = (("PATH", f"/nowhere:{tools}:/bin:/usr/bin"),)

    async def test() -> None:
        async with node(tmp_path / "state") as here:
            assert (await here.run(command("t", "tool", env=path))).stdout == b"found\n"
            assert (await here.run(command("u", "tool"))).code == 127
            assert (await here.run(command("v", "text", env=path))).code == 126
            missing = await here.run(command("w", "missing", env=path))
            assert (missing.code, str(tools) in missing.error) == (127, True)

    go(test())


@pytest.fixture
def nohup() -> Iterator[None]:
    """As a node is started by nohup, or in the background of a script."""
    ignored = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in ignored}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.usefixtures("nohup")
def test_a_command_starts_with_no_signal_ignored_or_held_back(tmp_path: Path) -> None:
    ended = run_one(tmp_path, "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status")
    masks = [int(line.split()[1], 16) for line in ended.stdout.decode().splitlines()]
    assert [mask & 0x7FFFFFFF for mask in masks] == [0, 0]  # two above are the C library's own


def test_it_runs_in_its_scratch_directory_or_where_it_is_told(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            scratch = here.link.run_dir(TaskId("t"), token()) / "scratch"
            assert (await here.run(shell("t", "pwd -P"))).stdout.decode().strip() == str(scratch.resolve())
            assert (await here.run(shell("u", "pwd -P", cwd="/"))).stdout == b"/\n"

    go(test())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_commands_inherit_no_descriptors(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            await here.ready(shell("first", "echo 1 > ready; sleep 60"))
            ended = await here.run(command("t", "ls", "/proc/self/fd"))
            assert ended.stdout.split() == [b"0", b"1", b"2", b"3"]  # 3 is how ls reads that folder

    go(test())


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_executor_keeps_no_descriptors_of_what_has_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            pid = await here.executor_pid()
            await here.run(command("first", "true"))
            before = os.listdir(f"/proc/{pid}/fd")
            for number in range(10):
                await here.run(command(f"t{number}", "true" if number % 2 else "missing"))
            assert os.listdir(f"/proc/{pid}/fd") == before

    go(test())


def test_nothing_of_the_group_is_left_after_a_normal_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ended = await here.run(shell("t", "(sleep 60 & echo $!); exit 0"))
            assert ended.code == 0
            assert platform.process_start(int(ended.stdout)) is None

    go(test())


def test_a_timeout_ends_the_group_grandchildren_too(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ended = await here.run(
                shell("t", "sh -c 'sleep 60 & echo $!; wait' & echo $!; wait", timeout_s=0.3)
            )
            assert (ended.code, ended.ended_by) == (124, "timeout")
            assert len(ended.stdout.split()) == 2
            assert [platform.process_start(int(pid)) for pid in ended.stdout.split()] == [None, None]

    go(test())


@pytest.mark.parametrize(
    ("reason", "code"), [("cancel", 130), ("stop", 130), ("superseded", 130), ("orphaned", 137)]
)
def test_a_kill_is_told_when_the_group_is_empty(tmp_path: Path, reason: str, code: int) -> None:
    """A child that ignores TERM, and one that left for a session of its own, are gone by then."""
    script = "trap '' TERM; setsid sleep 60 & sleep 60 & echo $! > ready; echo $$; wait; wait; wait"

    async def test() -> None:
        async with node(tmp_path) as here:
            await here.ready(shell("t", script))
            here.kill("t", reason, 0.2)
            ended = await here.exit("t")
            assert (ended.code, ended.ended_by) == (code, reason)
            pid = int(ended.stdout)
            mark = f"{MARKER}={os.stat(tmp_path).st_dev:x}-{os.stat(tmp_path).st_ino:x}.t.0.owner.1.1"
            assert platform.living(pid, mark) == []

    go(test())


def test_what_left_for_another_session_is_asked_to_end_too(tmp_path: Path) -> None:
    """Nobody waits out a grace that is longer than this test may take."""

    async def test() -> None:
        async with node(tmp_path) as here:
            await here.ready(shell("t", "setsid sh -c 'echo 1 > ready; sleep 600' & wait"))
            here.kill("t", "cancel", 600.0)
            ended = await here.exit("t")
            assert (ended.code, ended.ended_by, ended.error) == (130, "cancel", "")

    go(test())


@pytest.mark.parametrize("argv", [("cat", "here.csv"), ("./here.csv",)])
def test_an_argument_that_is_a_file_only_at_the_submitter_says_how_to_bring_it(
    tmp_path: Path, argv: tuple[str, ...]
) -> None:
    ended = run_one(tmp_path, *argv, local_files=("here.csv",))
    assert ended.code in (1, 127)
    assert "--input here.csv" in ended.error


def test_a_file_that_is_here_too_is_not_blamed(tmp_path: Path) -> None:
    ended = run_one(tmp_path, "cat", "/etc/passwd", "/nowhere", local_files=("/etc/passwd",))
    assert (ended.code, ended.error) == (1, "")


@pytest.mark.skipif(sys.platform != "linux", reason="macOS limits nothing of this")
def test_a_command_is_kept_within_its_memory(tmp_path: Path) -> None:
    program = (sys.executable, "-c", "held = bytearray(512 << 20)")

    async def test() -> None:
        async with node(tmp_path) as here:
            tight = await here.run(command("t", *program, memory_bytes=256 << 20))
            assert tight.code != 0
            assert tight.memory_limit in ("cgroup", "process")
            roomy = await here.run(command("u", *program, memory_bytes=2 << 30))
            assert (roomy.code, roomy.cpu_limit) == (0, "")
            free = await here.run(command("v", *program))
            assert (free.code, free.memory_limit) == (0, "")

    go(test())


@pytest.mark.skipif(sys.platform != "linux" or os.cpu_count() == 1, reason="needs processors to be bound to")
def test_commands_are_kept_on_processors_of_their_own(tmp_path: Path) -> None:
    script = "grep Cpus_allowed_list /proc/self/status; echo 1 > ready; exec sleep 600"

    async def test() -> None:
        async with node(tmp_path) as here:
            places = []
            for task in ("t", "u"):
                await here.ready(shell(task, script, cpus=1))
                places.append((here.link.run_dir(TaskId(task), token()) / "stdout").read_text())
            here.kill("t")
            ended = await here.exit("t")
            assert ended.cpu_limit in ("cgroup", "affinity")
            if ended.cpu_limit == "affinity":
                assert [place.split()[1] for place in sorted(places)] == ["0", "1"]

    go(test())


def test_a_child_may_use_the_grace_when_its_shell_is_gone(tmp_path: Path) -> None:
    """The trainer saves its work, though the shell around it died of the same TERM at once."""
    child = "trap 'sleep 0.3; echo saved; exit' TERM; echo 1 > ready; while :; do sleep 0.05; done"

    async def test() -> None:
        async with node(tmp_path) as here:
            await here.ready(shell("t", f'sh -c "{child}"; echo never'))
            here.kill("t", "cancel", 20.0)
            ended = await here.exit("t")
            assert (ended.code, ended.stdout) == (130, b"saved\n")

    go(test())


def test_a_kill_of_what_is_not_here_is_answered(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            here.kill("unknown")
            assert (await here.exit("unknown")).ended_by == "cancel"
            assert (await here.run(shell("t", "exit 4"))).code == 4
            here.kill("t")
            ended = await here.exit("t")
            assert (ended.code, ended.ended_by) == (4, "")

    go(test())


def test_the_same_token_starts_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            log = tmp_path / "starts"
            spec = shell("t", f"echo started >> {log}; exit 5")
            assert (await here.run(spec)).code == 5
            assert (await here.run(spec)).code == 5
            assert log.read_text() == "started\n"

    go(test())


def test_forgotten_runs_leave_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            await here.run(shell("t", "mkdir -p a/b && touch a/b/c && chmod 0500 a/b a"))
            here.link.forget([(TaskId("t"), token())])
            await until(lambda: not list((tmp_path / "runs").iterdir()))

    go(test())


def test_declared_outputs_are_hashed_and_missing_ones_fail(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ended = await here.run(shell("t", "mkdir d; printf abc > d/o", outputs=("d/o",)))
            assert ended.code == 0
            assert [(o.name, o.sha256, o.size) for o in ended.outputs] == [
                ("d/o", hashlib.sha256(b"abc").hexdigest(), 3)
            ]
            missing = await here.run(shell("u", "true", outputs=("nothing",)))
            assert missing.code == 125
            assert "did not produce" in missing.error
            failed = await here.run(shell("v", "exit 2", outputs=("nothing",)))
            assert (failed.code, failed.error) == (2, "")

    go(test())


def test_an_output_cannot_lead_out_of_the_scratch_directory(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            linked = await here.run(shell("t", "ln -s /etc/passwd o", outputs=("o",)))
            above = await here.run(shell("u", "true", outputs=("../record",)))
            for ended in (linked, above):
                assert (ended.code, ended.outputs) == (125, ())
                assert "outside" in ended.error

    go(test())


def test_endless_output_keeps_head_and_tail_on_a_bounded_disk(tmp_path: Path) -> None:
    limits = LIMITS._replace(kept_bytes=CAP_BYTES)
    script = "i=0; while [ $i -lt 40 ]; do head -c 100000 /dev/zero | tr '\\0' x; i=$((i+1)); done; echo END"

    async def test() -> None:
        async with node(tmp_path, limits) as here:
            ended = await here.run(shell("t", f"echo BEGIN; {script}"))
            assert ended.code == 0
            assert ended.stdout_size == 6 + 4_000_000 + 4
            kept = ended.stdout_size - ended.stdout_cut
            assert CAP_BYTES <= kept <= CAP_BYTES + 4096
            log = here.link.run_dir(TaskId("t"), token()) / "stdout"
            assert log.stat().st_size == ended.stdout_size
            assert log.stat().st_blocks * 512 <= CAP_BYTES + 16384
            start, head = read_log(log, 0, 1 << 20)
            assert (start, len(head), head[:6]) == (0, ended.stdout_head, b"BEGIN\n")
            start, tail = read_log(log, ended.stdout_head, 1 << 20)
            assert start == ended.stdout_head + ended.stdout_cut
            assert tail.endswith(b"xEND\n")
            assert b"\0" not in head + tail
            assert read_log(log, ended.stdout_size, 10) == (ended.stdout_size, b"")

    go(test())


def test_a_log_is_cut_while_the_command_still_writes(tmp_path: Path) -> None:
    limits = LIMITS._replace(kept_bytes=CAP_BYTES)

    async def test() -> None:
        async with node(tmp_path, limits) as here:
            here.link.run(command("t", "yes"))
            log = here.link.run_dir(TaskId("t"), token()) / "stdout"
            await until(lambda: log.exists() and log.stat().st_size > 100 * CAP_BYTES)
            await until(lambda: read_log(log, CAP_BYTES // 2, 10)[0] > CAP_BYTES)
            here.kill("t", "cancel", 0.0)
            assert (await here.exit("t")).code == 130
            assert log.stat().st_blocks * 512 <= CAP_BYTES + 16384

    go(test())


def test_many_at_once_all_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            here.link.run_many(shell(f"t{n}", f"exit {n}") for n in range(40))
            codes: dict[str, int] = {}
            while len(codes) < 40:
                event = await here.next()
                if isinstance(event, ProcessExited):
                    codes[event.task] = event.exit.code
            assert codes == {f"t{n}": n for n in range(40)}

    go(test())


def test_a_node_starts_beside_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        one = Node(tmp_path / "deep" / "state")
        assert await one.up() == {}
        await one.link.stop(0.0)
        assert not (tmp_path / "deep" / "state" / "executor.sock").exists()

    go(test())


def test_a_command_sees_the_gpus_that_it_was_given(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ask = "echo ${CUDA_VISIBLE_DEVICES-unset} ${HIP_VISIBLE_DEVICES-unset}"
            given = replace(shell("a", ask, env=(("CUDA_VISIBLE_DEVICES", "7"),)), gpus=(1, 3))
            assert (await here.run(given)).stdout == b"1,3 1,3\n"
            assert (await here.run(shell("b", ask))).stdout == b"unset unset\n"

    go(test())
