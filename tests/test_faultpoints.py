"""Fault points: a process dies at the pass that was armed and at no other, and only once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from openclaw import messages as m
from openclaw.effects import Event, ProcessExited, Received, Store
from openclaw.faultpoints import HIT, VARIABLE, read
from openclaw.ids import NodeId, TaskId, Token
from openclaw.records import Attempt, Batch, Copy, Exit, Needs, Number, Progress, State, Submission, Table
from openclaw.runtime.control import Operation
from openclaw.runtime.faults import Faults, event_name, message_name, row_name

PASSING = "import sys; from openclaw.faultpoints import passed\nfor point in sys.argv[1:]: passed(point); print(point)"
TASK, NODE = TaskId("owner-1"), NodeId("node")
TOKEN = Token(0, NODE, 1, 1)


def passing(fault: Path, *points: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, VARIABLE: str(fault)}
    return subprocess.run(
        [sys.executable, "-c", PASSING, *points], env=environ, capture_output=True, text=True, check=False
    )


def test_it_dies_at_the_pass_that_was_armed_and_once(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    fault.write_text("here 2")
    done = passing(fault, "here", "there", "here", "here")
    assert done.returncode == -signal.SIGKILL
    hit = fault.with_name(fault.name + HIT).read_text()
    assert read(hit.splitlines()[0]).point == "here"
    assert not fault.exists()
    assert passing(fault, "here", "here").stdout.split() == ["here", "here"]


def test_it_kills_whom_it_was_told_to_and_goes_on(tmp_path: Path) -> None:
    fault = tmp_path / "fault"
    with subprocess.Popen(["sleep", "1000"]) as other:
        fault.write_text(f"here 1 {other.pid}")
        done = passing(fault, "here", "there")
        assert other.wait() == -signal.SIGKILL
    assert (done.returncode, done.stdout.split()) == (0, ["here", "there"])


def test_unarmed_it_lives(tmp_path: Path) -> None:
    assert passing(tmp_path / "fault", "here", "there").stdout.split() == ["here", "there"]


def test_without_a_test_nothing_is_wrapped() -> None:
    def commit(_stores: Sequence[Store]) -> None: ...
    def post(_event: Event) -> None: ...
    def send(_to: NodeId, _message: m.AnyMessage) -> bool:
        return True

    table: dict[str, Operation] = {}
    faults = Faults(None)
    assert faults.committing(commit) is commit
    assert faults.performing(commit) is commit  # type: ignore[arg-type]
    assert faults.hearing(post) is post
    assert faults.sending(send) is send
    assert faults.answering(table) is table


SUBMISSION = Submission(TASK, Needs(), b"", Batch(b"", b""), 0, 0.0)


@pytest.mark.parametrize(
    ("store", "name"),
    [
        (Store(Table.TASKS, TASK, SUBMISSION), "tasks"),
        (Store(Table.PROGRESS, TASK, Progress(TASK, State.PLACED)), "progress.placed"),
        (Store(Table.PROGRESS, TASK, Progress(TASK, State.FAILED)), "progress.final"),
        (Store(Table.COPIES, TASK, Copy(SUBMISSION, Progress(TASK, State.QUEUED))), "copies.queued"),
        (Store(Table.ATTEMPTS, TASK, Attempt(TASK, TOKEN, NODE)), "attempts.running"),
        (Store(Table.ATTEMPTS, TASK, Attempt(TASK, TOKEN, NODE, Exit(0))), "attempts.final"),
        (Store(Table.ATTEMPTS, TASK, None), "attempts.gone"),
        (Store(Table.META, "incarnation", Number(1)), "meta"),
    ],
)
def test_a_row_is_named_by_what_it_says(store: Store, name: str) -> None:
    assert row_name(store) == name


def test_what_is_said_and_heard_is_named_by_its_kind() -> None:
    told = m.Guard((), (m.Kept(Progress(TASK, State.LOST)),))
    assert message_name(told) == "Guard.final"
    assert event_name(Received(told, NODE)) == "Guard.final"
    assert message_name(m.OutcomesStored(((TASK, TOKEN),))) == "OutcomesStored"
    assert event_name(ProcessExited(TASK, TOKEN, Exit(0))) == "ProcessExited"
