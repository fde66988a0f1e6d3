"""What one command may use: the real thing where this user may divide control groups, else what would be written."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from openclaw import platform
from openclaw.platform_limits import Group, Groups, confined

NAME = f"openclaw-mesh-test-{os.getpid()}"


@pytest.fixture
def groups() -> Iterator[Groups]:
    found = Groups.open(NAME)
    if found is None:
        pytest.skip("this user may not divide control groups")
    yield found
    found.close()


def start_inside(groups: Groups, script: str) -> tuple[Group, subprocess.Popen[str]]:
    with groups.inside("run") as group:
        process = subprocess.Popen(
            ["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True, text=True
        )
    assert group is not None
    assert os.getpid() not in group.pids()
    return group, process


def test_all_of_a_group_is_found_and_ended_wherever_it_went(groups: Groups) -> None:
    """A daemon that left its session and cleared its environment: nothing else would find it."""
    group, process = start_inside(groups, "env -i setsid sleep 600 & echo $!; wait")
    with process:
        assert process.stdout is not None
        escaped = int(process.stdout.readline())
        assert {process.pid, escaped} <= set(group.pids())
        assert not group.remove()
        group.kill()
        assert process.wait() == -9
        while platform.process_start(escaped) is not None:
            time.sleep(0.005)
    while not group.remove():
        time.sleep(0.005)


def test_what_a_lost_executor_left_is_ended_by_the_next(groups: Groups) -> None:
    _, process = start_inside(groups, "exec sleep 600")
    with process:
        assert Groups.open(NAME) is not None
        assert process.wait() == -9


def test_a_group_in_which_nothing_started_is_gone(groups: Groups) -> None:
    with pytest.raises(OSError), groups.inside("run") as group:
        subprocess.Popen(["/no such program"])
    assert group is not None
    assert group.pids() == []
    with groups.inside("run") as again:
        assert again is not None


def test_the_limits_are_written_where_the_kernel_reads_them(tmp_path: Path) -> None:
    """A folder with the files of a group that is divided: no kernel behind it, so only what is written counts."""
    files = ("memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "cpu.max")
    for file in files:
        (tmp_path / file).touch()
    group = Group(tmp_path)
    group.limit(1 << 30, 2)
    written = [(tmp_path / file).read_text() for file in files]
    assert written == [str(1 << 30), "0", "1", "", "200000 100000"]
    assert not group.out_of_memory()
    (tmp_path / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.out_of_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds and limits")
def test_without_groups_each_process_is_limited_and_bound_to_the_least_taken_processor() -> None:
    before, ours = os.sched_getaffinity(0), sorted(os.sched_getaffinity(0))
    script = (
        "import os, resource; print(*os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_DATA)[0])"
    )
    with confined(None, "run", 1 << 30, 1, ours[:-1]) as confinement:
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(ours[-1]), str(1 << 30)]
    assert (confinement.memory, confinement.cpus) == ("process", "affinity")
    assert confinement.bound == {ours[-1]}
    assert os.sched_getaffinity(0) == before
    with confined(None, "run", 0, len(ours) + 1, []) as confinement:
        assert (confinement.memory, confinement.bound) == ("", frozenset(ours))
