"""Commands that come before there is a slot for them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path

import pytest
from executor_node import Node, node, shell, token, until

from openclaw.effects import HandedBack, ProcessExited
from openclaw.executor.link import LIMITS
from openclaw.ids import TaskId

ONE = LIMITS._replace(slots=1)


def go(test: Coroutine[object, object, None]) -> None:
    asyncio.run(test)


def test_no_more_run_at_once_than_there_are_slots_and_in_order(tmp_path: Path) -> None:
    log = tmp_path / "log"

    async def test() -> None:
        async with node(tmp_path / "n", LIMITS._replace(slots=2)) as here:
            script = f"echo + >> {log}; sleep 0.01; echo - >> {log}"
            here.link.run_many(shell(f"t{n}", script) for n in range(8))
            for _ in range(8):
                while not isinstance(await here.next(), ProcessExited):
                    pass

    go(test())
    at_once = [sum(1 if line == "+" else -1 for line in log.read_text().split()[:n]) for n in range(17)]
    assert max(at_once) == 2
    assert at_once[-1] == 0


def test_what_waits_behind_something_long_is_handed_back_and_never_starts_from_there(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / "n", ONE) as here:
            gate, log = tmp_path / "gate", tmp_path / "log"
            await here.ready(shell("long", f"echo x > ready; while [ ! -e {gate} ]; do sleep 0.01; done"))
            here.link.run_many(shell(f"t{n}", f"echo t{n} >> {log}") for n in (1, 2))
            back = [event for _ in range(3) if isinstance(event := await here.next(), HandedBack)]
            assert back == [HandedBack(TaskId(name), token()) for name in ("t2", "t1")]
            gate.touch()
            assert (await here.exit("long")).code == 0
            assert (await here.run(shell("t3", f"echo t3 >> {log}"))).code == 0
            assert log.read_text() == "t3\n"
            assert (await here.run(shell("t1", f"echo t1 >> {log}"))).code == 0

    go(test())


def test_what_is_told_to_end_while_it_waits_never_begins(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / "n", ONE) as here:
            here.link.run_many([shell("long", "sleep 60"), shell("t", f"touch {tmp_path}/began")])
            here.kill("t")
            ended = await here.exit("t")
            assert (ended.code, ended.ended_by, ended.error) == (130, "cancel", "it had not begun")
            here.kill("t")
            assert await here.exit("t") == ended  # as its record says
            here.kill("long")
            assert (await here.exit("long")).ended_by == "cancel"
            assert not (tmp_path / "began").exists()

    go(test())


def test_a_command_larger_than_the_machine_runs_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path / "n", ONE) as here:
            large = replace(shell("large", "exit 3"), slots=4)
            assert (await here.run(large)).code == 3

    go(test())


@pytest.mark.parametrize("returns", [True, False])
def test_what_waits_outlives_its_node(tmp_path: Path, returns: bool) -> None:
    """It runs as soon as there is a slot, whether its node is back by then or not, and is held as what may start."""

    async def test() -> None:
        one = Node(tmp_path / "n", ONE)
        await one.up()
        gate, log = tmp_path / "gate", tmp_path / "log"
        await one.ready(shell("long", f"echo x > ready; while [ ! -e {gate} ]; do sleep 0.01; done"))
        one.link.run(shell("t", f"echo t >> {log}"))
        await one.link.detach()
        if not returns:
            gate.touch()
            await until(log.exists)
        async with node(tmp_path / "n", ONE) as again:
            if returns:
                assert await again.next() == HandedBack(TaskId("t"), token())
                gate.touch()
                assert (await again.exit("long")).code == 0
        assert log.exists() is not returns

    go(test())
