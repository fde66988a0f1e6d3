"""What is forgotten and what never is, by the real core on the real store."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from msgspec.structs import replace

from openclaw.config import DATED_S_MIN, Limits, Settings
from openclaw.effects import Effect, Event, Started, WallClock
from openclaw.effects import Store as Write
from openclaw.exec.keeping import look_every_s, outlived
from openclaw.files import Files
from openclaw.ids import NodeId, TaskId, mint_task_id
from openclaw.node import Node
from openclaw.notes import CountsChanged, Forgotten
from openclaw.records import (
    Batch,
    Copy,
    Ended,
    Exit,
    InputFile,
    Meta,
    Needs,
    Payload,
    Progress,
    State,
    Submission,
    Table,
)
from openclaw.runtime.context import Context
from openclaw.runtime.loop import CoreLoop
from openclaw.runtime.metrics import follow_clock
from openclaw.runtime.retention import Retention
from openclaw.runtime.sources import Sources
from openclaw.runtime.submit import encode
from openclaw.store import Need, Store

ME = NodeId("a" * 16)
DAY_S = 86_400.0


@pytest.mark.parametrize(
    ("keep_s", "every_s"), [(Limits().keep_s, 600.0), (3600.0, 600.0), (240.0, 60.0), (0.0, 30.0)]
)
def test_what_is_kept_for_minutes_is_looked_at_every_few(keep_s: float, every_s: float) -> None:
    assert look_every_s(keep_s) == every_s


def name_of(number: int) -> TaskId:
    return mint_task_id(ME, "boot", number)


def task(
    number: int,
    state: State = State.SUCCEEDED,
    *,
    days_ago: float = 100.0,
    inputs: Sequence[InputFile] = (),
    outputs: Sequence[InputFile] = (),
    fetched: bool = True,
    weight: int = 0,
) -> list[Write]:
    at = time.time() - days_ago * DAY_S
    payload = encode(Payload(("x" * weight,), inputs=tuple(inputs)))
    submission = Submission(name_of(number), Needs(), payload, Batch(b"s", b"l"), 0, at - 1)
    exit = Exit(0, stdout=b"hi", stdout_size=2, outputs=tuple(outputs)) if state.final else None
    progress = Progress(
        submission.task, state, exit=exit, finished=at if state.final else 0.0, fetched=fetched
    )
    return [
        Write(Table.TASKS, submission.task, submission),
        Write(Table.PROGRESS, submission.task, progress),
    ]


def copied(name: TaskId, *, days_ago: float = 100.0) -> list[Write]:
    """A task of another owner that is over."""
    submission, progress = (row.value for row in task(1, days_ago=days_ago))
    assert isinstance(submission, Submission)
    assert isinstance(progress, Progress)
    return [Write(Table.RESULTS, name, Copy(replace(submission, task=name), replace(progress, task=name)))]


class World:
    """A node's core on its disk, and what makes room there."""

    def __init__(self, folder: Path, limits: Limits, rows: Sequence[Write]) -> None:
        self.store = Store.open(folder / "store")
        self.store.commit(rows)
        self.files = Files(folder / "files")
        self.node = Node(
            ME,
            "boot",
            Settings(),
            lambda stream: random.Random(stream),
            self.store.restored(),
        )
        self.commits: list[int] = []
        self.counts = self.store.restored().counts
        self.loop = CoreLoop(self.node, time.monotonic, self._commit, self._perform)
        context = SimpleNamespace(
            me=ME,
            state_dir=folder,
            store=self.store,
            files=self.files,
            post=self.loop.post,
            options=SimpleNamespace(limits=limits),
        )
        self.sources = Sources(cast("Context", context))
        self.retention = Retention(cast("Context", context), self.sources)

    def _commit(self, stores: Sequence[Write]) -> None:
        self.commits.append(sum(write.value is None for write in stores))
        self.store.commit(stores)

    def _perform(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Forgotten):
                self.retention.forgotten(effect)
            elif isinstance(effect, CountsChanged):
                self.counts = effect.counts

    def file(self, data: bytes, unused_s: float = 3600.0) -> InputFile:
        sha256, size = self.files.put_bytes(data)
        os.utime(self.files.path(sha256), (time.time() - unused_s,) * 2)
        return InputFile("in", sha256, size)

    def kept(self) -> set[TaskId]:
        return {submission.task for _, submission, _ in self.store.page(b"", None, 1000, 1000)[0]}


@pytest.fixture
def world(tmp_path: Path) -> Callable[..., World]:
    def make(*rows: list[Write], limits: Limits | None = None) -> World:
        return World(tmp_path, limits or Limits(), [write for each in rows for write in each])

    return make


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    world.loop.post(Started(Meta(), 0.0))
    core = asyncio.create_task(world.loop.run())
    try:
        async with asyncio.timeout(20):
            yield world
    finally:
        world.loop.stop()
        await core
        world.store.close()


async def test_what_ended_long_ago_goes_and_nothing_else(world: Callable[..., World]) -> None:
    open_states = [state for state in State if not state.final]
    rows = [task(number, state) for number, state in enumerate(open_states)]
    rows += [task(20, State.SUCCEEDED, fetched=False), task(21, State.FAILED, days_ago=29)]
    old = [task(number, state) for number, state in enumerate([s for s in State if s.final], 30)]
    async with running(world(*rows, *old)) as there:
        await there.retention.sweep()
        assert there.kept() == {name_of(number) for number in (*range(len(open_states)), 20, 21)}
        assert there.store.problems() == []
        counts = there.store.restored().counts
        assert (counts.succeeded, counts.failed, counts.lost) == (1, 1, 0)
        assert (there.node.owner.counts.succeeded, there.node.owner.counts.failed) == (1, 1)


async def test_what_is_over_while_it_is_being_forgotten_stays_in_memory(world: Callable[..., World]) -> None:
    """Whoever asks with yesterday's rows does not delete a task that is open."""
    async with running(world(task(1, State.RUNNING))) as there:
        await there.retention._forget([Ended(name_of(1), State.SUCCEEDED, 0.0, 1)])
        assert there.kept() == {name_of(1)}
        assert there.node.owner.counts.running == 1


async def test_too_much_goes_oldest_first_until_it_fits(world: Callable[..., World]) -> None:
    rows = [task(number, days_ago=10 - number / 10, weight=20_000) for number in range(60)]
    limits = Limits(keep_bytes=900_000)
    async with running(world(*rows, limits=limits)) as there:
        before = there.store.task_bytes()
        assert before > 1_200_000
        await there.retention.sweep()
        left = sorted(there.kept())
        assert left == sorted(name_of(number) for number in range(60 - len(left), 60)), "not the oldest"
        assert there.store.task_bytes() < 900_000 < there.store.task_bytes() + 200_000


async def test_it_is_done_in_small_transactions(world: Callable[..., World]) -> None:
    async with running(world(*(task(number) for number in range(300)))) as there:
        await there.retention.sweep()
        assert there.kept() == set()
        assert sum(there.commits) == 600
        assert max(there.commits) <= 256


async def test_a_crash_in_the_midst_of_it_leaves_a_whole_store_and_the_next_goes_on(
    world: Callable[..., World],
) -> None:
    there = world(*(task(number) for number in range(300)))
    async with running(there):
        sweeping = asyncio.create_task(there.retention.sweep())
        while len(there.kept()) == 300:
            await asyncio.sleep(0.001)
        sweeping.cancel()
    again = world()
    assert 0 < len(again.kept()) < 300
    assert again.store.problems() == []
    assert again.store.restored().counts.succeeded == len(again.kept())
    async with running(again):
        await again.retention.sweep()
        assert again.kept() == set()


async def test_logs_go_with_their_task_and_strays_at_the_start(world: Callable[..., World]) -> None:
    another, older = TaskId("b" * 16 + "-x"), TaskId("b" * 16 + "-y")
    rows = (task(1), task(2, days_ago=1), copied(another, days_ago=1), copied(older))
    async with running(world(*rows)) as there:
        logs = [there.sources.kept(name_of(number), "stdout") for number in (1, 2, 3)]
        foreign = there.sources.kept(another, "stdout")
        for log in (*logs, foreign):
            log.write_bytes(b"log")
        await there.retention.sweep()
        assert [log.exists() for log in logs] == [False, True, True]
        there.retention._drop_strays()
        assert [log.exists() for log in logs] == [False, True, False]
        assert foreign.exists(), "whoever keeps another node's task keeps its log"
        assert there.store.copy(another) is not None
        assert there.store.copy(older) is None, "copies are forgotten by age as well"


async def test_no_file_goes_that_a_task_needs_or_that_was_just_used(world: Callable[..., World]) -> None:
    there = world(limits=Limits(files_bytes=1))
    needed, output, stray, fresh, held, done = (
        there.file(name.encode()) for name in ("needed", "output", "stray", "fresh", "held", "done")
    )
    there.files.use(fresh.sha256)
    there.store.commit(task(1, State.QUEUED, inputs=[needed, output]))
    there.store.commit(task(2, days_ago=1, inputs=[done], outputs=[output]))
    async with running(there):
        assert there.store.file_need(output.sha256) is Need.OUTPUT
        with there.files.held([held.sha256]):
            left = await there.retention.make_room()
        assert left == needed.size + fresh.size + held.size
        gone = [
            file for file in (needed, output, stray, fresh, held, done) if not there.files.has(file.sha256)
        ]
        assert gone == [stray, done]


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "A" * 64, "ü" * 64, "0" * 63])
async def test_what_a_worker_calls_an_output_disturbs_nobody(world: Callable[..., World], name: str) -> None:
    odd = InputFile("out", name, 10)
    async with running(world(task(1, outputs=[odd]), task(2, days_ago=1, outputs=[odd]))) as there:
        await there.retention.sweep()
        assert there.kept() == {name_of(2)}
        assert there.store.problems() == []


async def test_an_output_goes_after_the_task_that_left_it(world: Callable[..., World]) -> None:
    there = world(limits=Limits(files_bytes=1))
    output = there.file(b"output")
    there.store.commit(task(1, outputs=[output]))
    async with running(there):
        await there.retention.sweep()
        assert not there.files.has(output.sha256)


async def test_the_longest_unused_goes_first_and_only_as_much_as_must(world: Callable[..., World]) -> None:
    there = world(limits=Limits(files_bytes=500))
    rows = [there.file(bytes([number]) * 100, unused_s=1000 - number) for number in range(8)]
    async with running(there):
        assert await there.retention.make_room() == 400
        assert [there.files.has(row.sha256) for row in rows] == [False] * 4 + [True] * 4


def test_a_partial_that_nobody_takes_up_goes(tmp_path: Path) -> None:
    files = Files(tmp_path)
    for data, age_s in ((b"old", 2 * DAY_S), (b"new", 10.0)):
        name = hashlib.sha256(data).hexdigest()
        with files.writer(name, 3) as writer:
            writer.write(data[:1])
        os.utime(tmp_path / "partial" / name, (time.time() - age_s,) * 2)
    files.evict(1, lambda _: True, lambda _: False, time.time())
    assert [path.name for path in (tmp_path / "partial").iterdir()] == [hashlib.sha256(b"new").hexdigest()]


def test_age_and_size_are_decided_in_one_place() -> None:
    at = DATED_S_MIN
    ended = [Ended(TaskId(str(n)), State.SUCCEEDED, finished=at + n, bytes=10) for n in range(5)]
    assert outlived(ended, at + 2.5, keep_s=1.0, excess_bytes=0) == ended[:2]
    assert outlived(ended, 0.0, keep_s=1.0, excess_bytes=25) == ended[:3]
    assert outlived(ended, 0.0, keep_s=1.0, excess_bytes=0) == []


def test_what_ended_under_a_clock_that_was_not_set_has_no_age() -> None:
    undated = [Ended(TaskId("a"), State.SUCCEEDED, finished=at, bytes=10) for at in (0.0, 100.0, 1e9)]
    assert outlived(undated, 2e9, keep_s=1.0, excess_bytes=0) == []
    assert outlived(undated, 2e9, keep_s=1.0, excess_bytes=5) == undated[:1]


def test_a_clock_that_is_set_is_followed_and_one_that_drifts_is_not() -> None:
    posted: list[Event] = []
    context = cast("Context", SimpleNamespace(now=lambda: 50.0, wall_offset_s=100.0, post=posted.append))
    follow_clock(context, 150.9)
    assert posted == []
    follow_clock(context, 1e9)
    follow_clock(context, 1e9)
    assert posted == [WallClock(1e9 - 50.0)]
    assert context.wall_offset_s == 1e9 - 50.0
