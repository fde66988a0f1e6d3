"""`openclaw map`: a task a line, results in the order of the lines, bounded and stoppable."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading

import pytest

from openclaw.__main__ import main
from openclaw.cli import map as mapping
from openclaw.cli.progress import Progress
from openclaw.config import SUBMIT_BATCH_MAX


class Mesh:
    """Accepts tasks and ends them in reverse order; `fail` are the lines whose task fails."""

    def __init__(self, node, ended, fail=()):
        self.argv = {}
        self._ended = ended
        self._fail = fail
        self._number = itertools.count()
        node.answers |= {
            "submit": self.submit,
            "wait": self.wait,
            "task_logs": self.logs,
            "cancel": self.cancel,
        }

    def submit(self, request):
        ids = [f"aaaa-b{next(self._number)}" for _ in request["tasks"]]
        self.argv |= {task: each["argv"] for task, each in zip(ids, request["tasks"], strict=True)}
        yield {"ok": True, "ids": ids, "guardians": []}

    def output(self, task):
        return " ".join(self.argv[task]).encode() + b"\n"

    def wait(self, request):
        for task in reversed(request["ids"]):
            failed = self.argv[task][-1] in self._fail
            end = {"state": "failed", "exit_code": 9} if failed else {}
            data = self.output(task)
            outputs = {"stdout": data, "stderr": b"", "stdout_size": len(data), "stderr_size": 0}
            yield {"event": "done", "task": self._ended(id=task, **end) | outputs}
        yield {"ok": True}

    def logs(self, request):
        yield {"event": "out", "stream": request["stream"], "data": self.output(request["id"])}
        yield {"ok": True, "task": self._ended(id=request["id"])}

    def cancel(self, request):
        yield {"ok": True, "cancelled": request["ids"]}


@pytest.fixture
def lines(tmp_path):
    def write(*text):
        path = tmp_path / "lines"
        path.write_text("".join(f"{line}\n" for line in text))
        return str(path)

    return write


class FullMesh(Mesh):
    """Takes nothing more while something of it runs; at first not even that."""

    def __init__(self, node, ended, takes=1):
        super().__init__(node, ended)
        self.waited, self.refused, self._takes = threading.Event(), 0, takes

    def submit(self, request):
        if self._takes == 0:
            self.refused += 1
            self.waited.set()
            yield {"ok": False, "error": {"type": "full", "message": "full (queue_tasks)", "exit_code": 125}}
            return
        self._takes -= 1
        yield from super().submit(request)

    def wait(self, request):
        self.waited.wait(20)
        yield from super().wait(request)
        self._takes = 1
        self.waited.clear()


def test_a_full_mesh_is_asked_again_when_some_have_ended(node, ended, lines, capfd):
    mesh = FullMesh(node, ended)
    count = SUBMIT_BATCH_MAX + 10
    assert main(["map", lines(*range(count)), "--", "echo", "{}"]) == 0
    assert capfd.readouterr().out.splitlines() == [f"echo {number}" for number in range(count)]
    assert mesh.refused > 0


def test_a_mesh_that_is_full_of_others_is_an_error(node, ended, lines, capfd):
    FullMesh(node, ended, takes=0)
    assert main(["map", lines("a"), "--", "echo", "{}"]) == 125
    assert "queue_tasks" in capfd.readouterr().err


def test_results_come_in_the_order_of_the_lines(node, ended, lines, capfd):
    Mesh(node, ended)
    count = SUBMIT_BATCH_MAX * 2 + 10
    assert main(["map", lines(*range(count)), "--", "echo", "-n", "<{}-{}>"]) == 0
    out = capfd.readouterr().out.splitlines()
    assert out == [f"echo -n <{number}-{number}>" for number in range(count)]
    jobs = {task["job"] for request in node.asked("submit") for task in request["tasks"]}
    assert len(jobs) == 1
    assert max(len(request["tasks"]) for request in node.asked("submit")) <= SUBMIT_BATCH_MAX


def test_without_braces_the_line_is_not_passed(node, ended, lines, capfd):
    Mesh(node, ended)
    assert main(["map", lines("a", "b"), "--", "date"]) == 0
    assert capfd.readouterr().out == "date\ndate\n"


def test_lines_come_from_standard_input_too(node, ended):
    Mesh(node, ended)
    command = [sys.executable, "-m", "openclaw", "map", "-", "--", "x", "{}"]
    done = subprocess.run(command, input="a b\r\n\nlast", capture_output=True, text=True, check=True)
    assert done.stdout == "x a b\nx \nx last\n"


def test_a_failure_stops_the_map(node, ended, lines, capfd):
    Mesh(node, ended, fail=("1",))
    assert main(["map", lines(*range(3)), "--", "x", "{}"]) == 1
    out, err = capfd.readouterr()
    assert out == "x 0\nx 1\n"
    assert "line 2" in err
    assert "--keep-going" in err


def test_a_failure_cancels_what_still_runs(node, ended, lines, capfd):
    mesh = Mesh(node, ended, fail=("0",))
    release = threading.Event()

    def wait(request):
        frames = list(mesh.wait(request))
        yield frames[-2]  # the end of the first line's task
        release.wait(30)

    node.answers["wait"] = wait
    assert main(["map", lines(*range(3)), "--", "x", "{}"]) == 1
    release.set()
    assert [request["ids"] for request in node.asked("cancel")] == [["aaaa-b1", "aaaa-b2"]]
    assert "cancelling 2 tasks" in capfd.readouterr().err


def test_keep_going_runs_all_and_still_fails(node, ended, lines, capfd):
    Mesh(node, ended, fail=("1",))
    assert main(["map", "--keep-going", lines(*range(3)), "--", "x", "{}"]) == 1
    out, err = capfd.readouterr()
    assert out == "x 0\nx 1\nx 2\n"
    assert "line 2" in err


def test_json_is_a_document_a_line(node, ended, lines, capfd):
    Mesh(node, ended)
    assert main(["map", "--json", lines("a", "b"), "--", "x", "{}"]) == 0
    found = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [(row["line"], row["stdout"], row["state"]) for row in found] == [
        (1, "x a\n", "succeeded"),
        (2, "x b\n", "succeeded"),
    ]


def test_what_does_not_fit_in_memory_is_asked_for_again(node, ended, lines, capfd, monkeypatch):
    monkeypatch.setattr(mapping, "MAP_HELD_BYTES_MAX", 10)
    Mesh(node, ended)
    assert main(["map", lines(*range(8)), "--", "x", "{}"]) == 0
    assert capfd.readouterr().out == "".join(f"x {number}\n" for number in range(8))
    assert node.asked("task_logs")


def test_a_line_that_is_too_long_is_refused(node, ended, lines, capfd):
    Mesh(node, ended)
    assert main(["map", lines("x" * (mapping.MAP_LINE_BYTES_MAX + 1)), "--", "x", "{}"]) == 1
    assert "line 1 is over" in capfd.readouterr().err
    assert not node.asked("submit")


def test_an_interrupt_cancels_all(node, ended, lines):
    Mesh(node, ended)
    waiting, release = threading.Event(), threading.Event()

    def wait(_):
        waiting.set()
        release.wait(30)
        yield {"ok": True}

    node.answers["wait"] = wait
    command = [sys.executable, "-m", "openclaw", "map", lines("a", "b"), "--", "x", "{}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        assert waiting.wait(30)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    release.set()
    assert process.returncode == 130
    assert [len(request["ids"]) for request in node.asked("cancel")] == [2]


def test_no_more_is_submitted_while_too_much_is_done_before_its_turn(node, ended, lines, capfd, monkeypatch):
    """The first line takes long; the others are done, and wait for it."""
    monkeypatch.setattr(mapping, "MAP_AHEAD_MAX", 300)
    mesh = Mesh(node, ended)
    first_may_end = threading.Event()
    whole = SUBMIT_BATCH_MAX * 6

    def submit(request):
        yield from mesh.submit(request)
        if len(mesh.argv) > 300 + 16 * SUBMIT_BATCH_MAX:  # what may be under way, and what may be done
            pytest.fail("it submits without end")

    def wait(request):
        for task in request["ids"]:
            if task == "aaaa-b0":
                first_may_end.wait(20)
            elif len(mesh.argv) >= SUBMIT_BATCH_MAX * 2:
                first_may_end.set()
        yield from mesh.wait(request)

    node.answers |= {"submit": submit, "wait": wait}
    monkeypatch.setattr(mapping, "MAP_CHUNKS_MAX", 2)
    assert main(["map", lines(*map(str, range(whole))), "--", "echo", "{}"]) == 0
    assert capfd.readouterr().out.split() == [word for n in range(whole) for word in ("echo", str(n))]


def test_progress_knows_the_rate_and_what_is_left():
    now = [0.0]
    progress = Progress(False, total_bytes=40, clock=lambda: now[0])
    assert "done" in progress.line(0, 0, 0.0)
    for _ in range(5):
        progress.read("abc")
    now[0] = 2.0
    assert progress.line(4, 1, 2.0) == "[##########--------------] 40% of about 10, 2.0/s, 3s left, 1 failed"
    progress.read_all()
    assert progress.line(5, 0, 60.0).startswith("[" + "#" * 24 + "] 100% of 5, ")
    unknown = Progress(False, total_bytes=0, clock=lambda: now[0])
    unknown.read("abc")
    assert unknown.line(3, 0, 4.0) == "3 done, 1.5/s"


def test_under_a_key_each_line_is_the_same_task_again(node, ended, lines):
    Mesh(node, ended)
    path = lines("a", "b", "a")

    def keys(*words):
        before = len(node.asked("submit"))
        assert main(["map", "--key", "run 7", path, "--", *words]) == 0
        return [task["key"] for request in node.asked("submit")[before:] for task in request["tasks"]]

    first, again, other = keys("x", "{}"), keys("x", "{}"), keys("y", "{}")
    assert first == again
    assert len(set(first)) == 3
    assert all(key.startswith(f"run 7/{n}:") for n, key in enumerate(first, 1))
    assert not set(first) & set(other)
    jobs = {task["job"] for request in node.asked("submit") for task in request["tasks"]}
    assert len(jobs) == 1


def test_under_a_key_nothing_is_cancelled(node, ended, lines, capfd):
    Mesh(node, ended, fail=("b",))
    assert main(["map", "--key", "k", lines("a", "b", "c"), "--", "x", "{}"]) == 1
    assert not node.asked("cancel")
    assert "--key k" in capfd.readouterr().err
