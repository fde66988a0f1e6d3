"""Handlers through a real mesh, as the command line has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from benchmarks.local_mesh import LocalMesh, wait_until
from openclaw.handlers.values import encode
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import Item
from openclaw.records import Kind, Needs, Payload
from openclaw.runtime.verify import _as_needed

MODULE = """
import time
from pathlib import Path
from openclaw.handlers.declared import handler
from openclaw.handlers.task import task

@handler
def double(value): return value * 2

@handler
def fails(text): raise ValueError(text)

@handler
def takes(size): return len(bytearray(b"x") * size)

@handler
def big(size): return "x" * size

@handler
def waits(gate):
    task.progress(1, 2, "half way")
    while not Path(gate).exists():
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalMesh]:
    module = tmp_path_factory.mktemp("code") / "offers.py"
    module.write_text(MODULE)
    with LocalMesh(("plain",)) as mesh:
        invite = mesh["plain"].json("node", "invite")["token"]
        mesh.nodes["able"] = mesh.node("able").start("--handlers", str(module), "--slots", "1", join=invite)
        mesh.settle()
        wait_until(lambda: len(handlers(mesh)) == 5, "the handlers to be known")
        yield mesh


def handlers(mesh: LocalMesh) -> list[str]:
    rows = mesh["plain"].control("nodes")["nodes"]
    return [name for row in rows for name in row["handlers"]]


def test_a_handler_is_called_where_it_is_known_and_its_result_printed(mesh: LocalMesh) -> None:
    assert mesh["plain"].ok("run", "-q", "--handler", "double", "--payload", "[1, 2]") == "[1, 2, 1, 2]\n"
    document = mesh["plain"].json("run", "--handler", "double", "--payload", "21")
    assert (document["kind"], document["handler"], document["argv"]) == ("handler", "double", [])
    assert document["node"]["name"] == "able"
    assert document["result"]["value"] == 42


def test_a_large_result_comes_whole(mesh: LocalMesh) -> None:
    assert len(json.loads(mesh["plain"].ok("run", "--handler", "big", "--payload", "1000000"))) == 1_000_000


def test_an_exception_is_a_failure_with_its_traceback(mesh: LocalMesh) -> None:
    done = mesh["plain"].run("run", "--handler", "fails", "--payload", '"bad luck"')
    assert done.returncode == 1
    assert b"raise ValueError(text)" in done.stderr
    assert b"failed: ValueError: bad luck" in done.stderr


def test_a_memory_hog_is_kept_within_what_it_asked_for(mesh: LocalMesh) -> None:
    size = str(512 << 20)
    asked = ("run", "--handler", "takes", "--payload", size, "--need")
    done = mesh["plain"].run(*asked, "memory=256M")
    assert done.returncode in (1, 137)
    assert b"MemoryError" in done.stderr or b"wanted more than the" in done.stderr
    assert mesh["plain"].ok(*asked, "memory=1G").strip() == size


def test_a_handler_that_nobody_has_is_refused_at_once_with_the_reasons(mesh: LocalMesh) -> None:
    done = mesh["plain"].run("run", "--handler", "nobody")
    assert done.returncode == 125
    assert done.stderr.count(b"does not know the handler nobody") == 2


def test_progress_is_shown_from_another_node(mesh: LocalMesh, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    task = mesh["plain"].ok("run", "-d", "--handler", "waits", "--payload", json.dumps(str(gate))).strip()
    wait_until(lambda: bool(mesh["plain"].control("task_show", id=task)["task"]["progress"]), "a report")
    assert "1 of 2 (50 %) half way" in mesh["plain"].ok("task", "show", task)
    gate.touch()
    assert mesh["plain"].run("task", "wait", task).returncode == 0


def test_a_node_whose_handlers_cannot_be_loaded_does_not_start(mesh: LocalMesh) -> None:
    done = mesh.node("broken").run("node", "start", "--port", "0", "--handlers", "nothing_of_this_name")
    assert done.returncode == 125
    assert b"No module named 'nothing_of_this_name'" in done.stderr


@pytest.mark.parametrize(
    ("payload", "genuine"),
    [
        (Payload((), handler="double", args=encode([[], {}])), True),
        (Payload(("rm",), handler=""), False),
        (Payload((), handler="another"), False),
        (b"\xc1", False),
    ],
)
def test_a_command_cannot_be_passed_off_as_a_handler(payload: Payload | bytes, genuine: bool) -> None:
    data = payload if isinstance(payload, bytes) else msgspec.msgpack.encode(payload)
    needs = Needs(kind=Kind.HANDLER, handler="double")
    item = Item(TaskId("t"), Token(0, NodeId("o"), 1, 1), needs, data, 0, 0)
    assert _as_needed(item) is genuine
