"""What a program is promised: of the standard library's executors, and of the mesh beneath."""

from __future__ import annotations

import asyncio
import concurrent.futures as futures
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mesh_handlers
import numpy
import pytest

import openclaw
from benchmarks.local_mesh import LocalMesh, wait_until
from openclaw import aio
from openclaw.api.results import exception_of
from openclaw.handlers.values import encode

PATIENCE_S = 30
HANDLERS = str(Path(mesh_handlers.__file__).absolute())


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalMesh]:
    with LocalMesh(("laptop",)) as nodes:
        invite = nodes["laptop"].json("node", "invite")["token"]
        nodes.nodes["able"] = nodes.node("able").start("--handlers", HANDLERS, "--slots", "2", join=invite)
        nodes.settle()
        wait_until(
            lambda: any(row["handlers"] for row in nodes["laptop"].control("nodes")["nodes"]), "handlers"
        )
        yield nodes


@pytest.fixture
def mesh(nodes: LocalMesh) -> Iterator[openclaw.Mesh]:
    with openclaw.Mesh(nodes["laptop"].state_dir) as mesh:
        yield mesh


class Gate:
    """A task that runs for as long as a test wants."""

    def __init__(self, folder: Path) -> None:
        self.ready, self.gate = folder / "ready", folder / "gate"
        self.args = (str(self.ready), str(self.gate))

    def running(self) -> None:
        wait_until(self.ready.exists, "the task to run")

    def open(self) -> None:
        self.gate.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    gate = Gate(tmp_path)
    yield gate
    gate.open()


# --- submit --------------------------------------------------------------------------------------


def test_submit_calls_with_positions_and_names(mesh: openclaw.Mesh) -> None:
    assert mesh.submit("double", 21).result(PATIENCE_S) == 42
    assert mesh.submit(mesh_handlers.double, value=4).result(PATIENCE_S) == 8
    careful = mesh.using(once=True, replicas=0, labels={}, node="able", priority=3)
    assert careful.submit("double", 5).result(PATIENCE_S) == 10
    assert mesh.submit("pair", 1, self=2, fn=3).result(PATIENCE_S) == [1, "nothing", {"self": 2, "fn": 3}]


def test_what_no_node_or_no_message_can_take_is_said(mesh: openclaw.Mesh) -> None:
    with pytest.raises(openclaw.MeshError, match="does not know the handler nobody"):
        mesh.submit("nobody").result(PATIENCE_S)
    with pytest.raises(TypeError, match=r"builtins.set cannot be sent"):
        mesh.submit("double", {1})
    with pytest.raises(TypeError, match="no task type"):
        mesh.submit(len, [])
    with pytest.raises(TypeError, match="takes no arguments"):
        mesh.submit(openclaw.Command(["true"]), 1)


def test_one_that_is_refused_takes_no_others_along(mesh: openclaw.Mesh) -> None:
    submitted = [mesh.submit("double" if n % 3 else "nobody", n) for n in range(30)]
    for n, future in enumerate(submitted):
        if n % 3:
            assert future.result(PATIENCE_S) == 2 * n
        else:
            assert isinstance(future.exception(PATIENCE_S), openclaw.MeshError)


def test_large_values_travel_as_files(mesh: openclaw.Mesh) -> None:
    array = numpy.arange(1 << 17, dtype=float)
    back = mesh.submit("echo", {"array": array}).result(PATIENCE_S)["array"]
    assert (back == array).all()


# --- exceptions ----------------------------------------------------------------------------------


def test_an_exception_keeps_its_type_and_its_cause_is_the_remote_traceback(mesh: openclaw.Mesh) -> None:
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        mesh.submit("divide", 1, by=0).result(PATIENCE_S)
    assert isinstance(caught.value.__cause__, openclaw.RemoteTraceback)
    assert "return value / by" in str(caught.value.__cause__)
    error = mesh.submit("opens", "/a").exception(PATIENCE_S)
    assert isinstance(error, FileNotFoundError)
    assert (error.errno, error.filename) == (2, "/a")


def test_an_exception_that_only_the_handler_knows_is_named(mesh: openclaw.Mesh) -> None:
    with pytest.raises(openclaw.RemoteError, match="Odd: strange") as caught:
        mesh.submit("odd", "strange").result(PATIENCE_S)
    assert caught.value.type == "mesh_handlers.Odd"
    assert "raise Odd(text)" in caught.value.traceback


@pytest.mark.parametrize("name", ["SystemExit", "eval", "ExceptionGroup", "UnicodeDecodeError"])
def test_nothing_but_an_exception_is_made_of_what_another_node_says(name: str) -> None:
    document = {"type": name, "module": "builtins", "message": "m", "traceback": "t", "args": encode(["x"])}
    assert isinstance(exception_of(document), openclaw.RemoteError)


def test_a_time_limit_and_a_lost_process_are_errors_of_the_task(mesh: openclaw.Mesh, gate: Gate) -> None:
    with pytest.raises(TimeoutError, match=r"timed out on able: it ran longer than 0.2 s") as caught:
        mesh.using(timeout_s=0.2).submit("waits", *gate.args).result(PATIENCE_S)
    assert isinstance(caught.value, openclaw.TaskError)
    assert caught.value.node == "able"


# --- commands ------------------------------------------------------------------------------------


def test_a_command_gives_its_output_and_files(mesh: openclaw.Mesh, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("text")
    command = openclaw.Command(
        ["sh", "-c", "tr a-z A-Z < in.txt > out.txt; echo $WORD; seq 10000 >&2"],
        env={"WORD": "said"}, inputs=[tmp_path / "in.txt"], outputs=["out.txt"],
    )  # fmt: skip
    done = mesh.submit(command).result(PATIENCE_S)
    assert (done.exit_code, done.stdout) == (0, b"said\n")
    assert len(done.stderr.splitlines()) == 10_000
    assert done.files["out.txt"].read_text() == "TEXT"


def test_a_command_that_fails_is_an_error_unless_nobody_checks(mesh: openclaw.Mesh) -> None:
    with pytest.raises(openclaw.TaskError, match=r"failed on .*: exit code 3 \(why\)") as caught:
        mesh.submit(openclaw.Command(["sh", "-c", "echo why >&2; exit 3"])).result(PATIENCE_S)
    assert caught.value.result.exit_code == 3
    assert mesh.submit(openclaw.Command(["false"], check=False)).result(PATIENCE_S).exit_code == 1


SKILL = """---
name: upper
description: Makes a text upper case.
metadata:
  openclaw-mesh:
    entrypoints:
      text:
        argv: ["/bin/sh", "{baseDir}/upper.sh", "{text}", "{out}"]
        params: {properties: {text: {type: string}, out: {type: string, default: out.txt}}, required: [text]}
        inputs: [text]
        outputs: [out]
---
"""


def test_a_skill_takes_its_parameters_and_gives_its_files(
    mesh: openclaw.Mesh, nodes: LocalMesh, tmp_path: Path
) -> None:
    folder = nodes["able"].state_dir / "skills" / "upper"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text(SKILL)
    (folder / "upper.sh").write_text('tr a-z A-Z < "$1" > "$2"\n')
    nodes["able"].control("skills", refresh=True)
    wait_until(lambda: "upper" in str(nodes["laptop"].control("skills")["skills"]), "the skill to spread")
    (tmp_path / "in.txt").write_text("text")
    done = mesh.submit(openclaw.Skill("upper:text", text=str(tmp_path / "in.txt"))).result(PATIENCE_S)
    assert done.files["out.txt"].read_text() == "TEXT"
    with pytest.raises(openclaw.MeshError, match="text"):
        mesh.submit(openclaw.Skill("upper", text=7))
    with pytest.raises(openclaw.MeshError, match="has a skill"):
        mesh.submit(openclaw.Skill("nothing"))


# --- map -----------------------------------------------------------------------------------------


def test_map_keeps_the_order_and_stops_with_the_shortest(mesh: openclaw.Mesh) -> None:
    assert list(mesh.map("pair", range(5), "abc")) == [[n, letter, {}] for n, letter in enumerate("abc")]
    assert list(mesh.map("double", range(500))) == [2 * n for n in range(500)]


def test_map_raises_where_the_result_would_be(mesh: openclaw.Mesh) -> None:
    results = mesh.map("divide", [1, 1, 1], [1, 0, 1])
    assert next(results) == 1.0
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_ends_with_its_time_limit_and_cancels_the_rest(mesh: openclaw.Mesh, gate: Gate) -> None:
    with pytest.raises(TimeoutError):
        list(mesh.map("waits", [gate.args[0]], [gate.args[1]], timeout=0.1))


# --- cancel, wait, as_completed, callbacks -------------------------------------------------------


def test_a_task_that_runs_is_cancelled_on_its_node(mesh: openclaw.Mesh, nodes: LocalMesh, gate: Gate) -> None:
    future = mesh.submit("waits", *gate.args)
    gate.running()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(futures.CancelledError):
        future.result(0)
    wait_until(lambda: future.task is not None, "its id")
    laptop = nodes["laptop"]
    wait_until(lambda: laptop.control("task_show", id=future.task)["task"]["state"] == "cancelled", "its end")
    assert mesh.submit("double", 1).result(PATIENCE_S) == 2


def test_what_has_ended_is_not_cancelled(mesh: openclaw.Mesh) -> None:
    future = mesh.submit("double", 1)
    assert future.result(PATIENCE_S) == 2
    assert not future.cancel()


def test_one_that_others_cancel_is_cancelled(mesh: openclaw.Mesh, nodes: LocalMesh, gate: Gate) -> None:
    future = mesh.submit("waits", *gate.args)
    gate.running()
    wait_until(lambda: future.task is not None, "its id")
    nodes["laptop"].control("cancel", ids=[future.task])
    with pytest.raises(futures.CancelledError):
        future.result(PATIENCE_S)


def test_wait_and_as_completed_of_the_standard_library(mesh: openclaw.Mesh, gate: Gate) -> None:
    slow, quick = mesh.submit("waits", *gate.args), mesh.submit("double", 2)
    done, pending = futures.wait([slow, quick], PATIENCE_S, futures.FIRST_COMPLETED)
    assert (done, pending) == ({quick}, {slow})
    bad = mesh.submit("divide", 1, by=0)
    done, pending = futures.wait([slow, bad], PATIENCE_S, futures.FIRST_EXCEPTION)
    assert (done, pending) == ({bad}, {slow})
    with pytest.raises(TimeoutError):
        list(futures.as_completed([slow, quick], timeout=0.05))
    gate.open()
    assert [each.result() for each in futures.as_completed([slow, slow], PATIENCE_S)] == ["passed"]
    done, pending = futures.wait([slow, quick, bad], PATIENCE_S)
    assert not pending


def test_callbacks_may_submit_and_may_raise(mesh: openclaw.Mesh, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Any] = []
    called = threading.Event()

    def more(future: futures.Future[Any]) -> None:
        seen.append(mesh.submit("double", future.result()))
        called.set()
        raise RuntimeError("of a callback")

    future = mesh.submit("double", 1)
    future.add_done_callback(more)
    assert called.wait(PATIENCE_S)
    assert seen[0].result(PATIENCE_S) == 4
    assert "exception calling callback" in caplog.text
    refused = threading.Event()
    mesh.submit("nobody").add_done_callback(lambda _: (mesh.submit("double", 1), refused.set()))
    assert refused.wait(PATIENCE_S)


def test_progress_is_what_the_handler_said(mesh: openclaw.Mesh, gate: Gate) -> None:
    future = mesh.submit("waits", *gate.args)
    gate.running()
    wait_until(lambda: mesh.progress(future) == {"done": 1, "total": 4, "note": "waiting"}, "a report")
    gate.open()
    assert future.result(PATIENCE_S) == "passed"
    assert mesh.progress(future) is None


# --- shutdown ------------------------------------------------------------------------------------


def test_after_shutdown_nothing_is_taken_and_all_has_ended(nodes: LocalMesh) -> None:
    mesh = openclaw.Mesh(nodes["laptop"].state_dir)
    submitted = [mesh.submit("double", n) for n in range(20)]
    mesh.shutdown()
    assert [future.result(0) for future in submitted] == [2 * n for n in range(20)]
    for again in (mesh, mesh.using(retries=1)):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            again.submit("double", 1)
    mesh.shutdown()


def test_shutdown_without_waiting_lets_all_end(nodes: LocalMesh, gate: Gate) -> None:
    mesh = openclaw.Mesh(nodes["laptop"].state_dir)
    future = mesh.submit("waits", *gate.args)
    mesh.shutdown(wait=False)
    assert not future.done()
    gate.open()
    assert future.result(PATIENCE_S) == "passed"


def test_shutdown_cancels_if_asked(nodes: LocalMesh, gate: Gate) -> None:
    mesh = openclaw.Mesh(nodes["laptop"].state_dir)
    submitted = [mesh.submit("waits", *gate.args) for _ in range(5)]
    gate.running()
    mesh.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in submitted)


def test_a_program_that_ends_without_shutdown_does_not_hang(nodes: LocalMesh) -> None:
    code = "import openclaw, sys; mesh = openclaw.Mesh(sys.argv[1]); print(mesh.submit('double', 4).result())"
    argv = [sys.executable, "-c", code, str(nodes["laptop"].state_dir)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


def test_where_no_node_runs_it_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(openclaw.Unavailable, match="openclaw node start"):
        openclaw.Mesh(tmp_path)


# --- the node goes and comes back ----------------------------------------------------------------


def test_a_program_outlives_its_node(nodes: LocalMesh, gate: Gate) -> None:
    laptop = nodes["laptop"]
    with openclaw.Mesh(laptop.state_dir) as mesh:
        runs = mesh.submit("waits", *gate.args)
        gate.running()
        laptop.kill()
        meanwhile = [mesh.submit("double", n) for n in range(300)]
        gate.open()
        laptop.start()
        assert runs.result(PATIENCE_S) == "passed"
        assert [future.result(PATIENCE_S) for future in meanwhile] == [2 * n for n in range(300)]
    nodes.settle()


# --- asyncio -------------------------------------------------------------------------------------


def test_the_asyncio_twin(nodes: LocalMesh, gate: Gate) -> None:
    async def program() -> None:
        async with aio.Mesh(nodes["laptop"].state_dir) as mesh:
            assert await mesh.submit("double", 21) == 42
            assert [value async for value in mesh.map("double", range(300))] == [2 * n for n in range(300)]
            with pytest.raises(ZeroDivisionError):
                await mesh.submit("divide", 1, by=0)
            slow = mesh.submit("waits", *gate.args)
            await asyncio.to_thread(gate.running)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert (await mesh.status())["tasks"]["succeeded"] > 0
            assert await mesh.using(priority=1).submit("double", 2) == 4

    asyncio.run(asyncio.wait_for(program(), PATIENCE_S))


def test_importing_the_package_loads_next_to_nothing() -> None:
    code = "import sys, openclaw; print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    ours = [name for name in eval(done.stdout) if name.startswith(("openclaw", "zmq", "msg", "asyncio"))]
    assert ours == ["openclaw"]
