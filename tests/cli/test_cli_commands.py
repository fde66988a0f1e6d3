"""The reading commands, the node's own commands, completion, and what is never imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from openclaw import __version__
from openclaw.__main__ import main
from openclaw.cli.copy import Bar
from openclaw.cli.root import COMMANDS
from openclaw.cli.start import ReadyLine

SHELL_HEAVY = ("asyncio", "msgspec", "zmq", "rich", "zeroconf", "lmdb", "nacl", "psutil")


def document(capfd):
    return json.loads(capfd.readouterr().out)


def test_run_imports_nothing_heavy(node, ended):
    task = ended()
    node.answer("run", {"event": "accepted", "id": task["id"]}, {"ok": True, "task": task})
    program = (
        "import sys; from openclaw.__main__ import main; code = main(['run', '--', 'true'])\n"
        f"print(code, [name for name in {SHELL_HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "0 []\n"


def test_every_command_has_help(capfd):
    for name in COMMANDS:
        assert main([name, "--help"]) == 0
        assert "Usage" in capfd.readouterr().out
    for line in (["--help"], []):
        assert main(line) == 0
        out = capfd.readouterr().out
        assert all(f"\n  {name} " in out for name in COMMANDS)


def test_version(capfd):
    assert main(["--version"]) == 0
    assert __version__ in capfd.readouterr().out


@pytest.mark.parametrize(
    "line", [["frobnicate"], ["node"], ["--bogus"], ["task", "show"], ["tasks", "--state", "odd"]]
)
def test_wrong_usage_is_2(line, capfd):
    assert main(line) == 2
    assert capfd.readouterr().err.startswith("openclaw: ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell, capfd):
    assert main(["completion", shell]) == 0
    assert "_OPENCLAW_COMPLETE" in capfd.readouterr().out


def test_completion_completes(capfd, monkeypatch):
    monkeypatch.setenv("_OPENCLAW_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "openclaw node st")
    monkeypatch.setenv("COMP_CWORD", "2")
    main([])
    assert capfd.readouterr().out.split() == ["plain,start", "plain,status", "plain,stop"]


def test_names_and_ids_are_completed_from_the_node(node, ended, capfd, monkeypatch):
    node.answer("nodes", {"ok": True, "nodes": [NODE, NODE | {"name": "laptop"}]})
    node.answer("tasks", {"event": "task", "task": ended(id="aaaa-b7")}, {"ok": True})
    monkeypatch.setenv("_OPENCLAW_COMPLETE", "bash_complete")
    for words, found in (("openclaw run --node n", "plain,nas"), ("openclaw task show aa", "plain,aaaa-b7")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
        main([])
        assert capfd.readouterr().out.split() == [found]


def test_tasks(node, ended, capfd):
    rows = [ended(id="aaaa-b2"), ended(id="aaaa-b1", state="running", exit_code=None, argv=["x" * 200])]
    end = {"ok": True, "silent": ["nas"], "more": True}
    node.answer("tasks", *({"event": "task", "task": row} for row in rows), end)
    assert main(["tasks", "--all", "--state", "running", "--limit", "5", "--json"]) == 0
    assert document(capfd) == {"tasks": rows, "silent": ["nas"], "more": True}
    assert node.asked("tasks")[0] == {"op": "tasks", "all": True, "state": "running", "limit": 5}
    assert main(["tasks"]) == 0
    shown = capfd.readouterr()
    assert "nas, which did not answer" in shown.err
    assert "--limit" in shown.err
    lines = shown.out.splitlines()
    assert lines[0].split() == ["ID", "STATE", "NODE", "SUBMITTED", "COMMAND"]
    assert "…" in lines[2]
    assert "\x1b" not in "".join(lines)


def test_task_show(node, ended, capfd):
    story = [{"n": 1, "at": "2026-01-02T03:04:05Z", "state": "queued", "node": None, "reason": "accepted"}]
    task = ended(story=story)
    node.answer("task_show", {"ok": True, "task": task})
    assert main(["task", "show", "aaaa", "--json"]) == 0
    assert document(capfd) == task
    assert main(["task", "show", "aaaa"]) == 0
    assert "accepted" in capfd.readouterr().out


def test_a_task_says_who_kept_it_within_its_limits(node, ended, capfd):
    result = {"limits": {"memory": "process", "cpus": None}}
    node.answer("task_show", {"ok": True, "task": ended(result=result)})
    assert main(["task", "show", "aaaa-b1"]) == 0
    out = capfd.readouterr().out
    assert "memory limit  enforced for each of its processes" in out
    assert "cpus limit" not in out


def test_wait_for_one_passes_its_exit_code_on(node, ended, capfd):
    task = ended(state="failed", exit_code=5)
    outputs = {"stdout": b"\xff", "stderr": b"", "stdout_size": 1, "stderr_size": 0}
    node.answer("wait", {"event": "done", "task": task | outputs}, {"ok": True})
    assert main(["task", "wait", "aaaa", "--json"]) == 5
    assert document(capfd) == task


def test_wait_for_several_is_0_only_if_all_succeeded(node, ended, capfd):
    done = [ended(id="b"), ended(id="a", state="failed", exit_code=5)]
    node.answer("wait", *({"event": "done", "task": task} for task in done), {"ok": True})
    assert main(["task", "wait", "a", "b", "--json"]) == 1
    assert document(capfd) == {"tasks": done}


def test_logs_are_bytes_from_an_offset(node, ended, capfdbinary):
    node.answer(
        "task_logs", {"event": "out", "stream": 2, "data": b"\xff\x00"}, {"ok": True, "task": ended()}
    )
    assert main(["task", "logs", "aaaa", "-f", "--offset", "7", "--stderr"]) == 0
    assert capfdbinary.readouterr().out == b"\xff\x00"
    expected = {"op": "task_logs", "id": "aaaa", "follow": True, "offset": 7, "stream": 2}
    assert node.asked("task_logs") == [expected]


def test_cancel(node, capfd):
    node.answer("cancel", {"ok": True, "cancelled": ["aaaa-b1"]})
    assert main(["task", "cancel", "aaaa", "--json"]) == 0
    assert document(capfd) == {"cancelled": ["aaaa-b1"]}


NODE = {
    "id": "aaaa", "name": "nas", "state": "alive", "self": True, "leader": True, "addresses": ["10.0.0.2:27460"],
    "path": "self", "rtt_ms": None, "version": "0.1.0", "platform": "Linux", "arch": "x86_64", "hostname": "nas",
    "slots": 4, "running": 1, "queued": 0, "draining": False, "skills": [], "labels": {}, "policy": "commands",
    "metrics": {"cpu_percent": 12.4, "memory_percent": 50.0, "disk_percent": 9.0, "running_tasks": 1, "age_s": 0.5},
    "tier": "mains",
}  # fmt: skip
UNKNOWN = NODE | {
    "platform": None,
    "arch": None,
    "slots": None,
    "metrics": None,
    "path": None,
    "addresses": [],
}


def test_nodes(node, capfd):
    node.answer("nodes", {"ok": True, "nodes": [NODE, UNKNOWN]})
    assert main(["nodes", "--json"]) == 0
    assert document(capfd) == {"nodes": [NODE, UNKNOWN]}
    assert main(["nodes"]) == 0
    out = capfd.readouterr().out
    assert "nas * (leader)" in out
    assert "12%" in out


def test_watching_is_a_document_a_line(node, capfd):
    node.answer("nodes", *({"event": "nodes", "nodes": [NODE]},) * 2, {"event": "hang up"})
    assert main(["nodes", "--watch", "--json"]) == 125
    lines = capfd.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines[:2]] == [{"nodes": [NODE]}] * 2
    assert json.loads(lines[2])["error"]["type"] == "node_gone"


def test_status_and_leader(node, capfd):
    leader = {"id": "aaaa", "name": "nas", "term": 3, "since": "2026-01-02T03:04:05Z"}
    status = {
        "mesh": {"id": "m", "name": "home"}, "node": {"id": "aaaa", "name": "nas"}, "leader": leader,
        "nodes": {"total": 2, "alive": 2, "suspect": 0, "down": 0}, "skills": {"total": 0, "by_category": {}},
        "scheduler": {"strategy": "least_tasks", "running": True, "granted_total": 0, "pending": 0},
        "tasks": {"queued": 1, "timed_out": 2},
    }  # fmt: skip
    node.answer("status", {"ok": True} | status)
    node.answer("leader", {"ok": True, "leader": leader})
    assert main(["status", "--json"]) == 0
    assert document(capfd) == status
    assert main(["status"]) == 0
    assert "nas, term 3" in capfd.readouterr().out
    assert main(["leader", "--json"]) == 0
    assert document(capfd) == {"leader": leader}
    node.answer("leader", {"ok": True, "leader": None})
    assert main(["leader"]) == 0
    assert "no leader" in capfd.readouterr().out


def test_events(node, capfd):
    line = {"at": "2026-01-02T03:04:05Z", "kind": "member", "text": "nas is down"}
    node.answer("events", {"event": "line", "line": line}, {"ok": True})
    assert main(["events", "--json"]) == 0
    assert document(capfd) == {"events": [line]}
    assert main(["events", "--follow", "--json"]) == 0
    assert document(capfd) == line
    assert main(["events"]) == 0
    assert "nas is down" in capfd.readouterr().out


def test_invite(node, capfd):
    node.answer("node_invite", {"ok": True, "token": "oc1_abc", "expires": "2026-01-03T00:00:00Z"})
    assert main(["node", "invite", "--expires", "2h", "--uses", "3", "--no-addresses"]) == 0
    assert capfd.readouterr().out == "oc1_abc\n"
    expected = {"expires_s": 7200.0, "uses": 3, "capabilities": ["skill", "shell"], "addresses": False}
    assert node.asked("node_invite") == [{"op": "node_invite"} | expected]
    assert main(["node", "invite", "--capabilities", "root"]) == 2


def test_stop_waits_until_the_node_is_gone(node, capfd):
    node.answer("node_stop", {"ok": True}, {"event": "hang up"})
    assert main(["node", "stop", "--grace", "1s"]) == 0
    assert node.asked("node_stop") == [{"op": "node_stop", "keep": False, "grace_s": 1.0}]
    assert "stopped" in capfd.readouterr().out


def test_the_state_folder_may_stand_anywhere_before_the_dashes(node, monkeypatch, capfd):
    monkeypatch.delenv("OPENCLAW_MESH_STATE_DIR")
    node.answer("node_drain", {"ok": True})
    folder = ["--state-dir", str(node.state_dir)]
    for line in ([*folder, "node", "drain"], ["node", *folder, "drain"], ["node", "drain", *folder]):
        assert main(line) == 0
    assert len(node.asked("node_drain")) == 3
    assert "draining" in capfd.readouterr().out


@pytest.mark.parametrize("order", ["drain", "resume", "leave"])
def test_orders(node, order, capfd):
    node.answer(f"node_{order}", {"ok": True}, {"event": "hang up"})
    assert main(["node", order, "--json"]) == 0
    assert document(capfd) == {"ok": True}


def test_a_node_that_already_runs_is_named(node, capfd):
    node.answer("hello", {"ok": True, "node": {"id": "aaaa", "name": "nas"}})
    for options in ([], ["-d"]):
        assert main(["node", "start", *options]) == 125
        assert "'nas' already runs" in capfd.readouterr().err


def test_the_end_of_the_log(tmp_path, capfd):
    assert main(["node", "logs", "--state-dir", str(tmp_path)]) == 125
    (tmp_path / "node.log").write_text("".join(f"line {number}\n" for number in range(1000)))
    assert main(["node", "logs", "--state-dir", str(tmp_path)]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[-1] == "line 999"
    assert len(lines) == 200


def test_another_protocol_is_not_waited_for(node, capfd):
    """A peer that is no node of ours must not make us wait for gigabytes."""
    node.answers["status"] = lambda _: iter(({"raw": b"HTTP/1.1 400 Bad Request"},))
    assert main(["status"]) == 125
    assert "another protocol" in capfd.readouterr().err


def test_the_ready_line_is_caught_once_however_it_is_written(tmp_path):
    path = Path(tmp_path / "out")
    caught = []
    with path.open("w") as stdout:
        ready = ReadyLine(stdout, caught.append)
        for piece in ('{"a"', ":1}\nrest", "more\n"):
            ready.write(piece)
    assert caught == ['{"a":1}']
    assert path.read_text() == "restmore\n"


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (("film", "nas:"), {"near": "/film", "far": "", "back": False}),
        (("./a:b", "nas:x/y:z"), {"near": "/a:b", "far": "x/y:z", "back": False}),
        (("nas:~/x", "."), {"near": "", "far": "~/x", "back": True}),
        (("nas:x", "new/"), {"near": "/new/", "far": "x", "back": True}),
    ],
)
def test_copies_say_which_end_is_elsewhere(node, tmp_path, monkeypatch, capfd, line, asked):
    monkeypatch.chdir(tmp_path)
    progress = {"event": "progress", "received": 1, "size": 2}
    node.answer("copy", progress, {"ok": True, "path": "/home/x", "size": 2_000_000, "sha256": "0"})
    assert main(["cp", *line]) == 0
    (request,) = node.asked("copy")
    assert request == {"op": "copy", "node": "nas", **asked, "near": f"{tmp_path}{asked['near']}"}
    assert capfd.readouterr().err == f"openclaw: copied 2.0 MB to {'' if asked['back'] else 'nas:'}/home/x\n"
    assert main(["cp", "--json", *line]) == 0
    assert json.loads(capfd.readouterr().out) == {"path": "/home/x", "size": 2_000_000, "sha256": "0"}


@pytest.mark.parametrize("line", [("a", "b"), ("nas:a", "nas:b"), ("nas:a",)])
def test_one_end_of_a_copy_is_here_and_one_elsewhere(node, line):
    assert main(["cp", *line]) == 2
    assert not node.requests


def test_a_bar_shows_rate_and_time_left(capfd, monkeypatch):
    now = iter((0.0, 0.5, 1.5, 2.5))
    monkeypatch.setattr("openclaw.cli.copy.time.monotonic", lambda: next(now))
    bar = Bar(silent=False)
    for received in (0, 50_000_000, 100_000_000):
        bar.show(received, 200_000_000)
    bar.clear()
    assert "100.0 MB of 200.0 MB, 50.0 MB/s, 2s left" in capfd.readouterr().err


PLACES = {
    "chosen": None,
    "waiting": "every node that can run it is full",
    "nodes": [
        {
            "id": "b",
            "name": "nas",
            "eligible": True,
            "reasons": ["has 2 tasks for its 2 slots"],
            "tasks": 2,
            "slots": 2,
        },
        {
            "id": "c",
            "name": "pi",
            "eligible": False,
            "reasons": ["is draining", "has no label a=b"],
            "tasks": 0,
            "slots": 4,
        },
    ],
}


def test_explain_is_about_a_task_or_a_command(node, capfd):
    node.answer("explain", {"ok": True, **PLACES})
    assert main(["explain", "--json", "aaaa"]) == 0
    assert document(capfd) == PLACES
    assert node.asked("explain")[0] == {"op": "explain", "id": "aaaa"}
    assert main(["explain", "--label", "a=b", "--", "make", "--json"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[0] == "waits: every node that can run it is full"
    assert lines[3].split()[:3] == ["nas", "yes", "2/2"]
    assert lines[4].endswith("is draining; has no label a=b")
    task = node.asked("explain")[1]["task"]
    assert (task["argv"], task["needs"]["labels"]) == (["make", "--json"], {"a": "b"})
    assert main(["explain", "aaaa", "bbbb"]) == 2


def test_a_task_is_submitted_again(node, capfd):
    node.answer("retry", {"ok": True, "id": "aaaa-b9"})
    assert main(["task", "retry", "aaaa-b1"]) == 0
    assert capfd.readouterr().out == "aaaa-b9\n"
    assert main(["task", "retry", "aaaa-b1", "--json"]) == 0
    assert document(capfd) == {"id": "aaaa-b9"}
