"""Questions and their answers."""

from __future__ import annotations

import random

from openclaw.config import Settings
from openclaw.gossip.detector import Detector
from openclaw.ids import NodeId

ONE, OTHER = NodeId("a" * 16), NodeId("b" * 16)


def test_an_answer_is_one_to_all_older_questions_as_well() -> None:
    """A node that is back and has answered is not accused for what it was asked while it was away."""
    detector = Detector(Settings(), random.Random(1))
    detector.open(ONE, None, 0.0)
    detector.open(OTHER, None, 0.5)
    young = detector.open(ONE, None, 1.0)
    younger = detector.open(ONE, None, 2.0)
    answered = detector.answered(young, ONE)
    assert answered is not None
    assert answered.sent == 1.0
    assert detector.probing(OTHER)
    assert detector.probing(ONE, since=2.0), "what was asked later is open still"
    assert detector.answered(younger, ONE) is not None
    assert not detector.probing(ONE)
