"""`openclaw run`: what is passed on, what comes back, and what Ctrl-C does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from openclaw.__main__ import main


def frames(task, *out):
    yield {"event": "accepted", "id": task["id"]}
    yield {"event": "placed", "node": "nas"}
    for stream, data in out:
        yield {"event": "out", "stream": stream, "data": data}
    yield {"ok": True, "task": task}


def test_output_is_live_and_binary_and_the_node_is_named(node, ended, capfdbinary):
    node.answers["run"] = lambda _: frames(ended(), (1, b"a\xff\n"), (2, b"warn\n"), (1, b"b"))
    assert main(["run", "--", "true"]) == 0
    out, err = capfdbinary.readouterr()
    assert out == b"a\xff\nb"
    assert b"running on nas" in err
    assert b"warn\n" in err


def test_quiet_hides_the_node(node, ended, capfd):
    node.answers["run"] = lambda _: frames(ended())
    assert main(["run", "-q", "--", "true"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        (["--", "echo", "-n", "--", "$HOME", "", "a b"], ["echo", "-n", "--", "$HOME", "", "a b"]),
        (["--", "--"], ["--"]),
        (["--", "--json", "-d", "--help"], ["--json", "-d", "--help"]),
        (["-q", "echo", "--json", "é"], ["echo", "--json", "é"]),
    ],
)
def test_what_stands_after_the_dashes_is_passed_on_verbatim(node, ended, line, argv):
    node.answers["run"] = lambda _: frames(ended())
    assert main(["run", *line]) == 0
    assert node.asked("run")[0]["task"]["argv"] == argv


def test_every_option_reaches_the_node(node, ended, monkeypatch):
    monkeypatch.setenv("SECRET", "s3")
    node.answers["run"] = lambda _: frames(ended())
    line = "run --node nas --label gpu=a --skill cut --env A=b=c --env SECRET --cwd /srv --timeout 10m --retries 2"
    line += " --need cpus=2,memory=1.5G,gpus=1"
    assert main([*line.split(), "--once", "--priority", "7", "--name", "x", "--", "true"]) == 0
    task = node.asked("run")[0]["task"]
    room = {"cpus": 2, "memory_bytes": 3 << 29, "gpus": 1}
    assert task["needs"] == {"node": "nas", "labels": {"gpu": "a"}, "skills": ["cut"]} | room
    assert task["env"] == {"A": "b=c", "SECRET": "s3"}
    assert (task["cwd"], task["timeout_s"], task["retries"], task["once"]) == ("/srv", 600.0, 2, True)
    assert (task["priority"], task["name"]) == (7, "x")


@pytest.mark.parametrize(
    "need", ["cpu=2", "cpus=", "cpus=-1", "memory=4X", "memory=G", "gpus=1.5", "cpus=2,,"]
)
def test_what_cannot_be_needed_is_wrong_usage(node, need, capfd):
    assert main(["run", "--need", need, "--", "true"]) == 2
    assert "cpus=2, memory=4G, gpus=1" in capfd.readouterr().err
    assert not node.asked("run")


def test_a_line_of_shell_is_explicit(node, ended):
    node.answers["run"] = lambda _: frames(ended())
    assert main(["run", "--shell", "a | b"]) == 0
    task = node.asked("run")[0]["task"]
    assert (task["argv"], task["title"]) == (["/bin/sh", "-c", "a | b"], "a | b")


def test_words_that_name_files_here_are_told(node, ended, tmp_path, monkeypatch):
    for name in ("data.csv", "-", "f"):
        (tmp_path / name).write_text("x")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    node.answers["run"] = lambda _: frames(ended())
    assert main(["run", "--", "wc", "-l", "folder", "data.csv", "--from=f", "data.csv", "none"]) == 0
    assert main(["run", "--shell", "wc -l <data.csv>out;cat 'f'"]) == 0
    assert [request["task"]["local_files"] for request in node.asked("run")] == [["data.csv", "f"]] * 2


@pytest.mark.parametrize(
    ("state", "code"),
    [("succeeded", 0), ("failed", 3), ("failed", 127), ("failed", 137), ("timed_out", 124), ("cancelled", 130),
     ("lost", 125)],
)  # fmt: skip
def test_the_exit_code_is_the_tasks_own(node, ended, state, code):
    node.answers["run"] = lambda _: frames(ended(state=state, exit_code=code))
    assert main(["run", "--", "x"]) == code


def test_a_reason_is_said(node, ended, capfd):
    node.answers["run"] = lambda _: frames(
        ended(state="failed", exit_code=127, error="nope is not installed on nas")
    )
    assert main(["run", "--", "nope"]) == 127
    assert "nope is not installed on nas" in capfd.readouterr().err


def test_json_is_one_document_on_stdout_and_the_rest_on_stderr(node, ended, capfd):
    task = ended(state="failed", exit_code=4)
    node.answers["run"] = lambda _: frames(task, (1, b"data\n"))
    assert main(["run", "--json", "--", "x"]) == 4
    out, err = capfd.readouterr()
    assert json.loads(out) == task
    assert "data\n" in err


def test_detached_prints_only_the_id(node, capfd):
    node.answer("submit", {"ok": True, "ids": ["aaaa-b7"], "guardians": []})
    assert main(["run", "-d", "--", "true"]) == 0
    assert capfd.readouterr().out == "aaaa-b7\n"
    assert main(["run", "-d", "--json", "--", "true"]) == 0
    assert json.loads(capfd.readouterr().out) == {"id": "aaaa-b7", "guardians": []}


def test_a_refusal_of_the_node_is_ours(node, capfd):
    refusal = {"type": "not_eligible", "message": "no node has skill 'cut'", "exit_code": 125}
    node.answer("run", {"ok": False, "error": refusal})
    assert main(["run", "--", "true"]) == 125
    assert capfd.readouterr().err == "openclaw: no node has skill 'cut'\n"
    assert main(["run", "--json", "--", "true"]) == 125
    error = {"type": "not_eligible", "message": "no node has skill 'cut'"}
    assert json.loads(capfd.readouterr().out) == {"ok": False, "error": error}


def test_a_node_that_goes_away_leaves_the_id(node, capfd):
    node.answer("run", {"event": "accepted", "id": "aaaa-b1"}, {"event": "hang up"})
    assert main(["run", "--", "true"]) == 125
    assert "openclaw task wait aaaa-b1" in capfd.readouterr().err


@pytest.mark.parametrize(
    "line", [["run"], ["run", "--shell", "a", "--", "b"], ["run", "--timeout", "soon", "--", "b"]]
)
def test_wrong_usage_is_2(node, line, capfd):
    assert main(line) == 2
    assert "--help" in capfd.readouterr().err
    assert not node.requests


def test_a_variable_that_is_not_set_is_refused(node, capfd):
    assert main(["run", "--env", "SURELY_NOT_SET", "--", "x"]) == 2
    assert not node.requests
    assert "SURELY_NOT_SET is not set here" in capfd.readouterr().err


def test_no_node_here_says_how_to_start_one(tmp_path, capfd):
    assert main(["--state-dir", str(tmp_path), "run", "--", "true"]) == 125
    assert "openclaw node start" in capfd.readouterr().err
    assert main(["run", "--state-dir", str(tmp_path / "nowhere"), "--json", "--", "true"]) == 125
    assert json.loads(capfd.readouterr().out)["error"]["type"] == "no_node"


def test_files_go_and_come_back(node, ended, tmp_path, monkeypatch, capfd):
    kept = tmp_path / "kept"
    kept.write_bytes(b"result")
    (tmp_path / "in.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    node.answers["run"] = lambda _: frames(ended())
    node.answer(
        "outputs",
        {"event": "fetching", "name": "out.txt", "size": 1_500_000},
        {"event": "output", "name": "out.txt", "path": str(kept)},
        {"ok": True},
    )
    (tmp_path / "sub").mkdir()
    assert main(["run", "--input", "in.txt", "--output", "sub/out.txt", "--", "x"]) == 0
    task = node.asked("run")[0]["task"]
    assert task["inputs"] == [{"path": str(tmp_path / "in.txt"), "name": "in.txt"}]
    assert task["outputs"] == ["out.txt"]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["out.txt"]
    assert (tmp_path / "sub/out.txt").read_bytes() == b"result"
    said = capfd.readouterr().err
    assert "fetching out.txt (1.5 MB)" in said
    assert "wrote sub/out.txt" in said


def test_no_output_is_taken_from_a_failure(node, ended, tmp_path):
    node.answers["run"] = lambda _: frames(ended(state="failed", exit_code=1))
    assert main(["run", "--output", str(tmp_path / "out"), "--", "x"]) == 1
    assert not node.asked("outputs")


def test_two_files_of_one_name_are_refused(node):
    assert main(["run", "--input", "a/x", "--input", "b/x", "--", "true"]) == 2
    assert not node.requests


@pytest.mark.parametrize("refused", [False, True])
def test_standard_input_travels_as_a_private_file_that_does_not_stay(node, ended, tmp_path, refused):
    seen = []

    def run(request):
        path = Path(request["task"]["stdin"])
        seen.append(
            (path.parent, path.read_bytes(), path.stat().st_mode & 0o777, request["task"]["take_stdin"])
        )
        if refused:
            yield {"ok": False, "error": {"type": "full", "message": "no room", "exit_code": 125}}
        yield from frames(ended())

    node.answers["run"] = run
    data = bytes(range(256)) * 1000
    command = [sys.executable, "-m", "openclaw", "run", "--stdin", "--", "cat"]
    done = subprocess.run(command, input=data, check=False)
    assert done.returncode == (125 if refused else 0)
    assert seen == [(tmp_path / "files", data, 0o600, True)]
    assert not list((tmp_path / "files").iterdir())


def started_run(*options):
    command = [sys.executable, "-m", "openclaw", "run", *options, "--", "sleep", "60"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def interrupted(node, ended, cancelled):
    """A task that ends only when it has been cancelled and `cancelled` says so."""
    asked = threading.Event()

    def run(_):
        yield {"event": "accepted", "id": "aaaa-b1"}
        yield {"event": "placed", "node": "nas"}
        asked.wait(30)
        cancelled.wait(30)
        yield {"event": "out", "stream": 1, "data": b"last words"}
        yield {"ok": True, "task": ended(state="cancelled", exit_code=130)}

    def cancel(request):
        asked.set()
        yield {"ok": True, "cancelled": request["ids"]}

    node.answers |= {"run": run, "cancel": cancel}
    return asked


def test_the_first_interrupt_cancels_and_waits_for_the_end(node, ended):
    cancelled = threading.Event()
    cancelled.set()
    interrupted(node, ended, cancelled)
    with started_run() as process:
        assert b"running on nas" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b"last words"
    assert b"cancelling aaaa-b1" in err
    assert node.asked("cancel") == [{"op": "cancel", "ids": ["aaaa-b1"]}]


def test_the_second_interrupt_detaches_and_prints_the_id(node, ended):
    cancelled = threading.Event()
    asked = interrupted(node, ended, cancelled)
    with started_run() as process:
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert asked.wait(30)
        assert b"cancelling" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    cancelled.set()
    assert process.returncode == 130
    assert b"openclaw task wait aaaa-b1" in err


def test_who_stops_reading_cancels_quietly(node, ended):
    cancelled = threading.Event()

    def run(_):
        yield {"event": "accepted", "id": "aaaa-b1"}
        while not cancelled.is_set():
            yield {"event": "out", "stream": 1, "data": b"y\n" * 1000}
        yield {"ok": True, "task": ended(state="cancelled", exit_code=130)}

    def cancel(request):
        cancelled.set()
        yield {"ok": True, "cancelled": request["ids"]}

    node.answers |= {"run": run, "cancel": cancel}
    with started_run("-q") as process:
        os.read(process.stdout.fileno(), 10)
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141
    assert err == b""
    assert cancelled.is_set()


def places(*eligible):
    names = ("laptop", "nas", "pi")
    rows = [
        {"id": f"id-{name}", "name": name, "eligible": name in eligible, "tasks": 0, "slots": 1,
         "reasons": [] if name in eligible else ["is draining"]}
        for name in names
    ]  # fmt: skip
    return {"ok": True, "chosen": next(iter(eligible), None), "waiting": None, "nodes": rows}


def every(node, ended, *states):
    """A node on which each of the tasks that are submitted ends as `states` say, with its number on stdout."""
    node.answer("explain", places("laptop", "nas"))
    node.answers["submit"] = lambda request: iter(
        [{"ok": True, "ids": [f"t{n}" for n in range(len(request["tasks"]))], "guardians": []}]
    )

    def wait(request):
        for number, (task, state) in enumerate(zip(request["ids"], states, strict=True)):
            row = ended(id=task, state=state, exit_code=0 if state == "succeeded" else 3)
            data = b"%d\n" % number
            yield {
                "event": "done",
                "task": row | {"stdout": data, "stderr": b"", "stdout_size": 2, "stderr_size": 0},
            }
        yield {"ok": True}

    node.answers["wait"] = wait


def test_all_is_one_task_a_node_under_one_job(node, ended, capfd):
    every(node, ended, "succeeded", "succeeded")
    assert main(["run", "--all", "-q", "--label", "a=b", "--", "true"]) == 0
    assert capfd.readouterr().out == "0\n1\n"
    tasks = node.asked("submit")[0]["tasks"]
    assert [task["needs"]["node"] for task in tasks] == ["id-laptop", "id-nas"]
    assert len({task["job"] for task in tasks}) == 1
    assert all(task["needs"]["labels"] == {"a": "b"} for task in tasks)


def test_all_succeeds_only_if_all_succeed_and_json_is_a_list(node, ended, capfd):
    every(node, ended, "failed", "succeeded")
    assert main(["run", "--all", "--json", "--", "true"]) == 1
    out, err = capfd.readouterr()
    assert [task["state"] for task in json.loads(out)] == ["failed", "succeeded"]
    assert "stdout" not in json.loads(out)[0]
    assert "nas: failed (exit 3)" in err


def test_all_on_nobody_is_the_mesh_that_cannot(node, capfd):
    node.answer("explain", places())
    assert main(["run", "--all", "--", "true"]) == 125
    assert "laptop: is draining" in capfd.readouterr().err
    assert not node.asked("submit")


@pytest.mark.parametrize("more", [["--node", "nas"], ["--output", "x"]])
def test_all_and_one_place_contradict_each_other(node, more):
    assert main(["run", "--all", *more, "--", "true"]) == 2
    assert not node.asked("submit")


@pytest.mark.parametrize(("eligible", "code"), [(("nas",), 0), ((), 125)])
def test_a_dry_run_submits_nothing(node, capfd, eligible, code):
    node.answer("explain", places(*eligible))
    assert main(["run", "--dry-run", "--json", "--need", "gpus=1", "--", "true"]) == code
    assert json.loads(capfd.readouterr().out)["chosen"] == (eligible[0] if eligible else None)
    assert node.asked("explain")[0]["task"]["needs"]["gpus"] == 1
    assert not node.asked("run")
