"""Views that differ, words that crossed or came late: how the election mends itself."""

from __future__ import annotations

from election_loop import SETTINGS, Loop, meshed, node_id

from openclaw.effects import Received, Resumed, Send
from openclaw.ids import NO_EPOCH, Epoch, NodeId
from openclaw.messages import AnyMessage, Coordinator, Elect, ElectAnswer, Higher, Status
from openclaw.notes import LeaderChanged, LeaderSeen
from openclaw.records import Tier


def sent(effects: list[object]) -> list[tuple[NodeId, AnyMessage]]:
    return [(effect.to, effect.message) for effect in effects if isinstance(effect, Send)]


def hear(loop: Loop, at: NodeId, message: AnyMessage, sender: NodeId) -> list[tuple[NodeId, AnyMessage]]:
    return sent(list(loop.give(at, Received(message, sender))))


def pair(loop: Loop) -> tuple[NodeId, NodeId, NodeId]:
    """The leader and two that follow it."""
    leader = loop.leader()
    one, other = [node for node in loop.nodes if node != leader][:2]
    return leader, one, other


def leaderless(loop: Loop) -> list[NodeId]:
    """All lose their leader at once; the rest, best of the next term first."""
    leader = loop.leader()
    rest = [node for node in loop.nodes if node != leader]
    best = loop.best_first(2, rest)
    loop.kill(leader)
    return best


def test_a_doubted_leader_that_speaks_again_at_once_changes_nothing() -> None:
    loop = meshed(3)
    leader, one, _ = pair(loop)
    loop.notes.clear()
    loop.give(one, LeaderSeen(leader, NO_EPOCH))
    loop.give(one, LeaderSeen(leader, Epoch(1, leader)))
    loop.run(2.0)
    assert [note for node, note in loop.notes if node == one] == []
    loop.give(one, LeaderSeen(leader, NO_EPOCH))
    loop.run(SETTINGS.patience_s + 0.001)
    assert LeaderChanged(None, "it no longer leads") in [note for node, note in loop.notes if node == one]


def test_a_refusal_that_names_an_older_leader_lets_that_leader_know() -> None:
    """The asker has stored more than the leader that its peer follows."""
    loop = Loop(3)
    asker, peer, old = loop.nodes
    loop.stored[asker] = [Epoch(5, node_id(9))]
    loop.start(asker)
    loop.acquaint()
    loop.settle([asker])
    loop.cut = {(asker, node) for node in loop.nodes}
    loop.run(SETTINGS.patience_s + 2 * SETTINGS.rank_step_s + 0.001)
    to = next(to for _, to, message in loop.sent if isinstance(message, Elect))
    other = next(node for node in (peer, old) if node != to)
    answer = ElectAnswer(6, False, Tier.MAINS, Epoch(1, other), leader=Epoch(1, other))
    assert hear(loop, asker, answer, to) == [(other, Higher(Epoch(5, node_id(9))))]


def test_a_leader_asks_the_holder_of_a_higher_epoch_once_and_then_takes_the_next_term() -> None:
    loop = meshed(3)
    leader, one, other = pair(loop)
    higher = Higher(Epoch(7, other))
    assert hear(loop, leader, higher, one) == [(other, Coordinator(Epoch(1, leader)))]
    hear(loop, leader, higher, one)
    assert loop.machines[leader].leader == Epoch(8, leader)


def test_one_whose_leader_itself_disowns_it_follows_nobody() -> None:
    loop = meshed(3)
    leader, one, _ = pair(loop)
    hear(loop, one, Higher(Epoch(4, leader)), leader)
    assert loop.machines[one].leader is None


def test_an_announcement_of_one_not_known_to_live_counts_when_it_is() -> None:
    loop = meshed(3)
    leader, one, other = pair(loop)
    loop.member(one, other, Status.DOWN)
    loop.give(one, LeaderSeen(leader, Epoch(3, other)))
    assert loop.machines[one].leader == Epoch(1, leader)
    loop.member(one, other, Status.ALIVE)
    assert loop.machines[one].leader == Epoch(3, other)


def test_a_candidate_gives_way_to_a_better_one() -> None:
    loop = meshed(4)
    loop.cut = {(a, b) for a in loop.nodes for b in loop.nodes}
    best = leaderless(loop)
    loop.run(SETTINGS.rank_step_s + 0.001)
    worse, better = best[1], best[0]
    loop.sent.clear()
    (answer,) = hear(loop, worse, Elect(2), better)
    assert isinstance(answer[1], ElectAnswer)
    assert not answer[1].standing
    loop.run(SETTINGS.announce_s - 0.01)
    assert loop.machines[worse].leader is None


def test_a_stored_term_that_an_answer_names_is_stood_above_at_once() -> None:
    loop = meshed(4)
    loop.cut = {(a, b) for a in loop.nodes for b in loop.nodes}
    best = leaderless(loop)
    loop.run(0.001)
    starter = best[0]
    witness = next(to for node, to, message in loop.sent if node == starter and isinstance(message, Elect))
    stored = Epoch(6, node_id(9))
    hear(loop, starter, ElectAnswer(2, False, Tier.MAINS, stored), witness)
    loop.run(3.0)
    assert loop.machines[starter].epoch == Epoch(7, starter)


def test_a_follower_tells_one_that_leads_under_an_older_epoch_whom_it_hears() -> None:
    loop = meshed(3)
    loop.kill(loop.leader())
    loop.run(1.0)
    leader = loop.leader()
    follower = next(node for node in loop.alive() if node != leader)
    gone = next(iter(loop.dead))
    expected = [(gone, ElectAnswer(2, False, Tier.MAINS, Epoch(2, leader), leader=Epoch(2, leader)))]
    assert hear(loop, follower, Coordinator(Epoch(1, gone)), gone) == expected
    assert sent(list(loop.give(follower, LeaderSeen(gone, Epoch(1, gone))))) == expected
    assert sent(list(loop.give(follower, LeaderSeen(gone, NO_EPOCH)))) == []


def test_who_told_a_leader_of_a_higher_epoch_gives_it_time_to_announce() -> None:
    loop = meshed(3)
    leader, one, other = pair(loop)
    loop.give(leader, Resumed(9.0))
    loop.give(one, LeaderSeen(leader, NO_EPOCH))
    loop.cut = {(a, b) for a in loop.nodes for b in loop.nodes}
    loop.run(SETTINGS.patience_s + 0.001)
    before = loop.machines[one].next_deadline()
    waiting = not [message for node, _, message in loop.sent if node == one and isinstance(message, Elect)]
    assert hear(loop, one, Coordinator(Epoch(0, other)), other) == [(other, Higher(Epoch(1, leader)))]
    after = loop.machines[one].next_deadline()
    assert before is not None
    assert after is not None
    assert after == before + (SETTINGS.announce_s if waiting else 0.0)
