"""The election, sentence by sentence: who leads, who follows, and what it costs."""

from __future__ import annotations

import random

import pytest
from election_loop import SETTINGS, Loop, lone, meshed, node_id

from openclaw.effects import Received, Resumed
from openclaw.election.rank import order
from openclaw.ids import NO_EPOCH, Epoch, Incarnation
from openclaw.messages import (
    Coordinator,
    Elect,
    ElectAnswer,
    Higher,
    Status,
)
from openclaw.notes import LeaderChanged, LeaderSeen, MemberChanged, Settled
from openclaw.records import Tier


def test_a_lone_node_leads_itself_at_once() -> None:
    loop = Loop(1)
    loop.settle()
    assert loop.machines[node_id(0)].next_deadline() == loop.now
    loop.run(0.001)
    assert loop.leader() == node_id(0)
    assert loop.sent == []


def test_nobody_stands_before_it_has_settled() -> None:
    loop = Loop(3)
    loop.acquaint()
    loop.run(10.0)
    assert loop.took_office() == []
    assert loop.machines[node_id(0)].next_deadline() is None


def test_the_best_of_the_term_wins_and_all_follow() -> None:
    for count in (2, 3, 5, 30):
        loop = meshed(count)
        assert loop.leader() == loop.best(1)
        assert loop.took_office() == [Epoch(1, loop.best(1))]


def test_the_best_of_the_next_term_follows_a_dead_leader() -> None:
    loop = meshed(5)
    loop.kill(loop.leader())
    loop.run(0.05)
    assert loop.leader() == loop.best(2)


def test_stored_terms_survive_a_restart_of_everyone() -> None:
    loop = meshed(3)
    for node in loop.nodes:
        loop.start(node)
    loop.acquaint()
    loop.settle()
    loop.run(2.0)
    assert loop.machines[loop.leader()].epoch.term == 2


def test_a_returning_node_of_higher_rank_does_not_preempt() -> None:
    loop = meshed(5)
    first = loop.leader()
    loop.kill(first)
    loop.run(1.0)
    second = loop.leader()
    loop.start(first)
    loop.acquaint()
    loop.settle([first])
    loop.run(60.0)
    assert loop.leader() == second
    assert len(loop.took_office()) == 2


@pytest.mark.parametrize("count", [2, 3, 10, 50, 200])
def test_an_election_costs_at_most_eight_messages_a_node(count: int) -> None:
    loop = meshed(count + 1)
    loop.kill(loop.leader())
    loop.run(5.0)
    assert loop.leader() == loop.best(2)
    assert len(loop.sent) <= 8 * count


@pytest.mark.parametrize("count", [10, 50, 200])
def test_the_worst_starter_with_silent_nodes_above_keeps_the_bound(count: int) -> None:
    loop = meshed(count)
    term = 2
    leader = loop.leader()
    ranked = [node for node in order(term, loop.nodes, lambda _: Tier.MAINS) if node != leader]
    silent = set(ranked[: count // 10])
    loop.dead |= silent
    loop.kill(leader)
    loop.run(30.0)
    assert loop.leader() == ranked[count // 10]
    assert len(loop.sent) <= 8 * count


def test_crossing_candidacies_end_with_one_leader() -> None:
    for seed in range(20):
        loop = meshed(6)
        chance = random.Random(seed)
        leader = loop.leader()
        loop.kill(leader, noticed_by=[])
        survivors = loop.alive()
        chance.shuffle(survivors)
        for node in survivors:
            loop.member(node, leader, Status.DOWN)
            loop.run(chance.random() * 0.2)
        loop.run(5.0)
        assert loop.leader() == loop.best(2)
        assert len(loop.took_office()) == 2


def test_a_leader_that_one_node_cannot_reach_keeps_its_place() -> None:
    """A-C and B-C are linked, A-B is not: B must neither depose A nor elect for ever."""
    loop = meshed(3)
    a = loop.leader()
    b, c = (node for node in loop.nodes if node != a)
    loop.cut = {(a, b), (b, a)}
    loop.member(b, a, Status.DOWN)
    loop.run(SETTINGS.rotation_s / 2)
    assert loop.took_office() == [Epoch(1, a)]
    asked = [message for _, _, message in loop.sent if isinstance(message, Elect)]
    assert len(asked) < SETTINGS.rotation_s / SETTINGS.coordinator_every_s
    loop.member(b, a, Status.ALIVE)  # membership heard of it through C
    loop.give(b, LeaderSeen(c, Epoch(1, a)))
    assert loop.leader() == a


def test_two_parts_each_have_a_leader_and_the_higher_epoch_stays() -> None:
    loop = meshed(6)
    a = loop.leader()
    left = [a, *[node for node in loop.nodes if node != a][:2]]
    right = [node for node in loop.nodes if node not in left]
    loop.cut = {(x, y) for x in left for y in right} | {(y, x) for x in left for y in right}
    for x in left:
        for y in right:
            loop.member(x, y, Status.DOWN)
            loop.member(y, x, Status.DOWN)
    loop.run(3.0)
    assert loop.machines[a].leading
    other = next(node for node in right if loop.machines[node].leading)
    loop.cut.clear()
    for x in left:
        for y in right:
            loop.member(x, y, Status.ALIVE)
            loop.member(y, x, Status.ALIVE)
    loop.run(1.0)
    assert loop.leader() == other
    assert len(loop.took_office()) == 2


def test_a_leader_that_hears_of_a_higher_term_without_a_leader_takes_the_next() -> None:
    loop = lone()
    me, peer = node_id(0), node_id(1)
    loop.nodes.append(peer)
    loop.dead.add(peer)
    loop.member(me, peer, Status.ALIVE)
    loop.give(me, Received(Higher(Epoch(9, node_id(7))), peer))
    assert loop.machines[me].leader == Epoch(10, me)
    assert loop.stored[me][-1] == Epoch(10, me)


def test_a_term_that_nobody_stored_is_raised_by_no_candidate() -> None:
    loop = meshed(3)
    for _ in range(5):
        for node in loop.nodes:
            loop.give(node, Received(Elect(50), loop.nodes[0] if node != loop.nodes[0] else loop.nodes[1]))
    loop.run(5.0)
    assert {machine.epoch.term for machine in loop.machines.values()} == {1}


def test_a_candidate_of_an_old_term_learns_the_stored_one() -> None:
    loop = Loop(2)
    a, b = loop.nodes
    loop.stored[b] = [Epoch(7, node_id(9))]
    loop.start(b)
    loop.acquaint()
    loop.settle()
    loop.run(3.0)
    assert loop.machines[loop.leader()].epoch.term == 8
    assert loop.machines[a].leader == loop.machines[b].leader


def test_one_who_stands_and_never_announces_is_passed_over() -> None:
    loop = meshed(4)
    leader = loop.leader()
    ranked = [node for node in order(2, loop.nodes, lambda _: Tier.MAINS) if node != leader]
    mute = ranked[0]
    loop.dead |= {leader, mute}
    for node in ranked[1:]:
        loop.member(node, leader, Status.DOWN)
    loop.run(SETTINGS.rank_step_s + 0.001)
    asked = [
        (node, message.term) for node, to, message in loop.sent if to == mute and isinstance(message, Elect)
    ]
    assert asked[0][0] == ranked[1]
    tier = Tier.MAINS
    loop.give(ranked[1], Received(ElectAnswer(2, True, tier, Epoch(1, leader)), mute))
    loop.run(SETTINGS.announce_s / 2)
    assert loop.machines[ranked[1]].leader is None
    loop.run(3.0)
    loop.dead.discard(mute)
    loop.machines.pop(mute)
    loop.nodes.remove(mute)
    assert loop.leader() == ranked[1]


def test_a_leader_that_slept_steps_down_first_and_listens() -> None:
    loop = meshed(3)
    leader = loop.leader()
    effects = loop.give(leader, Resumed(60.0))
    assert effects[0] == LeaderChanged(None, "this node slept")
    for other in loop.nodes:
        if other != leader:
            loop.give(other, LeaderSeen(leader, NO_EPOCH))
    loop.run(2.0)
    assert loop.leader() != leader
    assert loop.machines[leader].epoch.term == 2


def test_who_slept_alone_listens_to_the_first_that_comes_before_it_leads() -> None:
    loop = Loop(2)
    one, other = loop.nodes
    loop.give(one, Resumed(60.0))
    loop.give(one, Settled())
    loop.give(one, MemberChanged(other, Status.ALIVE, Incarnation(1, "boot")))
    loop.run(SETTINGS.resume_quiet_s - 0.1)
    assert not loop.machines[one].leading
    loop.run(2.0)
    assert loop.machines[one].leading


def test_a_late_word_of_its_past_does_not_depose_a_leader() -> None:
    loop = meshed(3)
    leader = loop.leader()
    follower = next(node for node in loop.nodes if node != leader)
    loop.give(follower, LeaderSeen(leader, NO_EPOCH))
    loop.give(follower, LeaderSeen(leader, Epoch(1, leader)))
    loop.run(5.0)
    assert loop.leader() == leader
    assert len(loop.took_office()) == 1


def test_a_leader_that_restarted_leads_no_longer() -> None:
    loop = meshed(3)
    leader = loop.leader()
    loop.start(leader)
    for other in loop.nodes:
        if other != leader:
            loop.member(leader, other, Status.ALIVE)
            loop.member(other, leader, Status.ALIVE, boot="b2")
            assert loop.machines[other].leader is None
    loop.settle([leader])
    loop.run(3.0)
    assert loop.machines[loop.leader()].epoch.term == 2


def test_an_announcement_in_the_name_of_another_is_ignored() -> None:
    loop = meshed(3)
    leader = loop.leader()
    other, third = (node for node in loop.nodes if node != leader)
    assert loop.give(other, Received(Coordinator(Epoch(99, leader)), third)) == []
    assert loop.machines[other].epoch.term == 1


@pytest.mark.parametrize("seed", range(20))
def test_only_higher_epochs_are_ever_stored(seed: int) -> None:
    loop = Loop(5)
    chance = random.Random(seed)
    loop.acquaint()
    loop.settle()
    for _ in range(40):
        loop.run(chance.random())
        node = chance.choice(loop.nodes)
        if node in loop.dead:
            loop.start(node)
            loop.acquaint()
            loop.settle([node])
        elif chance.random() < 0.5:
            loop.kill(node)
        else:
            loop.give(node, Resumed(5.0))
    for node in loop.nodes:
        assert loop.stored[node] == sorted(set(loop.stored[node]))
    assert len(loop.took_office()) == len(set(loop.took_office()))


def test_the_best_above_are_asked_one_then_two_then_four() -> None:
    loop = meshed(20)
    leader = loop.leader()
    ranked = [node for node in order(2, loop.nodes, lambda _: Tier.MAINS) if node != leader]
    last = ranked[-1]
    loop.dead = set(loop.nodes) - {last}
    loop.member(last, leader, Status.DOWN)
    loop.run((len(ranked) - 1) * SETTINGS.rank_step_s + 0.01)
    asked = [to for _, to, message in loop.sent if isinstance(message, Elect)]
    assert asked == ranked[: len(asked)]
    assert len(asked) == 1
    loop.run(SETTINGS.answer_s)
    assert len([message for _, _, message in loop.sent if isinstance(message, Elect)]) == 3
    loop.run(SETTINGS.answer_s)
    assert len([message for _, _, message in loop.sent if isinstance(message, Elect)]) == 7


def test_whoever_says_last_that_it_stands_has_its_whole_time_to_announce() -> None:
    loop = meshed(20)
    leader = loop.leader()
    ranked = [node for node in order(2, loop.nodes, lambda _: Tier.MAINS) if node != leader]
    last = ranked[-1]
    loop.dead = set(loop.nodes) - {last}
    loop.member(last, leader, Status.DOWN)
    loop.run((len(ranked) - 1) * SETTINGS.rank_step_s + 0.01 + SETTINGS.answer_s)  # two are asked now
    answer = ElectAnswer(2, True, Tier.MAINS, Epoch(1, leader))
    for peer in ranked[1:3]:
        loop.give(last, Received(answer, peer))
        asked = len([message for _, _, message in loop.sent if isinstance(message, Elect)])
        loop.run(SETTINGS.announce_s * 0.9)
    assert len([message for _, _, message in loop.sent if isinstance(message, Elect)]) == asked
    loop.run(SETTINGS.announce_s * 0.2)
    assert len([message for _, _, message in loop.sent if isinstance(message, Elect)]) > asked


def test_an_older_epoch_is_not_followed() -> None:
    loop = meshed(3)
    loop.kill(loop.leader())
    loop.run(1.0)
    leader = loop.leader()
    follower = next(node for node in loop.alive() if node != leader)
    loop.give(follower, LeaderSeen(leader, Epoch(1, leader)))
    assert loop.machines[follower].leader == Epoch(2, leader)


def test_a_node_disowns_an_epoch_that_it_does_not_remember_and_never_repeats_it() -> None:
    loop = Loop(2)
    a, b = loop.nodes
    loop.acquaint()
    loop.give(a, LeaderSeen(b, Epoch(7, a)))
    assert loop.stored[a] == [Epoch(7, a)]
    assert (a, b, Higher(Epoch(7, a))) in loop.sent
    loop.settle()
    loop.run(3.0)
    assert loop.took_office()[0].term == 8


def test_a_live_leader_of_an_older_term_is_told_and_takes_the_next() -> None:
    loop = meshed(3)
    leader = loop.leader()
    other = next(node for node in loop.nodes if node != leader)
    loop.stored[other].append(Epoch(5, node_id(9)))
    loop.start(other)
    loop.acquaint()
    loop.give(other, LeaderSeen(leader, Epoch(1, leader)))
    loop.run(0.1)
    assert loop.leader() == leader
    assert loop.machines[leader].epoch == Epoch(6, leader)


def test_a_mesh_of_no_lead_nodes_still_has_a_leader() -> None:
    loop = meshed(3, dict.fromkeys(range(3), Tier.NO_LEAD))
    loop.kill(loop.leader())
    loop.run(3.0)
    assert loop.machines[loop.leader()].epoch.term == 2
