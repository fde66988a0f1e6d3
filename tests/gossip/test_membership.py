"""What a mesh of membership machines promises, one sentence a test, in a small virtual world."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from gossip_world import SETTINGS, World, node, nothing, roster

from openclaw.effects import (
    Effect,
    LinkDown,
    LinkUp,
    Measured,
    MetaChanged,
    PeerFound,
    Received,
    Redial,
    Resumed,
    RosterChanged,
    Send,
    Started,
    StopAsked,
    Store,
    Tick,
)
from openclaw.gossip.membership import Membership
from openclaw.ids import Epoch, Incarnation, NodeId
from openclaw.messages import Ack, Digest, Gossip, Head, MetaWant, Ping, PingRequest, Rumour, Status
from openclaw.notes import (
    Cloned,
    CountsChanged,
    LeaderChanged,
    LeaderSeen,
    LoadChanged,
    MemberChanged,
    RosterDiffers,
    Settled,
)
from openclaw.records import Counts, Meta, Metrics

A, B, C = node(0), node(1), node(2)
HEAD = Head(Incarnation(1, "peer"))


def mesh(nodes: int, seed: int = 1) -> World:
    world = World(nodes, seed)
    world.run_until(world.converged, 10.0)
    assert world.converged()
    world.run(2.0)
    return world


def asked(effects: list[Effect]) -> list[int]:
    """The questions to B among these."""
    return [
        e.message.seq for e in effects if isinstance(e, Send) and e.to == B and isinstance(e.message, Ping)
    ]


def changes(world: World, observer: NodeId, subject: NodeId) -> list[Status]:
    found = world.notes(observer, MemberChanged)
    return [note.status for note in found if isinstance(note, MemberChanged) and note.node == subject]


@pytest.mark.parametrize("nodes", [2, 3, 10])
def test_all_see_all_with_what_they_publish(nodes: int) -> None:
    world = mesh(nodes)
    for host in world.hosts.values():
        views = host.machine.members()
        assert {name: view.meta.name for name, view in views.items() if view.meta} == {
            name: name for name in world.hosts
        }
        assert host.machine.alive() == sorted(world.hosts)


def test_nothing_is_sent_before_the_first_incarnation_is_stored() -> None:
    machine = Membership(A, "boot", SETTINGS, random.Random(1), 4, 2)
    first = machine.handle(roster(0, 1), 1.0) + machine.handle(Started(Meta(), 0.0), 1.0)
    ping = Ping(1, Head(Incarnation(1, "b")))
    first += machine.handle(Received(ping, B), 1.0) + machine.handle(Tick(), 1.0)
    assert [effect for effect in first if isinstance(effect, Store)]
    assert not [effect for effect in first if isinstance(effect, Send)]
    due = machine.next_deadline()
    assert due is not None
    assert due > 1.0
    heads = [e.message.head for e in machine.handle(Tick(), due) if isinstance(e, Send) and e.to == B]
    assert {head.incarnation for head in heads} == {Incarnation(5, "boot")}


@pytest.mark.parametrize("nodes", [2, 3, 10])
@pytest.mark.parametrize("refused", [True, False])
def test_a_killed_node_is_down_everywhere_and_nobody_else_is(nodes: int, refused: bool) -> None:
    world = mesh(nodes)
    world.kill(A, refused)
    assert world.run_until(lambda: world.everyone_sees(A, Status.DOWN), 30.0) <= (1.0 if refused else 4.0)
    world.run(5.0)
    up = sorted(set(world.hosts) - {A})
    assert all(world.hosts[name].machine.alive() == up for name in up)
    assert not [
        s for o in up for other in up if other != o for s in changes(world, o, other) if s > Status.SUSPECT
    ]


def test_a_refused_dial_alone_is_no_verdict() -> None:
    world = mesh(3)
    world.give(B, LinkDown(A, True))
    world.run(10.0)
    assert Status.DOWN not in changes(world, B, A)
    assert world.status(B, A) is Status.ALIVE


def test_a_broken_connection_is_a_reason_to_ask_and_accuses_nobody() -> None:
    world = mesh(3)
    before = len(world.sent_log)
    world.give(B, LinkDown(A, False))
    assert [s.to for _, by, s in world.sent_log[before:] if by == B and isinstance(s.message, Ping)] == [A]
    world.run(5.0)
    assert changes(world, B, A) == [Status.ALIVE]


def test_a_node_that_two_cannot_see_but_one_can_stays_alive() -> None:
    world = mesh(3)
    world.cut = lambda a, b: {a, b} == {A, B}
    world.run(60.0)
    assert changes(world, A, B) == changes(world, B, A) == changes(world, C, A) == [Status.ALIVE]


def acquainted() -> tuple[Membership, float]:
    """One machine by itself that has met B and C, and now."""
    machine = Membership(A, "boot", SETTINGS, random.Random(1), 0, 0)
    machine.handle(roster(0, 1, 2), 1.0)
    machine.handle(Started(Meta(), 0.0), 1.0)
    machine.handle(Tick(), 1.005)
    for peer in (B, C):
        machine.handle(Received(Ping(1, HEAD), peer), 1.01)
    machine.handle(Tick(), 1.02)
    return machine, 1.02


def statuses(effects: list[Effect], of: NodeId | None = None) -> list[Status]:
    return [e.status for e in effects if isinstance(e, MemberChanged) and of in (None, e.node)]


def test_who_answers_a_fresh_ping_is_not_down_even_before_it_refutes() -> None:
    machine, now = acquainted()
    effects = machine.handle(LinkDown(B, True), now)
    (ping,) = [e.message for e in effects if isinstance(e, Send) and isinstance(e.message, Ping)]
    machine.handle(Received(Ack(ping.seq, HEAD), B), now + 0.1)
    assert statuses(machine.handle(Tick(), now + SETTINGS.refused_confirm_s)) == []
    silent, now = acquainted()
    silent.handle(LinkDown(B, True), now)
    assert statuses(silent.handle(Tick(), now + SETTINGS.refused_confirm_s)) == [Status.DOWN]


def test_an_answer_to_an_older_question_is_not_one() -> None:
    machine, now = acquainted()
    (ping,) = [e.message for e in machine.handle(LinkDown(B, False), now) if isinstance(e, Send)]
    assert isinstance(ping, Ping)
    machine.handle(LinkDown(B, True), now + 0.01)
    machine.handle(Received(Ack(ping.seq, HEAD), B), now + 0.02)
    assert statuses(machine.handle(Tick(), now + 0.01 + SETTINGS.refused_confirm_s)) == [Status.DOWN]


def test_a_suspect_that_answered_is_asked_again_before_it_can_be_down() -> None:
    """Its refutation may be lost on the way, and the wait of a node that runs late be shorter than its round."""
    machine, now = acquainted()
    machine.handle(Measured(Metrics(), 2.0), now)
    found: list[Status] = []
    while Status.SUSPECT not in found:
        now = machine.next_deadline() or now
        found = statuses(effects := machine.handle(Tick(), now), B)
    questions = asked(effects)
    while not questions:
        now = machine.next_deadline() or now
        questions = asked(machine.handle(Tick(), now))
    machine.handle(Received(Ack(questions[-1], HEAD), B), now + 0.001)
    answered_at, questions, found = now + 0.001, [], []
    while Status.DOWN not in found:
        now = machine.next_deadline() or now
        effects = machine.handle(Tick(), now)
        questions += [now] * bool(asked(effects))
        found = statuses(effects, B)
    assert questions
    assert answered_at < questions[0] <= now - SETTINGS.refused_confirm_s


def test_who_cannot_speak_yet_finds_nobody_down() -> None:
    """Its disk stands still, so no question of its own leaves it, whatever it hears and however long that takes."""
    machine = Membership(A, "boot", SETTINGS, random.Random(1), 4, 2)
    machine.handle(roster(0, 1, 2), 1.0)
    said = tuple(Rumour(B, Incarnation(1, "b"), status, 1, C) for status in (Status.SUSPECT, Status.DOWN))
    head = Head(Incarnation(1, "c"), rumours=said)
    heard = machine.handle(Started(Meta(), 0.0), 1.0) + machine.handle(Received(Ping(1, head), C), 1.0)
    heard += machine.handle(LinkDown(B, True), 1.0)
    assert Status.DOWN not in statuses(heard)
    effects = machine.handle(Tick(), 1.0 + SETTINGS.suspect_s_max)
    assert Status.DOWN not in statuses(effects)
    assert asked(effects)


def test_a_suspect_whose_answer_comes_too_late_is_asked_again() -> None:
    machine, now = acquainted()
    (ping,) = [e.message for e in machine.handle(LinkDown(B, False), now) if isinstance(e, Send)]
    assert isinstance(ping, Ping)
    found: list[Status] = []
    while not found:
        now = machine.next_deadline() or now
        found = statuses(machine.handle(Tick(), now))
    assert found == [Status.SUSPECT]
    effects = machine.handle(Received(Ack(ping.seq, HEAD), B), now + 0.01)
    assert [e.to for e in effects if isinstance(e, Send) and isinstance(e.message, Ping)] == [B]


@pytest.mark.parametrize("nodes", [3, SETTINGS.flood_nodes_max + 1])
def test_a_suspect_is_called_again_and_again_where_few_can_doubt_it(nodes: int) -> None:
    """One answer that gets lost, or two, make nobody dead; hundreds who call at once would be too many."""
    world = mesh(nodes)
    world.cut = lambda source, _: source == B
    world.run_until(lambda: world.status(A, B) is Status.SUSPECT)
    world.sent_log.clear()
    world.run(SETTINGS.suspect_s_min)
    called = [at for at, source, sent in world.sent_log if source == A and asked([sent])]
    assert (len(called) >= 4) is (nodes == 3)


@pytest.mark.parametrize("slept", [False, True])
def test_our_own_accusation_that_others_repeat_is_not_one_after_we_took_it_back(slept: bool) -> None:
    """What makes another's verdict ours is a question of our own that is open, not one from before a sleep."""
    machine, now = acquainted()
    machine.handle(LinkDown(B, True), now)
    if slept:
        machine.handle(Resumed(60.0), now + 0.01)
    echo = Rumour(B, HEAD.incarnation, Status.SUSPECT, accuser=A)
    machine.handle(Received(Gossip(Head(HEAD.incarnation, rumours=(echo,))), C), now + 0.02)
    verdict = Rumour(B, HEAD.incarnation, Status.DOWN, accuser=C)
    effects = machine.handle(Received(Gossip(Head(HEAD.incarnation, rumours=(verdict,))), C), now + 0.02)
    assert statuses(effects) == ([] if slept else [Status.DOWN])


def test_a_tick_that_comes_late_fails_nobody() -> None:
    machine, now = acquainted()
    machine.handle(LinkDown(B, False), now)
    effects = machine.handle(Tick(), now + SETTINGS.probe_timeout_s)
    assert [e for e in effects if isinstance(e, Send) and isinstance(e.message, PingRequest)]
    assert machine.next_deadline() is not None  # lateness is measured against the answer
    assert statuses(machine.handle(Tick(), now + 1.5)) == []
    assert machine.health == 1


def test_an_answer_that_waited_while_we_ran_late_counts() -> None:
    machine, now = acquainted()
    (question,) = asked(machine.handle(LinkDown(B, True), now))
    assert machine.next_deadline() is not None  # lateness is measured against the answer
    late = now + 1.5
    assert statuses(machine.handle(Tick(), late)) == []
    machine.handle(Received(Ack(question, HEAD), B), late)
    while (due := machine.next_deadline()) is not None and due < late + SETTINGS.suspect_s_min:
        assert Status.DOWN not in statuses(machine.handle(Tick(), due))


def test_who_said_that_it_is_back_soon_is_remembered_to_have_said_it() -> None:
    machine, now = acquainted()
    soon = Rumour(B, HEAD.incarnation, Status.ALIVE, back_soon=True)
    machine.handle(Received(Gossip(Head(HEAD.incarnation, rumours=(soon,))), B), now)
    verdict = Rumour(B, HEAD.incarnation, Status.DOWN, accuser=C)
    machine.handle(Received(Gossip(Head(HEAD.incarnation, rumours=(verdict,))), C), now + 0.01)
    effects = machine.handle(Tick(), now + 0.01 + SETTINGS.refused_confirm_s)
    assert MemberChanged(B, Status.DOWN, HEAD.incarnation, back_soon=True) in effects


def test_metadata_is_asked_for_until_it_comes() -> None:
    world = mesh(3)
    world.lose = lambda send: isinstance(send.message, MetaWant)
    world.give(A, MetaChanged(Meta(name="renamed")))
    world.run(1.5)
    world.lose = nothing
    world.run(2 * SETTINGS.meta_retry_s)
    assert [world.hosts[n].machine.members()[A].meta for n in (B, C)] == [Meta(name="renamed")] * 2


def test_nobody_is_accused_while_the_network_comes_back_after_a_sleep() -> None:
    world = mesh(3)
    world.give(A, Resumed(60.0))
    world.cut = lambda a, b: A in (a, b)
    world.hosts[A].notes.clear()
    world.run(SETTINGS.resume_quiet_s - 0.1)
    assert not world.notes(A, MemberChanged)
    world.run(10.0)
    assert statuses(world.notes(A, MemberChanged)).count(Status.DOWN) == 2


def test_a_false_verdict_of_one_is_believed_by_nobody_who_gets_an_answer() -> None:
    world = mesh(4)
    lie = Rumour(A, world.hosts[A].machine.incarnation, Status.DOWN, accuser=C)
    head = Head(world.hosts[C].machine.incarnation, rumours=(lie,))
    world.give(B, Received(Gossip(head), C))
    world.run(5.0)
    assert Status.DOWN not in changes(world, B, A)
    assert world.hosts[A].machine.incarnation.counter == 2
    assert world.everyone_sees(A, Status.ALIVE)


def test_an_accused_node_refutes_with_a_stored_higher_incarnation() -> None:
    machine = Membership(A, "boot", SETTINGS, random.Random(1), 0, 0)
    machine.handle(roster(0, 1), 1.0)
    machine.handle(Started(Meta(), 0.0), 1.0)
    accusation = Rumour(A, Incarnation(1, "boot"), Status.SUSPECT, accuser=B)
    effects = machine.handle(Received(Ping(1, Head(Incarnation(1, "b"), rumours=(accusation,))), B), 1.1)
    assert machine.incarnation == Incarnation(2, "boot")
    assert [e.key for e in effects if isinstance(e, Store)] == ["incarnation"]
    assert {
        e.message.head.incarnation.counter
        for e in effects
        if isinstance(e, Send) and hasattr(e.message, "head")
    } == {1}
    assert machine.health == 1


def test_a_restarted_node_is_announced_as_a_new_start_even_when_nobody_missed_it() -> None:
    world = mesh(3)
    world.start(A)
    world.run(1.0)
    assert changes(world, B, A) == [Status.ALIVE, Status.ALIVE]
    seen = world.hosts[B].machine.members()[A].incarnation
    assert seen == world.hosts[A].machine.incarnation
    assert seen.boot == "boot2"


def test_a_restored_backup_learns_its_past_before_it_settles() -> None:
    world = mesh(3)
    for _ in range(3):
        world.start(A)
        world.run(1.0)
    past = world.hosts[A].machine.incarnation.counter
    version = world.hosts[B].machine.members()[A].meta_version
    world.hosts[A].notes.clear()
    world.start(A, disk={})
    world.run_until(lambda: bool(world.notes(A, Settled)), 2.0)
    assert world.hosts[A].machine.incarnation.counter > past
    world.run(1.0)
    view = world.hosts[B].machine.members()[A]
    assert view.status is Status.ALIVE
    assert view.incarnation == world.hosts[A].machine.incarnation
    assert view.meta_version > version
    assert not world.notes(A, Cloned)


def test_no_two_starts_of_a_node_share_a_count() -> None:
    world = mesh(3)
    before = dict(world.hosts[A].disk)
    world.start(A)
    world.run(1.0)
    second = world.hosts[A].machine.incarnation
    world.start(A, disk=before)  # the backup counts the same again, in another start
    world.run(1.0)
    assert world.hosts[A].machine.incarnation.counter > second.counter
    assert not world.notes(A, Cloned)


def test_a_lone_node_settles_at_once_and_an_ignored_one_after_a_while() -> None:
    def settles_at(event: RosterChanged) -> float:
        machine = Membership(A, "boot", SETTINGS, random.Random(1), 0, 0)
        now = 1.0
        effects = machine.handle(Started(Meta(), 0.0), now) + machine.handle(event, now)
        while Settled() not in effects:
            now = machine.next_deadline() or now
            effects += machine.handle(Tick(), now)
        return now - 1.0

    assert settles_at(roster(0)) == 0.0
    assert settles_at(roster(0, 1)) == SETTINGS.settle_s


def test_a_leaver_is_gone_at_once_and_nobody_calls_after_it() -> None:
    world = mesh(3)
    world.give(A, StopAsked(keep=False, grace_s=0.0))
    world.hosts[A].up = False
    world.run(0.1)
    assert world.everyone_sees(A, Status.LEFT)
    before = len(world.sent_log)
    world.run(60.0)
    assert not [s for _, _, s in world.sent_log[before:] if s.to == A]


def test_a_node_that_left_comes_back() -> None:
    world = mesh(3)
    world.give(A, StopAsked(keep=False, grace_s=0.0))
    world.run(1.0)
    world.start(A)
    world.run(1.0)
    assert changes(world, B, A) == [Status.ALIVE, Status.LEFT, Status.ALIVE]


def test_a_node_that_is_back_soon_goes_down_with_that_said() -> None:
    world = mesh(3)
    world.give(A, StopAsked(keep=True, grace_s=0.0))
    world.run(0.1)
    world.kill(A, refused=True)
    world.run(2.0)
    for observer in (B, C):
        last = [n for n in world.notes(observer, MemberChanged) if isinstance(n, MemberChanged)][-1]
        assert (last.node, last.status, last.back_soon) == (A, Status.DOWN, True)


def test_a_revoked_member_is_gone_at_once_and_is_not_heard_again() -> None:
    world = mesh(3)
    world.give(B, roster(0, 1, 2, revoked=(0,)))
    assert changes(world, B, A)[-1] is Status.LEFT
    world.run(5.0)
    assert A not in world.hosts[B].machine.members()
    assert changes(world, B, A)[-1] is Status.LEFT


def test_halves_that_meet_again_do_not_bury_each_other() -> None:
    world = mesh(6)
    half = {node(n) for n in range(3)}
    world.cut = lambda a, b: (a in half) != (b in half)
    world.run(60.0)
    assert world.hosts[A].machine.alive() == sorted(half)
    world.cut = nothing
    for host in world.hosts.values():
        host.notes.clear()
    assert world.run_until(world.converged, 30.0) <= 15.0
    for name, host in world.hosts.items():
        ours = half if name in half else set(world.hosts) - half
        worse = [n for _, n in host.notes if isinstance(n, MemberChanged) and n.status is Status.DOWN]
        assert not [n for n in worse if n.node in ours]


def test_a_hint_is_followed_at_once_but_proves_nothing() -> None:
    world = mesh(2)
    world.kill(B, refused=True)
    world.run(20.0)
    before = len(world.sent_log)
    world.give(A, PeerFound(B))
    world.run(0.01)
    assert [s.to for _, by, s in world.sent_log[before:] if by == A] == [B]
    assert world.status(A, B) is Status.DOWN


def test_a_lost_peer_that_a_call_did_not_reach_is_dialled_afresh_and_not_again_once_it_is_connected() -> None:
    """What was sent into a cut is repeated by the kernel ever more rarely, long after the cut has healed."""
    world = mesh(2)
    world.kill(B, refused=False)
    world.run(30.0)
    redials = world.notes(A, Redial)
    assert redials
    assert {redial.peer for redial in redials if isinstance(redial, Redial)} == {B}
    world.give(A, LinkUp(B))
    world.run(SETTINGS.dead_probe_every_s / 2)
    assert world.notes(A, Redial) == redials


def test_who_slept_accuses_nobody_and_raises_its_incarnation() -> None:
    world = mesh(4)
    world.hosts[A].paused = True
    world.run(60.0)
    assert world.everyone_sees(A, Status.DOWN)
    world.hosts[A].notes.clear()
    world.hosts[A].paused = False
    counter = world.hosts[A].machine.incarnation.counter
    world.give(A, Resumed(60.0))
    world.run(20.0)
    assert [n.status for n in world.notes(A, MemberChanged) if isinstance(n, MemberChanged)] == []
    assert world.hosts[A].machine.incarnation.counter > counter
    assert world.converged()


def test_a_short_stall_of_our_own_is_held_against_nobody() -> None:
    world = mesh(3)
    for _ in range(20):
        world.hosts[A].paused = True
        world.run(0.9)
        world.hosts[A].paused = False
        world.run(1.5)
    assert Status.DOWN not in [s for name in (B, C) for s in changes(world, A, name)]


def test_nobody_is_declared_down_in_half_an_hour_of_loss() -> None:
    world = mesh(3)
    world.loss = 0.05
    world.run(1800.0)
    assert Status.DOWN not in [
        s for o in world.hosts for x in world.hosts if x != o for s in changes(world, o, x)
    ]


def test_two_nodes_with_one_key_are_noticed() -> None:
    world = mesh(3)
    for counter in (1, 7):
        twin = Rumour(A, Incarnation(counter, "twin"), Status.ALIVE)
        head = Head(world.hosts[B].machine.incarnation, rumours=(twin,))
        world.give(A, Received(Gossip(head), B))
    assert world.notes(A, Cloned) == [Cloned("twin")]
    assert world.hosts[A].machine.incarnation.counter > 7


def test_new_metadata_is_stored_spread_and_pulled_by_everyone() -> None:
    world = mesh(5)
    world.give(A, MetaChanged(Meta(name="renamed", slots=7)))
    spent = world.run_until(
        lambda: all(
            (meta := host.machine.meta_of(A)) is not None and meta.slots == 7 for host in world.hosts.values()
        ),
        5.0,
    )
    assert spent <= 0.1


def test_load_reaches_everyone_soon_and_metrics_in_time() -> None:
    world = mesh(5)
    world.give(A, Measured(Metrics(cpu_percent=42.0)))
    world.give(A, LoadChanged(running=3, queued=4))
    world.give(A, CountsChanged(Counts(running=3)))
    world.run(SETTINGS.beat_every_s + 0.1)
    for name in (B, C):
        beat = world.hosts[name].machine.members()[A].beat
        assert beat is not None
        assert (beat.running, beat.queued, beat.metrics.cpu_percent, beat.counts.running) == (3, 4, 42.0, 3)


def test_whom_a_peer_follows_is_told_when_it_changes_and_now_and_then_while_it_differs() -> None:
    world = mesh(2)
    world.run(5.0)
    assert not world.notes(A, LeaderSeen)
    world.give(B, LeaderChanged(Epoch(3, B)))
    world.run(5.0)
    seen = world.notes(A, LeaderSeen)
    assert set(seen) == {LeaderSeen(B, Epoch(3, B))}
    assert 2 <= len(seen) <= 7
    world.give(A, LeaderChanged(Epoch(3, B)))
    world.run(5.0)
    assert len(world.notes(A, LeaderSeen)) == len(seen)


def test_a_roster_that_differs_is_noted_at_a_bounded_rate() -> None:
    world = mesh(2)
    assert not world.notes(A, RosterDiffers)
    other = roster(0, 1, 2)
    world.give(A, RosterChanged(other.members, b"other"))
    world.run(5.0)
    assert 3 <= len(world.notes(A, RosterDiffers)) <= 6


def test_what_rumours_missed_is_found_by_comparing_views() -> None:
    world = mesh(4)
    news = Rumour(A, Incarnation(9, "later"), Status.ALIVE)
    world.kill(A, refused=False)
    world.lose = lambda send: (
        isinstance(send.message, Gossip | Ping | Ack | PingRequest)
        and any(rumour.incarnation == news.incarnation for rumour in send.message.head.rumours)
    )
    world.give(B, Received(Gossip(Head(world.hosts[C].machine.incarnation, rumours=(news,))), C))
    world.run_until(
        lambda: all(world.hosts[n].machine.members()[A].incarnation == news.incarnation for n in (B, C))
    )
    assert world.hosts[C].machine.members()[A].incarnation == news.incarnation


def test_a_large_mesh_that_starts_meets_without_the_square_of_its_views() -> None:
    world = World(60)
    world.run(3.0)
    assert world.converged()
    sent = Counter(type(send.message) for _, _, send in world.sent_log)
    assert sent[Digest] <= 60 * 3 * SETTINGS.rumour_fanout
    assert sent[Ping] <= 60 * 8 * SETTINGS.rumour_fanout


def test_strangers_in_a_large_mesh_are_all_greeted_in_time() -> None:
    world = World(40)
    world.run(15.0)
    for name, host in world.hosts.items():
        heard = {other for other, view in host.machine.members().items() if view.last_heard is not None}
        assert heard == world.hosts.keys() - {name}


def test_an_idle_node_sends_four_small_messages_a_second() -> None:
    world = mesh(10)
    world.run(10.0)
    before = len(world.sent_log)
    world.run(30.0)
    assert (len(world.sent_log) - before) / 30.0 / 10 <= 4.5


def test_a_call_at_the_instant_of_the_start_is_made_when_we_may_speak() -> None:
    """Found again after a restart: the first ping leaves within milliseconds, not after a backoff."""
    ours = Membership(A, "boot", SETTINGS, random.Random(1), 3, 3)
    for event in (Started(Meta(), 0.0), roster(0, 1), PeerFound(B), Tick()):
        ours.handle(event, 100.0)
    sent: list[Effect] = []
    while not sent and (due := ours.next_deadline()) is not None and due < 101.0:
        sent = [each for each in ours.handle(Tick(), due) if isinstance(each, Send)]
    assert sent
    assert due < 100.1
