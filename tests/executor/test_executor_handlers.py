"""Real handlers in real processes under a real executor: how they end, and what that costs the others."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from executor_node import OWNER, Node, command, node, token, until

from openclaw.config import HANDLER_CALLS_AHEAD_MAX, INLINE_OUTPUT_BYTES_MAX, RESULT_INLINE_BYTES_MAX
from openclaw.effects import ExecutorUp, ProcessExited
from openclaw.executor.link import Report, RunSpec
from openclaw.handlers.pool import Offer
from openclaw.handlers.values import RESULT_FILE, decode, encode
from openclaw.ids import Epoch, TaskId
from openclaw.records import Exit, Payload

HERE = str(Path(__file__).parent)


def go(test: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def call(
    task: str, handler: str, *args: object, stdin_path: str = "", gpus: tuple[int, ...] = (), **payload: Any
) -> RunSpec:
    data = b"" if stdin_path else encode([args, {}])
    carried = Payload((), handler=handler, args=data, **payload)
    return RunSpec(TaskId(task), token(), carried, OWNER, Epoch(7, OWNER), stdin_path, gpus)


@asynccontextmanager
async def offering(state_dir: Path, slots: int = 1, *references: str) -> AsyncIterator[Node]:
    async with node(state_dir) as here:
        here.link.offer(Offer(list(references or ("offered",)), [HERE], slots))
        yield here


def test_sync_and_async_handlers_return_values(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path) as here:
            for name, given in (
                ("double", 21),
                ("named/otherwise", 21),
                ("double", "ab"),
                ("double", [1, None]),
            ):
                ended = await here.run(call(f"t{name[0]}{given}".replace("[1, None]", "x"), name, given))
                assert (ended.code, ended.ended_by, ended.error) == (0, "", "")
                assert decode(ended.result) == given * 2
                assert ended.inline
            assert list((tmp_path / "runs").iterdir()) == []

    go(test())


def test_a_process_is_warm_and_there_is_one_a_slot(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path, slots=2) as here:
            pids = set()
            for round in range(20):
                both = [call(f"t{round}x{n}", "pid") for n in range(2)]
                here.link.run_many(both)
                pids |= {decode(ended.result) for ended in await exits(here, 2)}
            assert len(pids) <= 2

    go(test())


@pytest.mark.parametrize("slots", [1, 3])
def test_a_process_sees_the_gpus_of_its_tasks_from_its_start_and_no_others(
    tmp_path: Path, slots: int
) -> None:
    async def test() -> None:
        async with offering(tmp_path, slots) as here:
            pids: dict[tuple[int, ...], set[int]] = {}
            for n, given in enumerate([(0,), (1, 2), (0,), (), (1, 2), (0,)]):
                ended = await here.run(call(f"t{n}", "gpus", gpus=given))
                told, seen, pid = decode(ended.result)
                assert told == list(given)
                assert seen == [",".join(map(str, given)) or None] * 2
                pids.setdefault(given, set()).add(pid)
            if slots == 3:
                assert [len(found) for found in pids.values()] == [1, 1, 1]

    go(test())


def test_a_gpu_is_let_go_of_before_another_task_has_it(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path, slots=3) as here:
            before = decode((await here.run(call("t", "gpus", gpus=(0,)))).result)[2]
            assert alive(before)
            beside = decode((await here.run(call("u", "gpus", gpus=(2,)))).result)[2]
            assert decode((await here.run(call("v", "is_there", before, gpus=(0, 1)))).result) is False
            assert alive(beside)
            spec = command("w", "sh", "-c", "true")
            await here.run(dataclasses.replace(spec, gpus=(2,)))
            await until(lambda: not alive(beside))

    go(test())


def test_calls_of_another_kind_have_their_turn(tmp_path: Path) -> None:
    """One slot, and never nothing to do for the process that has it."""

    async def test() -> None:
        async with offering(tmp_path) as here:
            plain = [call(f"t{n}", "double", n) for n in range(600)]
            here.link.run_many([*plain[:300], call("other", "double", 1, gpus=(0,)), *plain[300:]])
            order = [(await next_exit(here)).task for _ in range(601)]
            assert 300 <= order.index(TaskId("other")) <= 300 + HANDLER_CALLS_AHEAD_MAX

    go(test())


def test_memory_that_a_task_asked_for_is_all_that_its_process_gets(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path, slots=2) as here:
            executor = await here.executor_pid()
            tight, size = {"memory_bytes": 256 << 20, "cpus": 1}, 512 << 20
            first = decode((await here.run(call("first", "pid", **tight))).result)
            hog = await here.run(call("hog", "takes_memory", size, **tight))
            assert hog.code in (1, 137)
            assert "MemoryError" in hog.error or "wanted more than the" in hog.error
            assert hog.memory_limit in ("cgroup", "process")
            assert hog.cpu_limit in ("cgroup", "affinity")
            after = await here.run(call("after", "pid", **tight))
            assert after.code == 0
            assert decode(after.result) != first
            roomy = await here.run(call("roomy", "takes_memory", size, memory_bytes=2 << 30))
            assert decode(roomy.result) == size
            assert (await here.run(call("free", "takes_memory", size))).memory_limit == ""
            assert await here.executor_pid() == executor

    go(test())


def test_a_process_that_its_memory_is_too_small_for_fails_calls_of_its_kind_alone(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path, 2, str(tmp_path / "greedy.py")) as here:
            here.link.run_many([call("small", "one", memory_bytes=128 << 20), call("free", "one")])
            ends = {held.task: held.exit for held in [await next_exit(here) for _ in range(2)]}
            assert ends[TaskId("free")].code == 0
            assert ends[TaskId("small")].code == 125

    (tmp_path / "greedy.py").write_text(GREEDY)
    go(test())


GREEDY = """
import openclaw
kept = bytearray(b"x") * (512 << 20)

@openclaw.handler
def one(): return 1
"""


def test_an_exception_comes_back_with_its_type_its_arguments_and_its_traceback(tmp_path: Path) -> None:
    ended = run_one(tmp_path, "fails", "bad luck")
    error = decode(ended.result)
    assert (ended.code, ended.ended_by) == (1, "")
    assert ended.error == "ValueError: ('bad luck', 7)"
    assert (error["module"], error["type"], decode(error["args"])) == (
        "builtins",
        "ValueError",
        ["bad luck", 7],
    )
    assert "raise ValueError(text, 7)" in error["traceback"]
    assert "worker.py" not in error["traceback"]
    assert ended.stdout == b"before it fails\n"
    assert ended.stderr.decode() == error["traceback"]


def test_what_it_prints_is_its_output_within_a_limit(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path) as here:
            few = await here.run(call("t1", "says", "hello"))
            many = await here.run(call("t2", "says", "é", 100_000))
            again = await here.run(call("t3", "says", "again"))
        assert (few.stdout, few.stderr) == (b"hello\n", b"aside\n")
        assert many.inline
        assert len(many.stdout) <= INLINE_OUTPUT_BYTES_MAX
        assert "more characters are not kept" in many.stdout.decode()
        assert again.stdout == b"again\n"

    go(test())


def test_a_large_result_is_a_file_and_large_arguments_are_read_from_one(tmp_path: Path) -> None:
    arguments = tmp_path / "arguments"
    arguments.write_bytes(encode([[2 * RESULT_INLINE_BYTES_MAX], {}]))

    async def test() -> None:
        async with offering(tmp_path / "state") as here:
            spec = call("t", "big", stdin_path=str(arguments))
            ended = await here.run(spec)
            assert ended.result == b""
            (output,) = ended.outputs
            kept = here.link.run_dir(spec.task, spec.token) / "scratch" / RESULT_FILE
            assert (output.name, output.size) == (RESULT_FILE, kept.stat().st_size)
            assert decode(kept.read_bytes()) == b"x" * 2 * RESULT_INLINE_BYTES_MAX
            here.link.forget([(spec.task, spec.token)])
            await until(lambda: not kept.parent.parent.exists())

    go(test())


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("segfault", 139, "signal 11 (SIGSEGV)"),
        ("leaves", 3, "ended itself with exit code 3"),
        ("killed", 137, "perhaps the machine ran out of memory"),
        ("eats_memory", 1, "MemoryError"),
        ("exits", 1, "SystemExit: 4"),
        ("returns_a_set", 1, "cannot be sent"),
        ("nobody", 125, "there is no handler 'nobody' here"),
    ],
)
def test_whatever_a_handler_does_to_its_process_costs_that_call_alone(
    tmp_path: Path, name: str, code: int, words: str
) -> None:
    async def test() -> None:
        async with offering(tmp_path) as here:
            executor = await here.executor_pid()
            here.link.run_many([call("before", "double", 1), call("bad", name), call("after", "double", 2)])
            before, bad, after = [await here.exit(task) for task in ("before", "bad", "after")]
            assert (bad.code, bad.ended_by) == (code, "")
            assert words in bad.error
            assert (decode(before.result), decode(after.result)) == (2, 4)
            assert await here.executor_pid() == executor
            if name == "segfault":
                assert b"segfault" in bad.stderr  # the interpreter's own words: where it was

    go(test())


@pytest.mark.parametrize(
    ("name", "grace_s", "left"),
    [
        ("tidy", 30.0, ".cleaned"),
        ("sleeps", 30.0, ".cleaned"),
        ("loops", 30.0, ""),
        ("stubborn", 0.05, ".asked"),
    ],
)
def test_a_cancelled_handler_may_clean_up_and_ends_in_any_case(
    tmp_path: Path, name: str, grace_s: float, left: str
) -> None:
    ready = tmp_path / "ready"

    async def test() -> None:
        async with offering(tmp_path / "state") as here:
            here.link.run(call("t", name, str(ready)))
            await until(ready.exists)
            here.kill("t", "cancel", grace_s)
            ended = await here.exit("t")
            assert (ended.code, ended.ended_by) == (130, "cancel")
            assert not left or ready.with_suffix(left).exists()
            assert decode((await here.run(call("next", "double", 1))).result) == 2

    go(test())


def test_an_endless_loop_runs_into_its_time_limit(tmp_path: Path) -> None:
    ended = run_one(tmp_path, "loops", str(tmp_path / "ready"), timeout_s=0.3)
    assert (ended.code, ended.ended_by) == (124, "timeout")
    assert "longer than 0.3 s" in ended.error


def test_what_waits_for_a_process_is_cancelled_at_once(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    async def test() -> None:
        async with offering(tmp_path / "state") as here:
            here.link.run_many([call("first", "tidy", str(ready)), call("second", "double", 1)])
            await until(ready.exists)
            here.kill("second")
            ended = await here.exit("second")
            assert (ended.code, ended.ended_by) == (130, "cancel")
            here.kill("first")
            await here.exit("first")

    go(test())


def test_what_is_behind_a_call_that_is_slow_after_all_runs_elsewhere(tmp_path: Path) -> None:
    gate = tmp_path / "gate"

    async def test() -> None:
        async with offering(tmp_path / "state", slots=2) as here:
            here.link.run_many([call(f"learn{n}", "mostly_quick", "") for n in range(50)])
            await exits(here, 50)
            here.link.run(call("slow", "mostly_quick", str(gate)))
            here.link.run_many([call(f"quick{n}", "mostly_quick", "") for n in range(30)])
            assert all(ended.code == 0 for ended in await exits(here, 30))
            gate.touch()
            assert (await here.exit("slow")).code == 0

    go(test())


def test_progress_is_told_while_it_runs(tmp_path: Path) -> None:
    ready, gate = tmp_path / "ready", tmp_path / "gate"

    async def test() -> None:
        async with offering(tmp_path / "state") as here:
            spec = call("t", "reports", str(ready), str(gate))
            here.link.run(spec)
            await until(lambda: (spec.task, spec.token) in here.link.reports)
            assert here.link.reports[spec.task, spec.token] == Report(3.0, 10.0, "three")
            gate.touch()
            await here.exit("t")
            assert here.link.reports == {}

    go(test())


def test_inputs_and_outputs_are_files_in_its_scratch_folder(tmp_path: Path) -> None:
    async def test() -> None:
        async with offering(tmp_path) as here:
            spec = call("t", "copies", "in.txt", "out.txt", outputs=("out.txt",))
            scratch = here.link.run_dir(spec.task, spec.token) / "scratch"
            scratch.mkdir(parents=True)
            (scratch / "in.txt").write_text("text")
            ended = await here.run(spec)
            assert decode(ended.result) == "t"
            assert [(output.name, output.size) for output in ended.outputs] == [("out.txt", 4)]
            missing = await here.run(call("u", "double", 1, outputs=("out.txt",)))
            assert missing.code == 125
            assert "did not produce its output 'out.txt'" in missing.error

    go(test())


def test_a_node_that_comes_back_finds_what_runs_and_what_has_ended(tmp_path: Path) -> None:
    ready, gate = tmp_path / "ready", tmp_path / "gate"

    async def test() -> None:
        first = Node(tmp_path / "state")
        await first.up()
        first.link.offer(Offer(["offered"], [HERE], 2))
        first.link.run_many([call("runs", "reports", str(ready), str(gate)), call("ended", "double", 4)])
        await first.exit("ended")
        await until(ready.exists)
        await first.link.detach()
        second = Node(tmp_path / "state")
        held = await second.up()
        assert held["runs"].exit is None
        ended = held["ended"].exit
        assert ended is not None
        assert decode(ended.result) == 8
        gate.touch()
        assert (await second.exit("runs")).code == 0
        await second.link.stop(0.0)

    go(test())


def test_processes_of_a_lost_executor_are_ended_by_the_next(tmp_path: Path) -> None:
    ready = tmp_path / "ready"

    async def test() -> None:
        async with offering(tmp_path / "state") as here:
            here.link.run(call("t", "loops", str(ready)))
            loop = int(await until(lambda: ready.exists() and ready.read_text().partition("\n")[0]))
            os.kill(await here.executor_pid(), signal.SIGKILL)
            while not isinstance(event := await here.next(), ExecutorUp):
                assert not isinstance(event, ProcessExited)
            assert event.held == ()
            assert not alive(loop)

    go(test())


def test_handlers_that_cannot_be_loaded_fail_what_is_called_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name\n")

    async def test() -> None:
        async with offering(tmp_path / "state", 1, str(tmp_path / "broken.py")) as here:
            ended = await here.run(call("t", "double", 1))
            assert (ended.code, ended.ended_by) == (125, "spawn")
            assert "No module named 'nothing_of_this_name'" in ended.error

    go(test())


def test_without_an_offer_nothing_is_called(tmp_path: Path) -> None:
    async def test() -> None:
        async with node(tmp_path) as here:
            ended = await here.run(call("t", "double", 1))
            assert (ended.code, ended.ended_by) == (125, "spawn")
            assert "--handlers" in ended.error

    go(test())


async def next_exit(here: Node) -> ProcessExited:
    while not isinstance(event := await here.next(), ProcessExited):
        pass
    return event


async def exits(here: Node, count: int) -> list[Exit]:
    """The next ends, whosever they are."""
    found: list[Exit] = []
    while len(found) < count:
        event = await here.next()
        if isinstance(event, ProcessExited):
            found.append(event.exit)
    return found


def run_one(state_dir: Path, name: str, *args: object, **payload: Any) -> Exit:
    async def one() -> Exit:
        async with offering(state_dir) as here:
            return await here.run(call("t", name, *args, **payload))

    return asyncio.run(one())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
