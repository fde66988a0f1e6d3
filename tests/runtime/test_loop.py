"""The runtime's one rule: what is stored is on disk before anything that depends on it leaves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from openclaw.config import INBOX_MAX, Settings
from openclaw.effects import (
    Effect,
    ExecutorUp,
    Forget,
    ProcessExited,
    ProcessStarted,
    Received,
    RosterChanged,
    Run,
    Send,
    Started,
    Store,
    Submitted,
)
from openclaw.ids import NodeId, mint_task_id
from openclaw.messages import EARLY, Probe
from openclaw.node import Node
from openclaw.records import Batch, Exit, Member, Meta, Needs, Progress, Restored, State, Submission
from openclaw.runtime.loop import CoreLoop

ME = NodeId("a" * 16)
PEER = NodeId("b" * 16)
CAPABLE = frozenset({"shell", "skill"})


class Recorder:
    """Commits and performed effects, in the order in which they happened."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.commits: list[Sequence[Store]] = []
        self.performed = asyncio.Event()

    def commit(self, stores: Sequence[Store]) -> None:
        self.commits.append(stores)
        self.log += [("store", store) for store in stores]

    def perform(self, effects: Sequence[Effect]) -> None:
        self.log += [("do", effect) for effect in effects]
        self.performed.set()

    async def until(self, kind: type[Effect]) -> int:
        """Where the first effect of `kind` stands in the log."""
        while True:
            for place, (_, what) in enumerate(self.log):
                if isinstance(what, kind):
                    return place
            self.performed.clear()
            await self.performed.wait()


def submission(n: int = 1) -> Submission:
    return Submission(mint_task_id(ME, "boot", n), Needs(), b"payload", Batch(b"", b""), 0, 1e9)


def started(recorder: Recorder, members: Sequence[NodeId] = (ME,)) -> CoreLoop:
    node = Node(ME, "boot", Settings(), lambda stream: random.Random(stream), Restored())
    loop = asyncio.get_running_loop()
    core = CoreLoop(node, loop.time, recorder.commit, recorder.perform)
    core.post(Started(Meta(name="a", slots=1), 0.0))
    core.post(RosterChanged({node: Member(node, node, CAPABLE) for node in members}, b"12345678"))
    core.post(ExecutorUp(()))
    return core


async def test_a_task_runs_after_its_rows_are_committed() -> None:
    recorder = Recorder()
    core = started(recorder)
    core.post(Submitted((submission(),)))
    running = asyncio.create_task(core.run())
    async with asyncio.timeout(20):
        run = await recorder.until(Run)
    core.stop()
    await running
    effect = recorder.log[run][1]
    assert isinstance(effect, Run)
    attempts = [
        place for place, (kind, what) in enumerate(recorder.log)
        if kind == "store" and isinstance(what, Store) and what.table == "attempts" and what.key == effect.task
    ]  # fmt: skip
    assert attempts
    assert attempts[0] < run


async def test_only_early_messages_leave_before_the_commit_of_their_batch() -> None:
    recorder = Recorder()
    core = started(recorder, (ME, PEER))
    running = asyncio.create_task(core.run())
    async with asyncio.timeout(20):
        await recorder.until(Send)
    core.stop()
    await running
    committed = False
    for kind, what in recorder.log:
        committed = committed or kind == "store"
        if isinstance(what, Send) and not committed:
            assert isinstance(what.message, EARLY)


async def test_a_failed_commit_is_a_crash() -> None:
    recorder = Recorder()

    def fail(_stores: Sequence[Store]) -> None:
        raise OSError(28, "no space left on device")

    core = started(recorder)
    core._commit = fail
    core.post(Submitted((submission(),)))
    with pytest.raises(OSError):
        await core.run()
    assert not [what for _, what in recorder.log if isinstance(what, Run)]
    assert not [
        what for _, what in recorder.log if isinstance(what, Send) and not isinstance(what.message, EARLY)
    ]


async def test_what_peers_send_is_dropped_while_too_much_waits_and_our_own_events_never() -> None:
    core = started(Recorder())
    before = len(core._inbox)
    assert sum(core.offer(Received(Probe(n), PEER)) for n in range(INBOX_MAX + 10)) == INBOX_MAX - before
    core.post(ExecutorUp(()))
    assert len(core._inbox) == INBOX_MAX + 1


class StoppedClock(asyncio.SelectorEventLoop):
    """No timer fires but when the test moves time on."""

    now = 0.0

    def time(self) -> float:
        return self.now


def test_news_that_nobody_waits_for_is_handled_with_what_comes_next() -> None:
    async def together() -> list[State]:
        recorder = Recorder()
        core = started(recorder)
        core.post(Submitted((submission(),)))
        running = asyncio.create_task(core.run())
        while not (runs := [what for _, what in recorder.log if isinstance(what, Run)]):
            clock.now += 0.001
            await asyncio.sleep(0)
        core.post(ProcessStarted(runs[0].task, runs[0].token, 1e9))
        for _ in range(20):
            await asyncio.sleep(0)
        core.post(ProcessExited(runs[0].task, runs[0].token, Exit(0)))  # alone, so its end hurries
        await recorder.until(Forget)
        core.stop()
        await running
        return [state for stores in recorder.commits for state in states(stores)]

    clock = StoppedClock()
    with asyncio.Runner(loop_factory=lambda: clock) as runner:
        assert runner.run(together()) == [State.QUEUED, State.PLACED, State.SUCCEEDED]


async def test_news_that_nobody_waits_for_is_handled_after_a_moment_all_the_same() -> None:
    recorder = Recorder()
    core = started(recorder)
    core.post(Submitted((submission(),)))
    running = asyncio.create_task(core.run())
    async with asyncio.timeout(20):
        run = recorder.log[await recorder.until(Run)][1]
        assert isinstance(run, Run)
        core.post(ProcessStarted(run.task, run.token, 1e9))
        while not any(State.RUNNING in states(stores) for stores in recorder.commits):
            recorder.performed.clear()
            await recorder.performed.wait()
    core.stop()
    await running


def states(stores: Sequence[Store]) -> list[State]:
    return [store.value.state for store in stores if isinstance(store.value, Progress)]
