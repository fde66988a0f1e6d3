"""A worker whose executor's connection breaks: what never arrived is asked again, what had started is not."""

from __future__ import annotations

import random

from openclaw import effects as e
from openclaw.config import Settings
from openclaw.exec.worker import Worker
from openclaw.ids import Epoch, NodeId, Token, mint_task_id
from openclaw.messages import Assign, End, Item
from openclaw.notes import LeaderChanged
from openclaw.records import Attempt, Batch, Held, Member, Meta, Needs, Restored

ME = NodeId("a" * 16)
TASK = mint_task_id(ME, "boot", 1)
TOKEN = Token(0, ME, 1, 1)
EPOCH = Epoch(1, ME)


def runs(effects: list[e.Effect]) -> list[Token]:
    return [effect.token for effect in effects if isinstance(effect, e.Run)]


def all_of(worker: Worker, *events: object, now: float = 10.0) -> list[e.Effect]:
    effects: list[e.Effect] = []
    for event in events:
        effects += worker.handle(event, now)  # type: ignore[arg-type]
    while (due := worker.next_deadline()) is not None and due <= now:
        effects += worker.handle(e.Tick(), now)
    return effects


def assigned() -> tuple[Worker, list[e.Effect]]:
    worker = Worker(ME, "boot", Settings(), random.Random(1), Restored())
    roster = {ME: Member(ME, "a", frozenset({"shell", "skill"}))}
    item = Item(TASK, TOKEN, Needs(), b"payload", 0, 0)
    effects = all_of(
        worker,
        e.Started(Meta(name="a", slots=1), 0.0),
        e.RosterChanged(roster, b"digest"),
        e.ExecutorUp(()),
        LeaderChanged(EPOCH),
        e.Received(Assign(EPOCH, 1, "boot", (Batch(b"", b""),), (item,)), ME),
    )
    return worker, effects


def test_what_never_reached_the_executor_is_asked_again_under_its_token() -> None:
    worker, effects = assigned()
    assert runs(effects) == [TOKEN]
    assert runs(all_of(worker, e.ExecutorDown(), e.ExecutorUp(()), now=11.0)) == [TOKEN]


def test_every_run_is_meant_for_the_executor_that_was_last_heard_of() -> None:
    worker, _ = assigned()
    effects = all_of(worker, e.ExecutorDown(), e.ExecutorUp((), life=7), now=11.0)
    assert [effect.life for effect in effects if isinstance(effect, e.Run)] == [7]


def test_what_had_started_and_is_not_held_any_more_is_never_started_again() -> None:
    worker, _ = assigned()
    all_of(worker, e.ProcessStarted(TASK, TOKEN, 1e9), now=11.0)
    assert runs(all_of(worker, e.ExecutorDown(), e.ExecutorUp(()), now=12.0)) == []


def test_the_end_of_what_nobody_knows_to_run_waits_for_the_executor_and_is_not_argued_about() -> None:
    restored = Restored(attempts=(Attempt(TASK, TOKEN, ME),))
    worker = Worker(ME, "boot", Settings(), random.Random(1), restored)
    roster = {ME: Member(ME, "a", frozenset({"shell", "skill"}))}
    ended = e.Received(End(((TASK, TOKEN),), "superseded"), ME)
    effects = all_of(worker, e.Started(Meta(slots=1), 0.0), e.RosterChanged(roster, b"digest"), ended)
    assert not [effect for effect in effects if isinstance(effect, e.Send)]
    effects = all_of(worker, e.ExecutorUp((Held(TASK, TOKEN),)), now=11.0)
    assert [effect.token for effect in effects if isinstance(effect, e.Kill)] == [TOKEN]
