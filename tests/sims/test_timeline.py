"""The timeline shows what happened: every start, cut, leader, process and lost message of the world, and no other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from openclaw.trace import AnyRow, DownRow, ReceiveRow, SendRow, TraceRow, UpRow, decode, encode
from sims.__main__ import main
from sims.faults import Crash, Cut, ExecutorCrash, Pause, Work
from sims.live import Board, Pace
from sims.network import Weather
from sims.picture import GROUP_OF, LOST, Picture
from sims.plan import Plan
from sims.recording import record
from sims.scenario import run
from sims.timeline import of_rows, page
from sims.tracefile import merge, read

CHECK = Path(__file__).with_name("page_check.js")
NODES = 4
PLAN = Plan(
    seed=5,
    nodes=NODES,
    seconds=40.0,
    peace_s=30.0,
    link=Weather(loss=0.05),
    happenings=(
        Work(3.0, "n0", (1.0, 6.0, 0.5, 0.5, 9.0)),
        Cut(6.0, ("n0", "n1"), ("n2", "n3"), one_way=False, for_s=4.0),
        Cut(12.0, ("n3",), ("n0",), one_way=True, for_s=1.0),
        Crash(14.0, "n1", 0, machine=True, down_s=3.0),
        Pause(19.0, "n2", 2.0),
        Work(20.0, "n3", (0.5, 0.5), code=3),
    ),
)


@pytest.fixture(scope="module")
def rows() -> list[AnyRow]:
    written: list[AnyRow] = []
    record(PLAN, written.append)
    return written


@pytest.fixture(scope="module")
def data(rows: list[AnyRow]) -> dict[str, Any]:
    """As it stands in the file: through JSON and back."""
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page(of_rows(rows)), re.S)
    assert found is not None
    document: dict[str, Any] = json.loads(found[1])
    return document


def near(ticks: int, seconds: float) -> bool:
    return abs(ticks / 100_000 - seconds) < 1e-4


def test_watching_changes_no_step() -> None:
    assert record(PLAN, lambda _: None).trace.digest == run(PLAN).digest


def test_every_start_of_a_node_is_there(data: dict[str, Any]) -> None:
    world = record(PLAN, lambda _: None)
    for lane, host in enumerate(world.hosts.values()):
        ups = [event for event in data["events"] if event[1:3] == [lane, "up"]]
        assert data["lanes"][lane] == host.name
        assert len(ups) == host.starts
    assert sum(host.starts for host in world.hosts.values()) == NODES + 1


def test_every_process_is_a_bar(data: dict[str, Any]) -> None:
    world = record(PLAN, lambda _: None)
    bars = sorted((data["lanes"][lane], at, task) for lane, at, _, task, *_ in data["bars"])
    starts = sorted((start.host, round(start.at * 100_000), str(start.task)) for start in world.starts)
    assert [(host, task) for host, _, task in bars] == [(host, task) for host, _, task in starts]
    assert all(abs(bar[1] - start[1]) <= 1 for bar, start in zip(bars, starts, strict=True))
    assert {bar[5] for bar in data["bars"]} >= {"succeeded", "failed", "interrupted"}


def test_a_process_that_ends_with_its_executor_is_interrupted_then_and_there() -> None:
    happenings = (Work(2.0, "n0", (20.0,)), ExecutorCrash(5.0, "n0"), ExecutorCrash(5.0, "n1"))
    written: list[AnyRow] = []
    record(Plan(seed=5, nodes=2, seconds=12.0, peace_s=10.0, happenings=happenings), written.append)
    bars: Any = of_rows(written)["bars"]
    first = bars[0]
    assert first[5:] == ["interrupted", "orphaned"]
    assert abs(first[2] / 100_000 - 5.0) < 0.5


def test_every_cut_is_there_with_both_its_ends(data: dict[str, Any]) -> None:
    both = sorted([a, b] for one, other in [((0, 1), (2, 3)), ((2, 3), (0, 1))] for a in one for b in other)
    (first, second) = data["cuts"]
    assert near(first[0], 6.0)
    assert near(first[1], 10.0)
    assert first[2] == both
    assert near(second[0], 12.0)
    assert near(second[1], 13.0)
    assert second[2] == [[3, 0]]


def test_every_leader_is_crowned(data: dict[str, Any]) -> None:
    world = record(PLAN, lambda _: None)
    led = {(lane, term) for lane, _, _, leader, term, _ in data["follows"] if leader == lane}
    epochs = {host.disk.epoch for host in world.hosts.values()}
    assert {(list(world.hosts).index(epoch.node), epoch.term) for epoch in epochs} <= led
    assert len(led) >= 2, "the halves of a split mesh each have one"
    assert not any(since < 100_000 * 0.1 for _, since, *_ in data["follows"])


def test_downtime_and_pauses_are_drawn_to_their_end(data: dict[str, Any]) -> None:
    down = [span for span in data["down"] if span[0] == 1 and "machine" in span[3]]
    assert len(down) == 1
    assert near(down[0][1], 14.0)
    assert near(down[0][2], 17.0)
    (paused,) = data["paused"]
    assert paused[0] == 2
    assert near(paused[1], 19.0)
    assert near(paused[2], 21.0)


def test_a_message_arrives_after_it_was_sent_or_is_lost(data: dict[str, Any]) -> None:
    messages = data["messages"]
    assert messages["at"] == sorted(messages["at"])
    assert all(took >= 0 or took == LOST for took in messages["took"])
    lost = messages["took"].count(LOST)
    assert 0 < lost < len(messages["took"]) / 2
    crossing = [
        took
        for at, took, a, b in zip(
            messages["at"], messages["took"], messages["from"], messages["to"], strict=True
        )
        if 600_000 < at < 999_000 and (a < 2) != (b < 2) and took != LOST and at + took < 1_000_000
    ]
    assert crossing == []


def test_every_kind_of_message_has_a_group(data: dict[str, Any]) -> None:
    assert {kind for kind, _ in data["kinds"]} <= set(GROUP_OF)


def test_nothing_in_the_data_can_end_the_script() -> None:
    html = page(of_rows([TraceRow(0.0, "", 1, "simulation", "</script><b>")]))
    assert "</script><b>" not in html
    assert "http" not in re.sub(r"<script id=.*", "", html, flags=re.S), "it would need a network"


@pytest.mark.skipif(shutil.which("node") is None, reason="no JavaScript here")
def test_the_page_draws_itself_and_survives_every_hand(rows: list[AnyRow], tmp_path: Path) -> None:
    file = tmp_path / "timeline.html"
    file.write_text(page(of_rows(rows, "seed 5", {"ended": "held", "why": []})))
    ran = subprocess.run(["node", str(CHECK), str(file)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    drawn = json.loads(ran.stdout)
    assert [name for name in drawn["names"] if name.startswith("n")] == ["n0", "n1", "n2", "n3"]
    assert "term 1" in drawn["axis"]
    assert "✂ n0 n1 ✕ n2 n3" in drawn["axis"]
    assert drawn["verdict"] == "held"
    assert drawn["lines"] > 1000
    assert drawn["events"] > 5


def test_the_command_writes_a_file_from_a_seed_and_from_a_trace(
    rows: list[AnyRow], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeded, traced = tmp_path / "seed.html", tmp_path / "trace.html"
    assert main(["timeline", "--seed", "3", "--nodes", "3", "--seconds", "10", "-o", str(seeded)]) == 0
    assert "3 nodes" in capsys.readouterr().out
    (tmp_path / "run.jsonl").write_bytes(b"".join(encode(row) + b"\n" for row in rows))
    assert main(["timeline", "--trace", str(tmp_path / "run.jsonl"), "-o", str(traced)]) == 0
    assert "4 nodes" in capsys.readouterr().out
    assert main(["timeline", "--trace", str(tmp_path / "none"), "-o", str(traced)]) == 3
    assert "none" in capsys.readouterr().err


# --- traces of real nodes ------------------------------------------------------------------------


def one_file(node: str, *rows: AnyRow) -> list[AnyRow]:
    return [TraceRow(rows[0].at, node, 1, "node", f"name of {node}"), UpRow(rows[0].at, node), *rows]


def test_clocks_that_disagree_are_brought_together() -> None:
    """b's clock is 5 s behind; messages take 10 ms there and back."""
    a = one_file("a", SendRow(100.0, "a", "b", "Ping", "1"), ReceiveRow(101.01, "a", "b", "Ack", "2"))
    b = one_file("b", ReceiveRow(95.01, "b", "a", "Ping", "1"), SendRow(96.0, "b", "a", "Ack", "2"))
    data = Picture(merge([a, b])).data()
    assert data["messages"]["took"] == [1000, 1000]  # type: ignore[index]
    assert data["lanes"] == ["name of a", "name of b"]


def test_clocks_that_agree_are_left_alone() -> None:
    a = one_file("a", SendRow(100.0, "a", "b", "Ping", "1"), ReceiveRow(100.9, "a", "b", "Ack", "2"))
    b = one_file("b", ReceiveRow(100.2, "b", "a", "Ping", "1"), SendRow(100.3, "b", "a", "Ack", "2"))
    assert Picture(merge([a, b])).data()["messages"]["took"] == [20_000, 60_000]  # type: ignore[index]


def test_a_node_without_a_trace_is_no_place_where_messages_get_lost() -> None:
    a = one_file("a", SendRow(1.0, "a", "b", "Ping", "1"), ReceiveRow(1.5, "a", "b", "Ack", "2"))
    data = Picture(merge([a])).data()
    assert data["traced"] == [True, False]
    assert data["messages"]["took"] == [LOST, 0]  # type: ignore[index]


def test_what_a_reader_does_not_know_is_skipped(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    lines = [encode(row) for row in one_file("a", DownRow(9.0, "a", "stops"))]
    lines += [
        b'{"do":"tomorrow","at":9,"node":"a"}',
        b'{"do":"mark","at":9.5,"node":"a","text":"x","more":1}',
    ]
    file.write_bytes(b"\n".join(lines) + b'\n{"do":"down","at":1')
    assert [type(row).__name__ for row in read(file)] == ["TraceRow", "UpRow", "DownRow", "MarkRow"]
    file.write_bytes(b"no trace\n")
    with pytest.raises(ValueError, match="no trace"):
        read(file)


def test_every_row_reads_as_it_was_written(rows: list[AnyRow]) -> None:
    assert [decode(encode(row)) for row in rows] == rows


# --- live ----------------------------------------------------------------------------------------


def test_the_live_view_knows_who_leads_and_who_is_down(
    rows: list[AnyRow], capsys: pytest.CaptureFixture[str]
) -> None:
    board = Board(PLAN)
    for row in rows:
        if row.at > 15.0:
            break
        board.add(row)
    assert board.lanes["n1"].status == "down"
    assert board.lanes["n0"].status == "up"
    assert not board.lanes["n1"].running
    assert main(["live", "--seed", "3", "--nodes", "3", "--seconds", "10", "--speed", "0"]) == 0
    shown = capsys.readouterr().out
    assert "♛" in shown
    assert "leads term 1" in shown


def test_a_pace_waits_for_its_time_and_keeps_the_screen_fresh() -> None:
    refreshed: list[int] = []
    pace = Pace(100.0, lambda: refreshed.append(1))
    pace.until(30.0)  # 0.3 s of ours
    assert refreshed
