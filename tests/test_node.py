"""The composed node at one instant: any number of tasks may move, and a livelock is still caught."""

from __future__ import annotations

import random

from openclaw.config import Settings
from openclaw.effects import CancelAsked, RosterChanged, Started, Submitted
from openclaw.ids import NodeId, mint_task_id
from openclaw.node import Node
from openclaw.notes import TaskMoved
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
