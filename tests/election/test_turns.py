"""Turns: who leads next, hand-over, and nodes that had rather not."""

from __future__ import annotations

from election_loop import SETTINGS, lone, meshed, node_id

from openclaw.effects import Received, Send, StopAsked
from openclaw.election.peers import Peers
from openclaw.election.rank import order
from openclaw.election.turns import successor
from openclaw.ids import NO_EPOCH
from openclaw.messages import (
    DemandOf,
    Elect,
    Offer,
    OfferRefused,
    Status,
)
from openclaw.notes import LeaderChanged, MetaLearned, OfferTurn, TurnTaken
from openclaw.records import Meta, Tier


def test_no_election_in_an_idle_hour_but_the_turns() -> None:
    loop = meshed(5)
    loop.run(3600.0)
    assert not [message for _, _, message in loop.sent if isinstance(message, Elect)]
    assert len(loop.took_office()) == 1 + 3600 // SETTINGS.rotation_s
    assert len(set(loop.took_office())) == len(loop.took_office())
    assert len(loop.sent) < 3600 / SETTINGS.coordinator_every_s + 100


def test_the_tier_comes_before_the_hash_and_no_lead_never_leads_others() -> None:
    for seed in range(3):
        loop = meshed(3 + seed, {0: Tier.NO_LEAD, 1: Tier.ALWAYS_ON, 2: Tier.BATTERY})
        assert loop.leader() == node_id(1)
        loop.run(1300.0)
        assert loop.leader() == node_id(1), "the only one of its tier serves on"
        loop.kill(node_id(1))
        loop.run(3.0)
        assert loop.leader() != node_id(0)


def test_a_lone_no_lead_node_leads_itself_until_another_can() -> None:
    loop = lone(Tier.NO_LEAD)
    a, b = node_id(0), node_id(1)
    assert loop.leader() == a
    loop.nodes.append(b)
    loop.stored[b] = []
    loop.start(b)
    loop.acquaint()
    loop.give(a, MetaLearned(b, 1, Meta()))
    loop.give(b, MetaLearned(a, 1, Meta(tier=Tier.NO_LEAD)))
    loop.settle([b])
    loop.run(2.0)
    assert loop.leader() == b


def test_a_turn_is_handed_over_with_what_the_leader_knows() -> None:
    loop = meshed(4)
    first = loop.leader()
    loop.run(SETTINGS.rotation_s)
    second = loop.leader()
    assert second != first
    taken = [(node, note) for node, note in loop.notes if isinstance(note, TurnTaken)]
    assert taken == [
        (second, TurnTaken(loop.machines[second].leader or NO_EPOCH, (DemandOf(first, ()),), ()))
    ]
    without = [note for _, note in loop.notes if isinstance(note, LeaderChanged) and note.epoch is None]
    assert without == [], "the first serves until the second announces"


def test_a_failed_offer_burns_its_term_and_goes_to_the_next() -> None:
    loop = meshed(5)
    first = loop.leader()
    loop.dead |= {node for node in loop.nodes if node != first}
    loop.run(SETTINGS.rotation_s + 3 * SETTINGS.offer_s)
    offers = [note for _, note in loop.notes if isinstance(note, OfferTurn)]
    assert len(offers) >= 3
    assert [offer.term for offer in offers] == sorted({offer.term for offer in offers})
    assert all(offer.to == order(offer.term, loop.nodes, lambda _: Tier.MAINS)[0] for offer in offers)
    loop.give(first, Received(OfferRefused(offers[-1].term, "never leads"), offers[-1].to))
    loop.run(0.001)
    latest = [note for _, note in loop.notes if isinstance(note, OfferTurn)][-1]
    assert latest.term > offers[-1].term
    assert loop.machines[first].leading


def test_an_offer_counts_only_from_the_leader_and_for_a_fresh_term() -> None:
    loop = meshed(3)
    leader = loop.leader()
    other, third = (node for node in loop.nodes if node != leader)
    for offer, sender in ((Offer(5, 2.0), third), (Offer(1, 2.0), leader)):
        effects = loop.give(other, Received(offer, sender))
        assert [type(e.message) for e in effects if isinstance(e, Send)] == [OfferRefused]
    assert loop.leader() == leader


def test_a_leader_that_stops_hands_over_first() -> None:
    loop = meshed(3)
    leader = loop.leader()
    loop.give(leader, StopAsked(keep=False, grace_s=1.0))
    loop.run(0.1)
    assert loop.leader() != leader
    loop.give(loop.leader(), StopAsked(keep=False, grace_s=1.0))
    loop.run(60.0)
    assert not loop.machines[leader].leading, "one that stops is asked and refuses"


def test_a_turn_begins_with_the_first_peer() -> None:
    loop = lone()
    loop.run(10 * SETTINGS.rotation_s)
    a, b = node_id(0), node_id(1)
    loop.nodes.append(b)
    loop.stored[b] = []
    loop.start(b)
    loop.acquaint()
    loop.settle([b])
    loop.run(SETTINGS.rotation_s - 1.0)
    assert loop.leader() == a
    loop.run(2.0)
    assert loop.leader() == b


def test_where_nobody_else_may_lead_a_no_lead_node_is_the_witness() -> None:
    """One broken link between the only two that may lead deposes nobody while a third hears the leader."""
    loop = meshed(3, {0: Tier.NO_LEAD})
    leader = loop.leader()
    other = next(node for node in loop.nodes[1:] if node != leader)
    loop.cut |= {(leader, other), (other, leader)}
    loop.member(other, leader, Status.DOWN)
    loop.run(10.0)
    assert loop.machines[leader].leading
    assert loop.machines[node_id(0)].leader == loop.machines[leader].leader
    assert not loop.machines[other].leading


def test_a_no_lead_node_does_not_stand_while_another_kind_lives() -> None:
    loop = meshed(3, {0: Tier.NO_LEAD})
    leader = loop.leader()
    mute = next(node for node in loop.nodes[1:] if node != leader)
    loop.dead.add(mute)
    loop.kill(leader)
    loop.run(60.0)
    assert loop.machines[node_id(0)].leader is None
    loop.member(node_id(0), mute, Status.DOWN)
    loop.run(1.0)
    assert loop.machines[node_id(0)].leading, "alone it leads itself"


def test_of_two_nodes_each_gets_its_turns() -> None:
    """One comes first in eight terms in a row once in 256 times: it goes on looking for a term of the other."""
    peers = Peers(node_id(0), boots={node_id(1): "b"})
    for term in range(2000):
        chosen = successor(term, peers)
        assert chosen is not None
        assert chosen[0] == node_id(1)
        assert chosen[1] > term
