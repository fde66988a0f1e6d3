"""The store keeps what it confirmed, finds it again, and refuses what it cannot trust."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import lmdb
import msgspec
import pytest

from openclaw.effects import Store as Write
from openclaw.errors import BadState
from openclaw.ids import Epoch, NodeId, TaskId, Token, mint_task_id, short
from openclaw.records import (
    Attempt,
    Batch,
    EpochRow,
    Exit,
    Needs,
    Number,
    Progress,
    State,
    Submission,
    Table,
)
from openclaw.store import Store
from openclaw.store_env import DiskFull

ME = NodeId("abcdefghijklmnop")
OTHER = NodeId("abcdefgh22222222")


def submission(number: int, owner: NodeId = ME, payload: bytes = b"p") -> Submission:
    task = mint_task_id(owner, "bootid", number)
    return Submission(task, Needs(), payload, Batch(b"s" * 64, b"l" * 16), 0, 1000.0 + number)


def accepted(number: int, state: State = State.QUEUED, fetched: bool = True) -> list[Write]:
    task = submission(number)
    return [
        Write(Table.TASKS, task.task, task),
        Write(Table.PROGRESS, task.task, Progress(task.task, state, fetched=fetched)),
    ]


def moved(number: int, state: State, fetched: bool = True) -> Write:
    task = submission(number).task
    return Write(Table.PROGRESS, task, Progress(task, state, fetched=fetched))


def test_what_was_committed_is_there_after_reopening(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    token = Token(0, ME, 3, 1)
    epoch = Epoch(7, OTHER)
    store.commit(
        [
            Write(Table.META, "incarnation", Number(3)),
            Write(Table.META, "incarnation", Number(4)),
            Write(Table.META, "epoch", EpochRow(epoch)),
            *accepted(1),
            Write(Table.ATTEMPTS, "x", Attempt(TaskId("x"), token, ME, Exit(0))),
        ]
    )
    store.close()
    back = Store.open(tmp_path / "store").restored()
    assert (back.incarnation, back.epoch, back.meta_version) == (4, epoch, 0)
    assert [task.task for task in back.submissions] == [submission(1).task]
    assert back.progress == (Progress(submission(1).task, State.QUEUED),)
    assert back.attempts == (Attempt(TaskId("x"), token, ME, Exit(0)),)


def test_a_restart_is_given_only_the_tasks_that_are_not_over(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    for number, state in enumerate(State):
        store.commit(accepted(number, state))
    store.commit(accepted(100, State.SUCCEEDED, fetched=False))
    back = store.restored()
    assert {item.state for item in back.progress} == {
        *(state for state in State if not state.final),
        State.SUCCEEDED,
    }
    assert [item.task for item in back.submissions] == [item.task for item in back.progress]
    assert [item.submitted for item in back.submissions] == sorted(
        item.submitted for item in back.submissions
    )


def test_final_tasks_are_counted_once_whatever_happens_to_their_rows(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.commit([write for number in range(5) for write in accepted(number)])
    store.commit([moved(number, State.SUCCEEDED) for number in range(4)])
    store.commit(
        [moved(0, State.SUCCEEDED), moved(1, State.FAILED), moved(2, State.SUCCEEDED, fetched=False)]
    )
    store.commit([moved(2, State.SUCCEEDED)])
    counts = store.restored().counts
    assert (counts.succeeded, counts.failed, counts.queued) == (3, 1, 0)
    assert [item.task for item in store.restored().submissions] == [submission(4).task]
    gone = submission(3).task
    store.commit([Write(Table.TASKS, gone, None), Write(Table.PROGRESS, gone, None)])
    assert store.restored().counts.succeeded == 2
    assert store.task(gone) is None
    assert len(store.page(b"", None, 10, 99)[0]) == 4


def test_tasks_are_found_by_id_by_prefix_by_short_form_and_by_time(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    rows = [submission(number, owner) for owner in (ME, OTHER) for number in (1, 2, 33)]
    store.commit([Write(Table.TASKS, row.task, row) for row in rows])
    assert store.task(rows[0].task) == (rows[0], Progress(rows[0].task, State.QUEUED))
    assert store.find(rows[0].task) == [rows[0].task]
    assert set(store.find(short(rows[0].task))) == {rows[0].task, rows[3].task}
    assert set(store.find("abcdefghi")) == {row.task for row in rows[:3]}
    assert len(store.find("abc", limit=4)) == 4
    assert store.find("zzz") == []
    newest = [task.submitted for _, task, _ in store.page(b"", None, 3, 99)[0]]
    assert newest == [1033.0, 1033.0, 1002.0]
    store.commit([Write(Table.PROGRESS, rows[1].task, Progress(rows[1].task, State.FAILED))])
    assert [task.task for _, task, _ in store.page(b"", State.FAILED, 9, 99)[0]] == [rows[1].task]


@pytest.mark.parametrize(("limit", "looked_max"), [(1, 99), (3, 99), (99, 2), (2, 1)])
def test_pages_follow_each_other_without_a_gap(tmp_path: Path, limit: int, looked_max: int) -> None:
    store = Store.open(tmp_path / "store")
    store.commit([write for number in range(10) for write in accepted(number, State.FAILED)])
    store.commit([moved(number, State.QUEUED) for number in (2, 3, 9)])
    for state, numbers in ((None, range(9, -1, -1)), (State.FAILED, [8, 7, 6, 5, 4, 1, 0])):
        found, place, pages = [], b"", 0
        while pages == 0 or place:
            rows, place = store.page(place, state, limit, looked_max)
            assert len(rows) <= min(limit, looked_max)
            found += [row.task for _, row, _ in rows]
            pages += 1
            if pages == 2:  # what comes or goes meanwhile disturbs nobody
                store.commit(accepted(50, State.FAILED))
        assert found == [submission(number).task for number in numbers]
        store.commit([Write(table, submission(50).task, None) for table in (Table.TASKS, Table.PROGRESS)])


def test_a_page_goes_on_though_its_place_is_gone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.commit([write for number in range(5) for write in accepted(number, State.FAILED)])
    _, place = store.page(b"", None, 2, 99)
    store.commit([Write(table, submission(2).task, None) for table in (Table.TASKS, Table.PROGRESS)])
    assert [row.submitted for _, row, _ in store.page(place, None, 9, 99)[0]] == [1001.0, 1000.0]


def test_the_map_grows_and_the_whole_batch_is_written_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", map_bytes=256 << 10)
    big = b"x" * 5000
    for start in range(0, 1000, 100):
        rows = [submission(number, payload=big) for number in range(start, start + 100)]
        store.commit([Write(Table.TASKS, row.task, row) for row in rows])
    assert len(store.restored().submissions) == 1000
    store.close()
    assert len(Store.open(tmp_path / "store", map_bytes=256 << 10).restored().submissions) == 1000


def test_a_reader_in_another_thread_lives_through_growth(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", map_bytes=256 << 10)
    store.commit(accepted(0))
    stop, problems = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            try:
                assert store.task(submission(0).task) is not None
            except Exception as error:
                problems.append(error)
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 30):
        row = submission(number, payload=b"x" * 100_000)
        store.commit([Write(Table.TASKS, row.task, row)])
    stop.set()
    reader.join()
    assert problems == []


def test_rows_of_trust_are_put_together(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.put_rows({("roster", "a"): b"1", ("mesh", "b"): b"2"})
    store.put_rows({("roster", "a"): None, ("roster", "c"): b"3"})
    assert store.rows("roster") == {"c": b"3"}
    assert store.rows("mesh") == {"b": b"2"}


def test_files_are_private(tmp_path: Path) -> None:
    Store.open(tmp_path / "store").close()
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "store").iterdir()} == {0o600}


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.commit([Write(Table.META, "schema", Number(99))])
    store.close()
    with pytest.raises(BadState, match=r"newer version.*Upgrade"):
        Store.open(tmp_path / "store")


def filled(folder: Path) -> Path:
    store = Store.open(folder)
    store.commit([write for number in range(300) for write in accepted(number)])
    store.close()
    return folder / "data.mdb"


@pytest.mark.parametrize("keep", [100, 4096, 9000, 40_960])
def test_a_truncated_file_is_refused_before_it_is_mapped(tmp_path: Path, keep: int) -> None:
    data = filled(tmp_path / "store")
    os.truncate(data, keep)
    with pytest.raises(BadState, match=r"damaged.*--join"):
        Store.open(tmp_path / "store")


def test_flipped_bytes_are_refused(tmp_path: Path) -> None:
    data = filled(tmp_path / "store")
    content = bytearray(data.read_bytes())
    content[3 * 4096 : 40 * 4096] = os.urandom(37 * 4096)
    data.write_bytes(content)
    with pytest.raises(BadState, match="damaged"):
        Store.open(tmp_path / "store")


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "data.mdb").write_bytes(b"hello" * 10_000)
    with pytest.raises(BadState, match="damaged"):
        Store.open(tmp_path / "store")


def test_a_row_that_cannot_be_read_is_damage_and_not_a_traceback(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    store.put_rows({(Table.TASKS.value, "a"): b"\xc1", ("open", "a"): b""})
    with pytest.raises(BadState, match="damaged"):
        store.restored()


CHILD = """
import sys
from pathlib import Path
from openclaw.effects import (Store as Write)
from openclaw.records import Table
from openclaw.store import Store
sys.path.insert(0, {tests!r})
from test_store import accepted
store = Store.open(Path({folder!r}), map_bytes=256 << 10)
for batch in range(10_000):
    store.commit([write for n in range(20) for write in accepted(batch * 20 + n)])
    print(batch, flush=True)
"""


@pytest.mark.parametrize("batches", [1, 7, 30, 90])
def test_kill_at_any_moment_loses_nothing_that_was_confirmed(tmp_path: Path, batches: int) -> None:
    folder = tmp_path / "store"
    code = textwrap.dedent(CHILD).format(tests=str(Path(__file__).parent), folder=str(folder))
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    confirmed = [int(child.stdout.readline()) for _ in range(batches)]
    child.send_signal(signal.SIGKILL)
    confirmed += [int(line) for line in child.stdout.read().split("\n")[:-1]]
    child.wait()
    child.stdout.close()
    back = Store.open(folder).restored()
    there = {task.task for task in back.submissions}
    assert {submission(n).task for n in range((confirmed[-1] + 1) * 20)} <= there
    assert len(there) % 20 == 0, "half of a batch"


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_store import accepted, submission
from openclaw.effects import (Store as Write)
from openclaw.records import Table
from openclaw.store import Store
from openclaw.store_env import DiskFull
store = Store.open(Path({folder!r}))
store.commit(accepted(0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
done = 1
try:
    while True:
        row = submission(done, payload=b"x" * 50_000)
        store.commit([Write(Table.TASKS, row.task, row)])
        done += 1
except DiskFull as error:
    assert "df -h" in str(error)
    assert len(store.restored().submissions) == done
    print(done)
"""


def test_a_full_disk_says_so_and_keeps_what_was_accepted(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    code = FULL.format(tests=str(Path(__file__).parent), folder=str(folder))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    store = Store.open(folder)
    assert len(store.restored().submissions) == int(done.stdout) > 5
    store.commit(accepted(100_000))


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounting needs root on Linux")
def test_a_really_full_disk(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this system lets nobody mount")
    try:
        store = Store.open(tmp_path / "store")
        rows = [submission(number, payload=b"x" * 20_000) for number in range(100)]
        done = 0
        with pytest.raises(DiskFull, match="is full"):  # noqa: PT012 - which commit fails is the disk's affair
            for row in rows:
                store.commit([Write(Table.TASKS, row.task, row)])
                done += 1
        assert store.free_bytes() < 64 << 10
        assert len(store.restored().submissions) == done > 5
        store.close()
        assert len(Store.open(tmp_path / "store").restored().submissions) == done
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_an_unwritable_folder_is_refused_with_the_line_that_mends_it(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root writes anywhere")
    (tmp_path / "store").mkdir(mode=0o500)
    with pytest.raises(BadState, match="chmod"):
        Store.open(tmp_path / "store")


def test_a_decoder_of_today_reads_the_rows_of_tomorrow(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = Store.open(folder)
    store.commit(accepted(1))
    store.close()
    with lmdb.open(str(folder), max_dbs=16) as env:
        tasks = env.open_db(Table.TASKS.value.encode())
        with env.begin(write=True, db=tasks) as txn:
            key = submission(1).task.encode()
            row = bytes(txn.get(key) or b"")
            txn.put(key, msgspec.msgpack.encode([*msgspec.msgpack.decode(row), "future"]))
    assert Store.open(folder).restored().submissions == (submission(1),)


def test_a_large_store_is_not_walked_but_its_length_is_still_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = filled(tmp_path / "store")
    walked: list[str] = []
    monkeypatch.setattr("openclaw.store_check.WALKED_BYTES_MAX", 0)
    monkeypatch.setattr("lmdb.verify.verify", lambda path, **_: walked.append(path) or ["cut off"])
    Store.open(tmp_path / "store").close()
    assert walked == []
    os.truncate(data, data.stat().st_size - 4096)
    with pytest.raises(BadState, match="cut off"):
        Store.open(tmp_path / "store")


def test_what_can_be_no_task_is_not_there(tmp_path: Path) -> None:
    """Members name tasks as they like: a name that LMDB takes for no key must not look like a broken disk."""
    store = Store.open(tmp_path / "store")
    strange = [TaskId(""), TaskId("x" * 512), TaskId("\N{SNOWMAN}" * 400)]
    assert store.ends(strange) == ()
    assert [store.task(task) for task in strange] == [None] * 3
    assert store.progress(strange) == [None] * 3
    store.close()
