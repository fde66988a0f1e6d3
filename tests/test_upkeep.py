"""Backups, verification, compaction and what a store of yesterday or of a dead machine becomes; on the real LMDB.

What else a disk may do to a node:
* the map full, in a put or in the commit: here, and `test_store.py` for a batch and for a reader meanwhile;
* the disk full: `test_store.py` (the store alone), `test_bad_disk.py` (a whole node);
* flipped bytes, a truncated file, a file of something else: `test_store.py`, and here for `verify`;
* a newer schema: `test_store.py`; an older one: here;
* an unclean exit: `test_store.py` (kill -9 at any moment), here (the machine died);
* a network file system, a copied folder: `trust/test_identity.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import lmdb
import msgspec
import pytest

from benchmarks.local_mesh import LocalMesh, wait_until
from openclaw import upkeep
from openclaw.__main__ import main
from openclaw.effects import Store as Write
from openclaw.errors import BadState
from openclaw.files import Files
from openclaw.ids import NodeId, mint_task_id
from openclaw.records import (
    Batch,
    Exit,
    InputFile,
    Needs,
    Number,
    Payload,
    Progress,
    State,
    Submission,
    Table,
)
from openclaw.store import Need, Store
from openclaw.store_env import Environment
from openclaw.trust.identity import Identity

ME = NodeId("abcdefghijklmnop")
INPUT, OUTPUT = b"input" * 100, b"output" * 100


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def task(number: int, state: State = State.SUCCEEDED, size: int = 10) -> list[Write]:
    """A task with an input and, when it is over, an output and a log."""
    name = mint_task_id(ME, "bootid", number)
    payload = Payload(("x" * size,), inputs=(InputFile("in", sha(INPUT), len(INPUT)),))
    submission = Submission(
        name, Needs(), msgspec.msgpack.encode(payload), Batch(b"s", b"l"), 0, 1000.0 + number
    )
    exit = Exit(0, stdout_size=3, outputs=(InputFile("out", sha(OUTPUT), len(OUTPUT)),))
    progress = Progress(name, state, exit=exit if state.final else None, finished=2000.0 + number)
    return [Write(Table.TASKS, name, submission), Write(Table.PROGRESS, name, progress)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The state folder of a node that has stopped, with three ended tasks and one that waits."""
    state_dir = tmp_path / "state"
    Identity.open(state_dir, "nas").close()
    with closing(Store.open(state_dir / "store")) as store:
        store.commit([write for number in range(3) for write in task(number)])
        store.commit(task(3, State.QUEUED))
    files = Files(state_dir / "files")
    files.put_bytes(INPUT)
    files.put_bytes(OUTPUT)
    files.put_bytes(b"of some task that ran here and is not ours")
    (state_dir / "logs").mkdir()
    (state_dir / "logs" / f"{mint_task_id(ME, 'bootid', 0)}.stdout").write_bytes(b"log")
    return state_dir


def change(folder: Path, work: Callable[[lmdb.Environment, lmdb.Transaction], None]) -> None:
    """As a program that knows nothing of our promises."""
    with lmdb.open(str(folder / "store"), max_dbs=32) as env, env.begin(write=True) as txn:
        work(env, txn)


def make_old(env: lmdb.Environment, txn: lmdb.Transaction) -> None:
    """What a store of schema 1 looked like: it had no index of the files."""
    txn.drop(env.open_db(b"named", txn))
    txn.put(b"schema", msgspec.msgpack.encode(Number(1)), db=env.open_db(b"meta", txn))


# --- older and newer -------------------------------------------------------------------------------


def test_an_older_store_is_brought_up_to_date_after_a_copy_that_was_read(folder: Path) -> None:
    change(folder, make_old)
    with closing(Store.open(folder / "store")) as store:
        assert store.migrated_from == folder / "store.schema-1"
        assert store.file_need(sha(INPUT)) is Need.INPUT
        assert store.file_need(sha(OUTPUT)) is Need.OUTPUT
        assert store.problems() == []
    with closing(Environment.open_to_read(folder / "store.schema-1")) as copy:
        tables = copy.existing(["meta", "tasks"])
        with copy.reading() as txn:
            assert txn.get(b"schema", db=tables["meta"]) == msgspec.msgpack.encode(Number(1))
            assert txn.stat(tables["tasks"])["entries"] == 4
    with closing(Store.open(folder / "store")) as again:
        assert again.migrated_from is None


def test_an_older_store_with_a_row_that_cannot_be_read_stays_as_it_is(folder: Path) -> None:
    change(folder, make_old)
    change(folder, lambda env, txn: txn.put(b"x", b"\xc1", db=env.open_db(b"attempts", txn)) and None)
    for _ in range(2):
        with pytest.raises(BadState, match=r"attempts, row 'x'.*backup"):
            Store.open(folder / "store")
    with closing(Environment.open_to_read(folder / "store")) as env:
        meta = env.existing(["meta"])["meta"]
        with env.reading() as txn:
            schema = txn.get(b"schema", db=meta)
    assert msgspec.msgpack.decode(bytes(schema or b""), type=Number) == Number(1)


# --- full, and cut off -----------------------------------------------------------------------------


def test_a_map_that_is_full_grows_whether_a_put_or_the_commit_says_so(tmp_path: Path) -> None:
    """LMDB may find the map full only when it writes down which pages are free: then all of the work is done again."""
    seen = set()
    for size in range(100, 4000, 100):
        env = Environment.open(tmp_path / str(size), 64 << 10)
        table = env.tables(["t"])["t"]
        for number in range(60):
            runs: list[str] = []

            def work(txn: lmdb.Transaction, number: int = number, size: int = size) -> None:
                runs.append("begun")  # noqa: B023 - it is run at once
                for each in range(5):
                    txn.put(b"%d" % ((number * 7 + each) % 50), b"x" * (size + number), db=table)  # noqa: B023
                runs.append("done")  # noqa: B023

            env.write(work)
            seen |= {f"in {a}" for a, b in pairwise(runs) if b == "begun"}
        env.close()
        if seen == {"in begun", "in done"}:
            return
    raise AssertionError(f"the map was never full in one of the two ways: {seen}")


def test_after_a_power_cut_all_is_read_first_and_a_process_that_dies_of_it_is_not_ours(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store.open(folder / "store")) as store:
        store.commit([write for number in range(9, 500) for write in task(number, size=2000)])
    data = folder / "store" / "data.mdb"
    Store.open(folder / "store", power_lost=True).close()
    content = bytearray(data.read_bytes())
    content[100 * 4096 : 200 * 4096] = os.urandom(100 * 4096)
    data.write_bytes(content)
    monkeypatch.setattr("openclaw.store_check.WALKED_BYTES_MAX", 0)  # as if it were large
    with pytest.raises(BadState, match=r"damaged.*backup"):
        Store.open(folder / "store", power_lost=True)


def test_only_a_machine_that_died_with_the_folder_open_is_a_power_cut(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with Identity.open(folder, "nas") as first:
        assert not first.power_lost
    (folder / "node.lock").write_text("17 nas\nanother-boot\n")
    with pytest.raises(ZeroDivisionError), Identity.open(folder, "nas") as identity:
        assert 1 / (not identity.power_lost)
    with Identity.open(folder, "nas") as identity:
        assert identity.power_lost, "refused once, and forgotten"
    with Identity.open(folder, "nas") as identity:
        assert not identity.power_lost


# --- backup, verify, compact -----------------------------------------------------------------------


def test_a_backup_is_a_state_folder_with_all_that_records_name(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "backup"
    made = upkeep.backup(folder, target, None)
    assert made.files == 5  # seed, machine, the log, the input, the output
    assert upkeep.verify(target) == upkeep.Verdict(4, [], "")
    assert {path.stat().st_mode & 0o077 for path in (target, *target.rglob("*"))} == {0}
    with Identity.open(target, "nas") as there, Identity.open(folder, "nas") as here:
        assert there.keys.node_id == here.keys.node_id
    with closing(Store.open(target / "store")) as store:
        assert len(store.page(b"", None, 9, 99)[0]) == 4
    assert Files(target / "files").has(sha(INPUT))
    with pytest.raises(BadState, match="not empty"):
        upkeep.backup(folder, target, None)


def test_a_running_nodes_folder_is_left_alone(folder: Path) -> None:
    with Identity.open(folder, "nas"):
        for work in (upkeep.verify, upkeep.compact):
            with pytest.raises(BadState, match="already runs"):
                work(folder)


def test_verify_names_the_row_and_what_mends_it(folder: Path) -> None:
    change(folder, lambda env, txn: txn.drop(env.open_db(b"order", txn), delete=False))
    verdict = upkeep.verify(folder)
    assert len(verdict.problems) == 4
    assert "order, row" in verdict.problems[0]
    assert "openclaw node compact" in verdict.mend
    upkeep.compact(folder)
    assert upkeep.verify(folder).problems == []
    gone = mint_task_id(ME, "bootid", 1).encode()
    change(folder, lambda env, txn: txn.put(gone, b"\xc1", db=env.open_db(b"progress", txn)) and None)
    verdict = upkeep.verify(folder)
    assert verdict.problems == [
        f"progress, row {gone.decode()!r}: a Progress that cannot be read: MessagePack data is malformed: "
        "invalid opcode '\\xc1' (byte 0)"
    ]
    assert "from a backup" in verdict.mend
    with pytest.raises(BadState, match="damaged"):
        upkeep.compact(folder)


def test_verify_finds_flipped_bytes_and_a_cut_file(folder: Path) -> None:
    data = folder / "store" / "data.mdb"
    content = bytearray(data.read_bytes())
    content[2 * 4096 :] = os.urandom(len(content) - 2 * 4096)
    data.write_bytes(content)
    assert "data.mdb: " in upkeep.verify(folder).problems[0]
    os.truncate(data, 9000)
    verdict = upkeep.verify(folder)
    assert "data.mdb: " in verdict.problems[0]
    assert "from a backup" in verdict.mend


def test_compact_gives_back_what_was_deleted(folder: Path) -> None:
    with closing(Store.open(folder / "store")) as store:
        writes = [write for number in range(10, 400) for write in task(number, size=3000)]
        store.commit(writes)
        store.commit([Write(write.table, write.key, None) for write in writes])
    before, after = upkeep.compact(folder)
    assert after < before / 4
    assert (folder / "store" / "data.mdb").stat().st_size == after
    assert (folder / "store" / "data.mdb").stat().st_mode & 0o777 == 0o600
    with closing(Store.open(folder / "store")) as store:
        assert len(store.page(b"", None, 99, 99)[0]) == 4


def test_the_commands_say_it_in_json_and_by_exit_code(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    at = ["--state-dir", str(folder), "--json"]
    assert main(["node", "backup", str(tmp_path / "b"), *at]) == 0
    assert json.loads(capfd.readouterr().out)["files"] == 5
    assert main(["node", "verify", str(tmp_path / "b"), "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["ok"] is True
    assert main(["node", "compact", *at]) == 0
    assert json.loads(capfd.readouterr().out).keys() == {"bytes_before", "bytes_after"}
    change(folder, lambda env, txn: txn.drop(env.open_db(b"open", txn), delete=False))
    assert main(["node", "verify", *at]) == 1
    assert len(json.loads(capfd.readouterr().out)["problems"]) == 1
    assert main(["node", "verify", str(tmp_path), "--json"]) == 125
    assert json.loads(capfd.readouterr().out)["error"]["type"] == "bad_state"


# --- on real nodes ---------------------------------------------------------------------------------


def test_a_node_that_goes_back_to_a_backup_repeats_nothing(tmp_path: Path) -> None:
    """What it did after the backup is gone from its disk; its peers know how far it had counted."""
    with LocalMesh(("a", "b")) as mesh:
        a, b = mesh["a"], mesh["b"]
        before = a.ok("run", "-d", "--node", "b", "--", "sh", "-c", "echo before").strip()
        assert a.run("task", "wait", before).returncode == 0
        waiting = a.ok("run", "-d", "--node", "b", "--", "sleep", "600").strip()
        wait_until(lambda: b.control("nodes")["nodes"][0]["running"] == 1, "it to run")
        a.ok("node", "backup", str(tmp_path / "backup"))
        a.kill()
        a.start()  # each start is one more incarnation
        after = a.ok("run", "-d", "--node", "b", "--", "true").strip()
        assert a.run("task", "wait", after).returncode == 0
        incarnation = _incarnation(a.state_dir, a)
        a.state_dir.rename(tmp_path / "lost")
        (tmp_path / "backup").rename(a.state_dir)
        a.start()
        mesh.settle()
        assert a.ok("task", "logs", before) == "before\n"
        assert a.run("task", "show", after).returncode == 1
        assert a.json("task", "show", waiting)["state"] == "running"
        assert a.json("task", "show", waiting)["starts"] == 1
        a.ok("task", "cancel", waiting)
        assert a.run("task", "wait", waiting).returncode == 130
        again = a.ok("run", "-d", "--node", "b", "--", "echo", "again").strip()
        assert again not in (before, waiting, after)
        assert a.run("task", "wait", again).returncode == 0
        assert _incarnation(a.state_dir, a) > incarnation


def _incarnation(state_dir: Path, node: object) -> int:
    """What is on the node's disk, once it is stopped."""
    node.kill_all()  # type: ignore[attr-defined]
    with closing(Store.open(state_dir / "store")) as store:
        return store.restored().incarnation
