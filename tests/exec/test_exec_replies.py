"""What a guardian answers at the end of a batch: of one task the last word alone."""

from __future__ import annotations

from openclaw import messages as m
from openclaw.effects import Send
from openclaw.exec.replies import Replies
from openclaw.ids import Claim, NodeId, TaskId

OWNER = NodeId("a" * 16)
TASK = TaskId(f"{OWNER}-1")
CLAIM = Claim(0, OWNER)


def test_a_copy_that_was_let_go_and_kept_again_is_kept() -> None:
    replies = Replies()
    replies.released(OWNER, TASK, 1)
    replies.guarded(OWNER, TASK, CLAIM, 3)
    assert replies.flush() == [Send(OWNER, m.Guarded(((TASK, CLAIM, 3),)))]


def test_a_copy_that_was_kept_and_let_go_is_gone() -> None:
    replies = Replies()
    replies.guarded(OWNER, TASK, CLAIM, 3)
    replies.released(OWNER, TASK, 1)
    assert replies.flush() == [Send(OWNER, m.Released((TASK,), 1))]


def test_what_was_asked_back_at_different_times_is_answered_by_its_number() -> None:
    replies = Replies()
    other = TaskId(f"{OWNER}-2")
    replies.released(OWNER, TASK, 1)
    replies.released(OWNER, other, 2)
    assert replies.flush() == [Send(OWNER, m.Released((TASK,), 1)), Send(OWNER, m.Released((other,), 2))]
