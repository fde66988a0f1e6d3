"""The order of claims, suspicion's arithmetic, the rumour queue: the pure parts, each by its law."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import msgspec
import pytest
from gossip_world import SETTINGS, node
from hypothesis import given
from hypothesis import strategies as st

from openclaw.effects import Effect, Store
from openclaw.gossip.beats import Beats
from openclaw.gossip.detector import Detector
from openclaw.gossip.lost import Lost
from openclaw.gossip.member import Row, claim, join, mark, view_bytes
from openclaw.gossip.own import Own, Staged
from openclaw.gossip.roll import Roll
from openclaw.gossip.rumours import Rumours
from openclaw.gossip.suspicion import Suspicion, timeout_s
from openclaw.gossip.waits import Waits
from openclaw.ids import NOBODY, Incarnation, NodeId
from openclaw.messages import Beat, Rumour, Status
from openclaw.notes import Cloned
from openclaw.records import Meta, Number

rumours = st.builds(
    Rumour,
    node=st.just(node(1)),
    incarnation=st.builds(Incarnation, st.integers(0, 3), st.sampled_from(["a", "b"])),
    status=st.sampled_from(Status),
    meta_version=st.integers(0, 3),
    accuser=st.sampled_from([NOBODY, node(2), node(3)]),
    back_soon=st.booleans(),
)


def said(counter: int, status: Status = Status.ALIVE, boot: str = "boot", version: int = 0) -> Rumour:
    return Rumour(node(1), Incarnation(counter, boot), status, version)


@given(rumours, rumours, rumours)
def test_join_is_commutative_associative_and_idempotent(a: Rumour, b: Rumour, c: Rumour) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a


@given(rumours, rumours)
def test_a_join_never_goes_back(a: Rumour, b: Rumour) -> None:
    both = join(a, b)
    assert claim(both) >= claim(a)
    assert claim(both) >= claim(b)
    assert both.meta_version == max(a.meta_version, b.meta_version)


def test_a_higher_incarnation_beats_any_status_of_a_lower_one() -> None:
    assert join(said(5, Status.LEFT), said(6)) == said(6)
    assert join(said(5, Status.DOWN), said(5, Status.SUSPECT)).status is Status.DOWN


def test_views_differ_by_deaths_but_not_by_suspicion_or_by_who_left() -> None:
    assert mark(said(5)) == mark(said(5, Status.SUSPECT))
    assert len({mark(said(5)), mark(said(6)), mark(said(5, Status.DOWN)), mark(said(5, version=1))}) == 4
    assert mark(said(5, Status.LEFT)) == 0


@given(st.lists(st.tuples(st.integers(1, 4), rumours), max_size=40))
def test_a_view_is_what_is_held_however_it_came_to_be(heard: list[tuple[int, Rumour]]) -> None:
    roll = Roll(node(0), SETTINGS, random.Random(1))
    roll.enrol([node(n) for n in range(4)], 0.0, [])
    for now, (subject, rumour) in enumerate(heard):
        roll.hear(msgspec.structs.replace(rumour, node=node(subject)), float(now), [])
    if heard:
        roll.forget(node(heard[0][0]))
    held = sorted((row.claim for row in roll.rows.values()), key=lambda r: r.node)
    us = Rumour(node(0), Incarnation(1, "us"), Status.ALIVE)
    assert roll.claims() == tuple(held)
    assert roll.live() == [r.node for r in held if r.status in (Status.ALIVE, Status.SUSPECT)]
    assert roll.view(us) == view_bytes(sum(map(mark, [*held, us])))


waiting = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9)), max_size=200)


@given(waiting)
def test_the_next_deadline_is_the_least_of_those_that_were_set_last(
    moves: list[tuple[str, int | None]],
) -> None:
    waits, model = Waits(), {}
    for name, at in moves:
        if at is None:
            waits.drop(NodeId(name))
            model.pop(name, None)
        else:
            waits.set(NodeId(name), at)
            model[name] = at
        assert waits.next() == min(model.values(), default=None)
        assert waits.due(5) == sorted(n for n, due in model.items() if due <= 5)


def test_in_a_large_mesh_the_lost_are_called_a_few_at_a_time_and_each_in_its_turn() -> None:
    lost = Lost(SETTINGS, random.Random(1))
    for number in range(60):
        lost.add(node(number), 1.0)
    called, now = [], 1.0
    while (due := lost.next_deadline()) is not None and due < 2.0:
        now = due
        for name in lost.due(now, may_speak=True):
            lost.called(name, now)
            called.append((now, name))
    assert sorted(name for _, name in called) == [node(n) for n in range(60)]
    assert max(Counter(at for at, _ in called).values()) <= SETTINGS.flood_nodes_max


def test_in_a_small_mesh_all_the_lost_are_called_at_once() -> None:
    lost = Lost(SETTINGS, random.Random(1))
    for number in range(SETTINGS.flood_nodes_max):
        lost.add(node(number), 1.0)
    assert len(lost.due(1.0, may_speak=True)) == SETTINGS.flood_nodes_max


def test_suspicion_falls_with_accusers_and_is_shortest_where_nobody_else_could_accuse() -> None:
    waits = [timeout_s(confirmations, 3, SETTINGS) for confirmations in range(5)]
    assert waits[0] == SETTINGS.suspect_s_max
    assert waits == sorted(waits, reverse=True)
    assert waits[3] == waits[4] == SETTINGS.suspect_s_min
    assert timeout_s(0, 0, SETTINGS) == SETTINGS.suspect_s_min


def test_evidence_shortens_a_suspicion_and_an_answer_reopens_it() -> None:
    suspicion = Suspicion(10.0, 10.0, {node(2)})
    suspicion.confirm(11.0, 0.15)
    assert suspicion.deadline(3, SETTINGS) == 11.15
    suspicion.reopen(11.1)
    assert suspicion.deadline(3, SETTINGS) == 11.1 + SETTINGS.suspect_s_max


@pytest.mark.parametrize(("seq", "counts"), [(7, True), (6, False), (8, False)])
def test_an_answer_to_a_call_since_the_doubt_makes_what_was_said_void(seq: int, counts: bool) -> None:
    roll = Roll(node(0), SETTINGS, random.Random(1))
    roll.enrol([node(0), node(1)], 1.0, [])
    roll.hear(said(1), 2.0, [], firsthand=True)
    roll.accuse(node(1), 3.0, [])
    suspicion = roll.rows[node(1)].suspicion
    assert suspicion is not None
    roll.called(node(1), 6, 3.1)
    suspicion.confirm(3.2, 0.5)
    roll.called(node(1), 7, 3.3)
    roll.spoke(node(1), seq, 3.4)
    assert (suspicion.confirm_at is None, suspicion.started) == ((True, 3.4) if counts else (False, 3.2))


def test_a_call_is_remembered_as_long_as_a_question_would_be_open() -> None:
    suspicion = Suspicion(10.0, 10.0)
    for seq in range(100):
        suspicion.called(seq, 10.0 + seq * SETTINGS.probe_timeout_s, SETTINGS)
    patience_s = SETTINGS.probe_timeout_s + SETTINGS.indirect_timeout_s
    assert len(suspicion.calls) == patience_s / SETTINGS.probe_timeout_s
    assert 99 in suspicion.calls


def test_a_staged_value_is_spoken_only_at_a_later_instant() -> None:
    value = Staged(0, 0)
    value.set(1, now=5.0)
    value.set(2, now=5.0)
    assert value.spoken(5.0) == 0
    assert value.spoken(5.1) == 2


def test_a_rumour_is_sent_a_bounded_number_of_times_and_a_newer_claim_replaces_it() -> None:
    queue = Rumours(SETTINGS)
    queue.put(said(5, Status.SUSPECT))
    queue.put(said(5, Status.DOWN))
    sends = 0
    while picked := queue.pick(members=10):
        assert picked == (said(5, Status.DOWN),)
        sends += 1
    assert sends == SETTINGS.rumour_sends_factor * 4


def test_the_rumour_queue_is_bounded_and_a_message_carries_a_bounded_number() -> None:
    queue = Rumours(replace(SETTINGS, rumours_queued_max=20))
    for number in range(40):
        queue.put(replace_node(said(1), node(number)))
    assert len(queue) == 20
    assert len(queue.pick(members=10)) == SETTINGS.rumours_per_message_max


def test_least_sent_comes_first_and_the_most_sent_makes_room() -> None:
    queue = Rumours(replace(SETTINGS, rumours_queued_max=2, rumours_per_message_max=1))
    first, second, third = (replace_node(said(1), node(n)) for n in range(3))
    queue.put(first)
    assert queue.pick(members=10) == (first,)
    queue.put(second)
    queue.put(third)
    assert {queue.pick(members=10)[0] for _ in range(4)} == {second, third}


def replace_node(rumour: Rumour, name: NodeId) -> Rumour:
    return Rumour(name, rumour.incarnation, rumour.status)


@given(st.lists(rumours, max_size=20))
def test_our_stored_counters_only_rise_and_outbid_every_accusation(heard: list[Rumour]) -> None:
    own = Own(node(1), "boot", 1, 1)
    out: list[Effect] = []
    own.start(Meta(), 0.0, out)
    for when, rumour in enumerate(heard, 1):
        own.answer(rumour, float(when), out)
        assert own.incarnation > rumour.incarnation or own.incarnation.counter > rumour.incarnation.counter
        assert own.version >= rumour.meta_version
    for key in ("incarnation", "meta_version"):
        values = [
            e.value.value for e in out if isinstance(e, Store) and e.key == key and type(e.value) is Number
        ]
        assert values == sorted(set(values))


def test_our_own_past_is_outbid_quietly_but_a_living_copy_of_us_is_named() -> None:
    own = Own(node(1), "ours", 1, 0)
    out: list[Effect] = []
    own.start(Meta(), 0.0, out)
    own.answer(said(9, boot="theirs"), 1.0, out)
    assert own.incarnation == Incarnation(10, "ours")
    assert not [e for e in out if isinstance(e, Cloned)]
    own.answer(said(11, boot="theirs"), 2.0, out)
    assert Cloned("theirs") in out


def test_helpers_that_cannot_even_say_no_make_us_doubt_ourselves() -> None:
    def health_after(nacks: int) -> int:
        detector = Detector(SETTINGS, random.Random(1))
        seq = detector.open(node(1), None, 0.0)
        ((_, probe),) = detector.due(1.0).indirect
        detector.widen(probe, 3, None, 1.0)
        for _ in range(nacks):
            detector.nacked(seq, node(1))
        assert detector.due(9.0).failed == (probe,)
        return detector.health

    assert health_after(nacks=3) == 0
    assert health_after(nacks=5) == 0  # a nack may be delivered twice, and nobody is better than well
    assert health_after(nacks=1) == 2


def test_patience_stretches_with_ill_health_and_with_the_measured_round_trip() -> None:
    def patience_s(ill: int, rtt_s: float | None) -> float:
        detector = Detector(SETTINGS, random.Random(1))
        detector.worse(ill) if ill else None
        detector.open(node(1), rtt_s, 0.0)
        deadline = detector.next_deadline()
        assert deadline is not None
        return deadline

    assert patience_s(0, None) == SETTINGS.probe_timeout_s
    assert patience_s(2, None) == 3 * SETTINGS.probe_timeout_s
    assert patience_s(0, 1.0) > 1.0
    assert patience_s(100, None) == (1 + SETTINGS.health_score_max) * SETTINGS.probe_timeout_s


def test_a_round_asks_everyone_once() -> None:
    detector = Detector(SETTINGS, random.Random(3))
    members = [node(n) for n in range(7)]
    asked = [detector.next_target(lambda _: True, members) for _ in members]
    assert sorted(name for name in asked if name) == members


def test_beats_are_minted_at_a_rate_that_is_bounded_for_the_whole_mesh() -> None:
    beats = Beats(node(1), "boot", SETTINGS)
    members = 100
    for step in range(1000):
        beats.load(step, 0)
        beats.mint(members, step * 0.1)
    minted_each_s = beats.latest.number / 100.0
    assert minted_each_s * members <= SETTINGS.beats_per_second_mesh_max * 1.2


def test_a_beat_rides_to_a_peer_once_and_an_older_one_is_not_taken() -> None:
    beats = Beats(node(1), "boot", SETTINGS)
    row = Row(said(1), 0.0)
    assert len(beats.riding(row, 5, 0.0)) == 1
    assert beats.riding(row, 5, 0.1) == ()
    newer = Beat(node(1), "boot", 7, running=3)
    beats.learn(newer, row)
    beats.learn(Beat(node(1), "boot", 6), row)
    beats.learn(Beat(node(1), "another boot", 99), row)
    assert row.beat == newer
