"""What runs on a lease ends with it, whoever is still there to say so."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from executor_node import PATIENCE_S, Node, command, node, shell, token, until

from openclaw.effects import ProcessStarted
from openclaw.executor.link import RunSpec
from openclaw.ids import TaskId
from openclaw.platform import boot_clock_s, living

DEAF = "trap '' TERM; echo x > ready; while :; do sleep 0.01; done"


def go(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


def leased(spec: RunSpec, left_s: float) -> RunSpec:
    return replace(spec, until_s=boot_clock_s() + left_s)


@pytest.mark.parametrize("script", ["sleep 60", DEAF], ids=["polite", "deaf"])
def test_what_has_no_lease_any_more_is_ended(tmp_path: Path, script: str) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ended = await here.run(leased(shell("t", script), 0.5))
            assert (ended.code, ended.ended_by) == (137, "lease")

    go(test())


def test_a_lease_that_was_over_before_it_began_starts_nothing(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / "n") as here:
            ended = await here.run(leased(shell("t", f"touch {tmp_path}/began"), -1.0))
            assert (ended.code, ended.ended_by) == (137, "lease")
            assert not (tmp_path / "began").exists()
            here.link.run(shell("t", f"touch {tmp_path}/began"))
            assert await here.exit("t") == ended

    go(test())


def test_a_lease_can_be_put_off_and_never_drawn_in(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            here.link.run(leased(shell("t", "sleep 1; exit 7"), 0.6))
            here.link.extend(TaskId("t"), token(), boot_clock_s() + 3600.0)
            here.link.extend(TaskId("t"), token(), boot_clock_s())
            assert (await here.exit("t")).code == 7

    go(test())


def test_a_lease_that_was_put_off_while_its_inputs_were_brought_counts(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            here.link.extend(TaskId("t"), token(), boot_clock_s() + 3600.0)
            assert (await here.run(leased(command("t", "true"), -1.0))).code == 0

    go(test())


def test_what_has_a_lease_dies_with_its_executor(tmp_path: Path) -> None:
    """Nobody could end it in time: also where the node is dead, and no other executor follows."""

    async def test() -> None:
        first = Node(tmp_path)
        await first.up()
        spec = leased(shell("t", "echo $$ > ready; sleep 60 & sleep 60"), 60.0)
        pid = int(await first.ready(spec))
        assert isinstance(await first.next(), ProcessStarted)  # and so it is watched
        await first.link.detach()
        os.kill(await first.executor_pid(), signal.SIGKILL)
        await until(lambda: not living(pid, ""))

    go(test())


def test_only_what_is_watched_dies_with_who_watches() -> None:
    program = (
        "import os, signal, sys\n"
        "from openclaw.executor.warden import Warden\n"
        "warden = Warden()\n"
        "ended, runs = map(int, sys.argv[1:])\n"
        "warden.watch(ended)\n"
        "warden.watch(runs)\n"
        "warden.release(ended)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    sleepers = [subprocess.Popen(["sleep", "60"], start_new_session=True) for _ in range(2)]
    released, watched = sleepers
    subprocess.run([sys.executable, "-c", program, *(str(each.pid) for each in sleepers)], check=False)
    assert watched.wait(PATIENCE_S) == -signal.SIGKILL
    assert released.poll() is None
    released.kill()
    released.wait()


def test_a_lease_ends_without_its_node(tmp_path: Path) -> None:
    async def test() -> None:
        first = Node(tmp_path)
        await first.up()
        await first.ready(leased(shell("t", DEAF), 1.0))
        await first.link.detach()
        record = first.link.run_dir(TaskId("t"), token()) / "record"
        await until(lambda: b"lease" in record.read_bytes())
        async with node(tmp_path) as again:
            again.link.run(shell("t", "true"))
            assert (await again.exit("t")).ended_by == "lease"

    go(test())
