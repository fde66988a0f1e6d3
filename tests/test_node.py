"""The composed node at one instant: any number of tasks may move, and a livelock is still caught."""

from __future__ import annotations

import random

from openclaw.config import Settings
from openclaw.effects import (
    CancelAsked,
    ExecutorUp,
    Received,
    RosterChanged,
    Send,
    Started,
    Submitted,
    Tick,
)
from openclaw.ids import Incarnation, NodeId, mint_task_id
from openclaw.messages import Demand, DemandRow, Grant, Head, MetaHave, Ping, Report
from openclaw.node import Node
from openclaw.notes import LeaderChanged, TaskMoved
from openclaw.records import Batch, Member, Meta, Needs, Restored, State, Submission

ME = NodeId("a" * 16)
COUNT = 200


def test_any_number_of_tasks_may_move_at_one_instant() -> None:
    """A thousand notes for people are no livelock: a node that lost its workers must not die of telling so."""
    settings = Settings(events_per_instant_max=COUNT // 2)
    node = Node(ME, "boot", settings, lambda stream: random.Random(stream), Restored())
    node.handle(Started(Meta(name="a", slots=1), 0.0), 1.0)
    node.handle(RosterChanged({ME: Member(ME, "a", frozenset({"shell"}))}, b"12345678"), 1.0)
    ids = [mint_task_id(ME, "boot", n) for n in range(1, COUNT + 1)]
    tasks = tuple(Submission(task, Needs(), b"payload", Batch(b"", b""), 0, 1e9) for task in ids)
    node.handle(Submitted(tasks), 1.1)
    effects = node.handle(CancelAsked(tuple(ids)), 1.2)
    moved = [effect for effect in effects if isinstance(effect, TaskMoved)]
    assert [move.state for move in moved] == [State.CANCELLED] * COUNT


def test_a_leader_that_slept_gives_up_before_it_does_anything_else() -> None:
    """Its first deadline after the sleep must not find it granting still."""
    peer = NodeId("b" * 16)
    roster = {node: Member(node, node[0], frozenset({"shell"})) for node in (ME, peer)}
    node = Node(ME, "boot", Settings(), lambda stream: random.Random(stream), Restored())
    node.handle(Started(Meta(name="a", slots=4), 0.0), 1.0)
    node.handle(RosterChanged(roster, b"12345678"), 1.0)
    node.handle(ExecutorUp(()), 1.0)
    now = 1.0
    while not node.election.leading:
        now = node.next_deadline() or now
        node.handle(Tick(), now)
    head = Head(Incarnation(1, "b"))
    node.handle(Received(Ping(1, head), peer), now)
    epoch = node.election.leader
    assert epoch is not None
    node.handle(Received(Report(epoch, "b", 4, 0, 0, False), peer), now)
    node.handle(Received(MetaHave(peer, 1, Meta(name="b", slots=4)), peer), now)
    node.handle(Received(Demand(epoch, 0, (DemandRow(1, Needs(), 1),)), peer), now)
    node.next_deadline()
    effects = node.handle(Tick(), now + 60.0)
    assert LeaderChanged(None, "this node slept") in effects
    assert not [
        effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, Grant)
    ]
