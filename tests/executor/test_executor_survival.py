"""Nodes and executors die, in every order: no end of a command is lost, and none is left running unknown."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path

import msgpack
import pytest
from executor_node import Node, command, node, shell, token, until

from openclaw import platform
from openclaw.effects import ExecutorDown, ExecutorUp, ProcessExited
from openclaw.errors import Unavailable
from openclaw.executor import record
from openclaw.executor.link import LIMITS
from openclaw.executor.main import ALREADY_RUNS, main
from openclaw.executor.paths import RUNS, run_name
from openclaw.ids import TaskId


def go(test: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def gone(pid: int) -> bool:
    return platform.process_start(pid) is None


def test_a_node_that_returns_adopts_what_runs_and_what_ended(tmp_path: Path) -> None:
    async def test() -> None:
        first = Node(tmp_path)
        await first.up()
        ended_file = first.link.run_dir(TaskId("ended"), token()) / "record"
        await first.ready(
            shell("runs", "echo 1 > ready; while [ ! -e go ]; do sleep 0.02; done; echo on; exit 9")
        )
        await first.ready(shell("ended", "echo 1 > ready; sleep 0.05; echo off; exit 8"))
        await (
            first.link.detach()
        )  # only what was heard is promised: what lay in a broken connection is not held
        await until(lambda: ended_file.exists() and b"off" in ended_file.read_bytes())

        second = Node(tmp_path)
        held = await second.up()
        assert held["runs"].exit is None
        ended = held["ended"].exit
        assert ended is not None
        assert (ended.code, ended.stdout) == (8, b"off\n")
        (second.link.run_dir(TaskId("runs"), token()) / "scratch" / "go").touch()
        adopted = await second.exit("runs")
        assert (adopted.code, adopted.stdout) == (9, b"on\n")
        await second.link.stop(0.0)

    go(test())


def test_a_node_killed_with_its_session_leaves_the_executor(tmp_path: Path) -> None:
    """The whole session of the node gets KILL; the executor stands in one of its own."""
    program = (
        "import asyncio, sys, pathlib\n"
        "from openclaw.executor.link import ExecutorLink\n"
        "async def main():\n"
        "    await ExecutorLink(pathlib.Path(sys.argv[1]), lambda event: None, 'x').start()\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )

    async def test() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdout=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"up\n"
            before = await Node(tmp_path).executor_pid()
            os.killpg(process.pid, signal.SIGKILL)
        async with node(tmp_path) as here:
            assert await here.executor_pid() == before
            assert (await here.run(shell("t", "exit 6"))).code == 6

    go(test())


def test_the_newest_node_that_says_hello_wins(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as first:
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(tmp_path / "executor.sock"))
            hello = msgpack.packb(["hello", list(LIMITS)])
            connection.sendall(len(hello).to_bytes(4, "big") + hello)
            assert isinstance(await first.next(), ExecutorDown)
            assert isinstance(await first.next(), ExecutorUp)  # and comes back, being the newest now
            connection.close()

    go(test())


def test_who_only_connects_or_talks_nonsense_displaces_nobody(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as first:
            for words in (b"", b"\x00\x00\x00\x01\xc0", b"\xff" * 64):
                with socket.socket(socket.AF_UNIX) as stranger:
                    stranger.connect(str(tmp_path / "executor.sock"))
                    stranger.sendall(words)
            assert (await first.run(shell("t", "exit 4"))).code == 4

    go(test())


def test_a_lost_executor_is_replaced_and_its_commands_ended(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            script = "setsid sleep 60 & sleep 60 & echo $$ $! > ready; wait"
            pids = [int(pid) for pid in (await here.ready(shell("t", script))).split()]
            assert (await here.run(shell("ended", "exit 3"))).code == 3
            os.kill(await here.executor_pid(), signal.SIGKILL)
            assert isinstance(await here.next(), ExecutorDown)
            held = await here.held()
            lost, ended = held["t"].exit, held["ended"].exit
            assert lost is not None
            assert ended is not None
            assert (lost.code, lost.ended_by) == (137, "orphaned")
            assert "3 of its processes" in lost.error
            assert all(gone(pid) for pid in pids)
            assert ended.code == 3
            assert (await here.run(shell("u", "exit 7"))).code == 7

    go(test())


def test_a_command_that_ended_unseen_is_told_as_lost(tmp_path: Path) -> None:
    async def test() -> None:
        folder = tmp_path / RUNS / run_name("u", token())
        (folder / "scratch").mkdir(parents=True)
        (folder / "record").write_bytes(b"\x93\x01")  # torn: killed while it wrote
        here = Node(tmp_path)
        held = await here.up()
        torn = held["u"].exit
        assert torn is not None
        assert torn.ended_by == "orphaned"
        assert "not known" in torn.error
        await here.link.stop(0.0)

    go(test())


def test_a_command_that_lives_on_is_written_down_as_a_process(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            pid = int(await here.ready(shell("t", "echo $$ > ready; exec sleep 60")))
            folder = str(here.link.run_dir(TaskId("t"), token()))
            start = await until(lambda: record.read(folder)[0])
            assert start == (pid, platform.process_start(pid), platform.boot_id())

    go(test())


def test_a_stranger_with_an_old_number_is_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / RUNS / run_name("t", token())
    (folder / "scratch").mkdir(parents=True)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        (folder / "record").write_bytes(msgpack.packb((stranger.pid, "1", platform.boot_id())))

        async def test() -> None:
            here = Node(tmp_path)
            held = await here.up()
            ended = held["t"].exit
            assert ended is not None
            assert ended.ended_by == "orphaned"
            await here.link.stop(0.0)

        go(test())
        assert stranger.poll() is None
        stranger.kill()


def test_staged_inputs_of_a_run_that_never_started_are_not_held(tmp_path: Path) -> None:
    async def test() -> None:
        here = Node(tmp_path)
        scratch = here.link.run_dir(TaskId("t"), token()) / "scratch"
        scratch.mkdir(parents=True)
        (scratch / "input").write_text("data")
        assert await here.up() == {}
        assert (await here.run(command("t", "cat", "input"))).stdout == b"data"
        await here.link.stop(0.0)

    go(test())


def test_without_its_node_an_executor_ends_commands_in_the_end(tmp_path: Path) -> None:
    async def test() -> None:
        first = Node(tmp_path, orphan_s=0.2)
        await first.up()
        pid = int(await first.ready(shell("t", "echo $$ > ready; exec sleep 60")))
        executor = await first.executor_pid()
        await first.link.detach()
        await until(lambda: gone(pid))
        await until(lambda: gone(executor))  # nothing left to do, and nobody to do it for
        second = Node(tmp_path)
        held = await second.up()
        ended = held["t"].exit
        assert ended is not None
        assert (ended.code, ended.ended_by) == (137, "orphaned")
        await second.link.stop(0.0)

    go(test())


@pytest.mark.parametrize("how", ["stop", "SIGTERM"])
def test_a_stopped_executor_tells_all_ends_and_goes(tmp_path: Path, how: str) -> None:
    async def test() -> None:
        here = Node(tmp_path)
        await here.up()
        await here.ready(shell("t", "echo 1 > ready; exec sleep 60"))
        executor = await here.executor_pid()
        if how == "stop":
            await here.link.stop()
        else:
            os.kill(executor, signal.SIGTERM)
        ended = await here.exit("t")
        assert (ended.code, ended.ended_by) == (130, "stop")
        await until(lambda: gone(executor))
        if how == "SIGTERM":
            assert isinstance(await here.next(), ExecutorDown)
            assert (await here.held())["t"].exit == ended
            await here.link.stop(0.0)
        assert here.events.empty()

    go(test())


def test_one_executor_per_folder(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path):
            assert main([str(tmp_path), *map(str, LIMITS)]) == ALREADY_RUNS

    go(test())


def test_a_long_state_folder_still_has_a_socket(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / ("long" * 30)) as here:
            assert (await here.run(shell("t", "exit 2"))).code == 2

    go(test())


def test_many_kept_ends_arrive_in_several_frames(tmp_path: Path) -> None:
    async def test() -> None:
        first = Node(tmp_path)
        await first.up()
        first.link.run_many(shell(f"t{n}", "head -c 16000 /dev/zero") for n in range(80))
        done = 0
        while done < 80:
            done += isinstance(await first.next(), ProcessExited)
        await first.link.detach()
        second = Node(tmp_path)
        held = await second.up()
        assert sum(len(row.exit.stdout) for row in held.values() if row.exit) == 80 * 16000
        await second.link.stop(0.0)

    go(test())


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "executor.lock").mkdir()
        with pytest.raises(Unavailable, match=r"executor\.log"):
            await Node(tmp_path).link.start()

    go(test())
