"""Close the lid: what guardians keep, take over and give back, in a mesh of memory."""

from __future__ import annotations

import pytest
from exec_mesh import Mesh, Node, submission
from msgspec.structs import replace

from openclaw import messages as m
from openclaw import notes as n
from openclaw.effects import CancelAsked, Received, Submitted
from openclaw.exec.guards import pack
from openclaw.ids import NOBODY, Claim, Epoch, Incarnation, TaskId, Token, keyed_task_id
from openclaw.messages import Status
from openclaw.records import Copy, Exit, Kind, Needs, Progress, State, Submission, Table

GRACE_S = 31.0


def guardian_of(mesh: Mesh, number: int) -> int:
    guardian = mesh[number].owner.ledger.guardian
    assert guardian is not None
    return mesh.number(guardian)


def copy_on(node: Node, task: TaskId) -> Copy | None:
    row = node.disk.get((Table.COPIES, task)) or node.disk.get((Table.RESULTS, task))
    return row if isinstance(row, Copy) else None


def own(node: Node, task: TaskId) -> Progress | None:
    row = node.disk.get((Table.PROGRESS, task))
    return row if isinstance(row, Progress) else None


def accepted(node: Node) -> list[n.Accepted]:
    return [note for note in node.notes if isinstance(note, n.Accepted)]


def owners(mesh: Mesh, task: TaskId) -> list[int]:
    return [mesh.number(node.me) for node in mesh.nodes.values() if own(node, task) is not None]


def others(mesh: Mesh, *numbers: int) -> list[int]:
    return [number for number in range(len(mesh.ids)) if number not in numbers]


def needs_node(mesh: Mesh, number: int) -> Needs:
    return Needs(Kind.COMMAND, mesh.ids[number])


def incarnation(mesh: Mesh, number: int) -> Incarnation:
    node = mesh[number]
    return Incarnation(node.restarts + 1, node.boot)


def down(mesh: Mesh, number: int) -> n.MemberChanged:
    return n.MemberChanged(mesh.ids[number], Status.DOWN, incarnation(mesh, number))


def last(node: Node, task: TaskId) -> Progress | None:
    kept = copy_on(node, task)
    return own(node, task) or (None if kept is None else kept.progress)


def cancel(task: TaskId) -> CancelAsked:
    return CancelAsked((task,))


def test_an_acceptance_names_the_guardian_that_has_the_task_on_its_disk() -> None:
    mesh = Mesh()
    guardian = mesh[guardian_of(mesh, 0)]
    mesh.cut(0, mesh.number(guardian.me))
    (task,) = mesh.submit(0)
    assert accepted(mesh[0]) == [], "the guardian has not answered"
    mesh.mend()
    mesh.advance(mesh.settings.guard_resend_s - 0.5)
    assert copy_on(guardian, task) is None
    mesh.advance(1.0)
    kept = copy_on(guardian, task)
    assert kept is not None
    assert kept.submission.payload == b"true"


def test_a_silent_guardian_is_said_and_caught_up_later() -> None:
    mesh = Mesh()
    guardian = mesh[guardian_of(mesh, 0)]
    mesh.cut(0, mesh.number(guardian.me))
    (task,) = mesh.submit(0)
    mesh.advance(mesh.settings.guard_wait_s)
    assert [(note.tasks, note.guardians) for note in accepted(mesh[0])] == [((task,), ())]
    mesh.mend()
    mesh.advance(mesh.settings.guard_resend_s + 0.1)
    assert copy_on(guardian, task) is not None


def test_one_node_alone_accepts_and_has_no_guardian() -> None:
    mesh = Mesh(1)
    (task,) = mesh.submit(0)
    mesh.finish()
    assert [(note.tasks, note.guardians) for note in accepted(mesh[0])] == [((task,), ())]
    assert mesh.state(task) is State.SUCCEEDED
    assert not mesh.progress(task).provisional


def test_a_final_is_provisional_until_the_guardian_has_it_and_its_worker_keeps_it_until_then() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker))
    mesh.cut(0, guardian)
    mesh.finish()
    assert mesh.progress(task).provisional
    assert (Table.ATTEMPTS, task) in mesh[worker].disk
    mesh.mend()
    mesh.advance(mesh.settings.guard_resend_s + 0.1)
    assert not mesh.progress(task).provisional
    assert (Table.ATTEMPTS, task) not in mesh[worker].disk
    kept = copy_on(mesh[guardian], task)
    assert kept is not None
    assert kept.progress.state is State.SUCCEEDED
    assert not kept.progress.provisional, "whoever reads it here reads what is on two disks"
    assert (Table.COPIES, task) not in mesh[guardian].disk, "what is over is not read at a start"


def test_closed_lid_the_guardian_adopts_what_runs_and_has_its_result() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker))
    assert mesh.state(task) is State.RUNNING
    mesh.crash(0)
    mesh.advance(mesh.settings.guard_grace_s - 1.0)
    assert owners(mesh, task) == [0], "its owner may be back within the grace"
    mesh.advance(2.0)
    assert own(mesh[guardian], task).state is State.RUNNING  # type: ignore[union-attr]
    mesh.finish(code=3)
    mesh.advance(1.0)
    ended = own(mesh[guardian], task)
    assert ended is not None
    assert (ended.state, ended.exit and ended.exit.code) == (State.FAILED, 3)
    assert mesh.started_on(task) == [mesh.ids[worker]], "it ran once"
    assert (Table.ATTEMPTS, task) not in mesh[worker].disk
    reasons = [move.reason for move in ended.story]
    assert any("taken over" in reason for reason in reasons)


def test_a_goodbye_for_good_is_taken_over_at_once() -> None:
    mesh = Mesh(slots=0)
    guardian = guardian_of(mesh, 0)
    (task,) = mesh.submit(0)
    mesh.crash(0, noticed=False)
    mesh.tell_status(0, Status.LEFT)
    mesh.run()
    assert own(mesh[guardian], task) is not None


def test_what_nobody_knows_runs_again() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.elect(guardian)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker))
    mesh.crash(worker, executor=True)
    mesh.crash(0)
    mesh.advance(GRACE_S)
    mesh[worker].process.clear()
    mesh[worker].disk.pop((Table.ATTEMPTS, task), None)
    mesh.restart(worker)
    mesh.advance(5.0)
    mesh.finish()
    mesh.advance(1.0)
    assert own(mesh[guardian], task).state is State.SUCCEEDED  # type: ignore[union-attr]
    assert len(mesh.started_on(task)) == 2


def test_a_returning_owner_yields_learns_the_end_and_starts_nothing() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.elect(guardian)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker))
    mesh.crash(0)
    mesh.advance(GRACE_S)
    mesh.restart(0)
    mesh.run()
    mesh.advance(6.0)
    assert owners(mesh, task) == [guardian]
    mesh.finish()
    mesh.advance(3.0)
    kept = copy_on(mesh[0], task)
    assert kept is not None
    assert kept.progress.state is State.SUCCEEDED
    assert len(mesh.started_on(task)) == 1
    assert mesh[0].owner.counts.queued == mesh[0].owner.counts.running == 0


def test_two_halves_ran_it_and_one_end_stands() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0)
    first = mesh.started_on(task)[0]
    # The owner sees the others down, they see it down.
    for other in others(mesh, 0):
        mesh.cut(0, other)
    mesh.tell_status(0, Status.DOWN)
    for other in others(mesh, 0):
        mesh.give(0, down(mesh, other))
    mesh.advance(GRACE_S + 5.0)
    mesh.elect(guardian)
    mesh.advance(5.0)
    mesh.finish()
    mesh.advance(3.0)
    mesh.mend()
    mesh.tell_status(0, Status.ALIVE)
    for other in others(mesh, 0):
        mesh.give(0, n.MemberChanged(mesh.ids[other], Status.ALIVE, incarnation(mesh, other)))
    mesh.advance(10.0)
    ends = [row for node in mesh.nodes.values() if (row := last(node, task)) is not None]
    assert {row.state for row in ends} == {State.SUCCEEDED}
    assert len({(row.token, row.claim) for row in ends}) == 1, "all holders agree"
    assert first in mesh.ids
    assert worker in others(mesh, 0)


def test_a_dead_guardian_is_replaced_and_lets_go_when_it_is_back() -> None:
    mesh = Mesh(4, slots=0)
    first = guardian_of(mesh, 0)
    (task,) = mesh.submit(0)
    mesh.crash(first)
    mesh.run()
    second = guardian_of(mesh, 0)
    assert second != first
    assert copy_on(mesh[second], task) is not None
    mesh.restart(first)
    mesh.advance(3.0)
    assert copy_on(mesh[first], task) is None
    assert mesh.progress(task).guardians == (mesh.ids[second],)


def test_a_copy_that_comes_late_to_who_let_it_go_is_let_go_again() -> None:
    """It was sent before, and would be taken over without the intent: no answer from before counts as its end."""
    mesh = Mesh()
    former = guardian_of(mesh, 0)
    (task,) = mesh.submit(0, once=True, needs=Needs(Kind.COMMAND, gpus=1))
    mesh.crash(former)
    mesh.advance(1.0)
    mesh.restart(former)
    mesh.advance(3.0)
    assert copy_on(mesh[former], task) is None
    told = own(mesh[0], task)
    assert told is not None
    assert mesh.ids[former] not in told.guardians
    early = (m.Guarded(((task, told.claim, 0),)), m.Released((task,), 0))
    mesh.give(0, *(Received(message, mesh.ids[former]) for message in early))
    mesh.cut(0, former)
    mesh.run()
    assert mesh.ids[former] in own(mesh[0], task).guardians  # type: ignore[union-attr]
    mesh.mend()
    mesh.advance(3.0)
    assert mesh.ids[former] not in own(mesh[0], task).guardians  # type: ignore[union-attr]


def test_an_owner_that_does_not_know_a_copy_is_asked_whether_it_is_of_use() -> None:
    """Else a worker that tells us of an end which is its owner's would tell us for as long as we keep the copy."""
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0)
    copy = copy_on(mesh[guardian], task)
    assert copy is not None
    heir = others(mesh, 0, guardian)[0]
    theirs = replace(copy, progress=replace(copy.progress, owner=mesh.ids[heir], takeover=1))
    mesh.give(guardian, n.Yielded((theirs,)))
    mesh.run()
    mesh.give(guardian, Received(m.Unguarded((task,)), mesh.ids[0]))
    mesh.run()
    assert copy_on(mesh[guardian], task) is not None, "it is not that one's"
    mesh.give(guardian, Received(m.Unguarded((task,)), mesh.ids[heir]))
    mesh.run()
    assert copy_on(mesh[guardian], task) is None


def test_once_is_assigned_only_when_its_intent_is_at_the_guardian() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker), once=True)
    assert len(mesh.started_on(task)) == 1
    mesh.finish()
    mesh.lost = {m.Guarded}
    (second,) = mesh.submit(0, needs=needs_node(mesh, worker), once=True)
    mesh.advance(10.0)
    assert mesh.started_on(second) == []
    mesh.lost = set()
    mesh.advance(10.0)
    assert len(mesh.started_on(second)) == 1


@pytest.mark.parametrize("ran", [True, False])
def test_once_after_a_takeover_starts_only_when_its_worker_swears_that_it_never_did(ran: bool) -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.elect(guardian)
    worker = others(mesh, 0, guardian)[0]
    if not ran:
        mesh.lost = {m.Assign}
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker), once=True)
    assert copy_on(mesh[guardian], task).progress.intent  # type: ignore[union-attr]
    mesh.crash(worker, executor=True)
    mesh.crash(0)
    mesh.lost = set()
    mesh.advance(GRACE_S + 60.0)
    assert own(mesh[guardian], task).state is State.QUEUED, "nobody can know yet"  # type: ignore[union-attr]
    mesh.restart(worker)
    mesh.advance(10.0)
    state = own(mesh[guardian], task).state  # type: ignore[union-attr]
    assert state is (State.LOST if ran else State.RUNNING)
    assert len(mesh.started_on(task)) == 1


@pytest.mark.parametrize(
    ("said", "runs"),
    [
        ({"takeover": 1}, True),
        ({"takeover": 1, "intent": False, "worker": NOBODY, "token": None}, True),
        ({"takeover": 1, "worker": NOBODY, "token": None}, False),
        ({"takeover": 0}, False),
    ],
    ids=["names whom it meant", "meant nobody", "does not know either", "was not the last"],
)
def test_whom_a_once_task_was_meant_for_its_last_owner_can_say(said: dict[str, object], runs: bool) -> None:
    """Who yielded it and takes it over again cannot: it may have been given to anybody since."""
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.elect(guardian)
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0, needs=needs_node(mesh, others(mesh, 0, guardian)[0]), once=True)
    mesh.lost = set()
    copy = copy_on(mesh[guardian], task)
    assert copy is not None
    assert copy.progress.intent
    mesh.crash(0)
    yielded = replace(copy.progress, state=State.QUEUED, takeover=1, worker=NOBODY, token=None)
    mesh.give(guardian, n.TakeOver((replace(copy, progress=yielded),), "its owner is down"))
    mesh.advance(10.0)
    assert own(mesh[guardian], task).state is State.QUEUED, "nobody can know yet"  # type: ignore[union-attr]
    theirs = replace(copy.progress, state=State.QUEUED, **said)
    mesh.give(guardian, n.Contested(mesh.ids[0], theirs))
    mesh.advance(10.0)
    state = own(mesh[guardian], task).state  # type: ignore[union-attr]
    assert state is (State.RUNNING if runs else State.QUEUED)


@pytest.mark.parametrize("once", [True, False])
def test_an_heir_waits_with_a_once_task_for_who_may_be_its_heir_too(once: bool) -> None:
    """That one took it over and ran it, perhaps, where we do not see it: as its former guardian it had a copy."""
    mesh = Mesh(4)
    heir = guardian_of(mesh, 0)
    former = others(mesh, 0, heir)[0]
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0, once=once)
    mesh.lost = set()
    copy = copy_on(mesh[heir], task)
    assert copy is not None
    holders = (mesh.ids[heir], mesh.ids[former])
    queued = replace(
        copy.progress, state=State.QUEUED, intent=False, token=None, worker=NOBODY, guardians=holders
    )
    mesh.give(heir, n.Yielded((replace(copy, progress=queued),)))
    mesh.crash(0)
    mesh.crash(former)
    mesh.elect(heir)
    mesh.advance(GRACE_S)
    assert len(mesh.started_on(task)) == (0 if once else 1)
    mesh.restart(former)
    mesh.advance(10.0)
    assert len(mesh.started_on(task)) == 1


def test_whoever_keeps_a_once_task_hears_when_nobody_else_does_any_more() -> None:
    mesh = Mesh()
    first = guardian_of(mesh, 0)
    (task,) = mesh.submit(0, once=True, needs=Needs(Kind.COMMAND, gpus=1))
    mesh.crash(first)
    mesh.advance(3.0)
    second = guardian_of(mesh, 0)
    assert copy_on(mesh[second], task).progress.guardians == (mesh.ids[second], mesh.ids[first])  # type: ignore[union-attr]
    mesh.restart(first)
    mesh.advance(3.0)
    assert copy_on(mesh[second], task).progress.guardians == (mesh.ids[second],)  # type: ignore[union-attr]


def test_a_worker_that_dies_while_it_is_asked_has_sworn_nothing() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    mesh.elect(guardian)
    worker = others(mesh, 0, guardian)[0]
    tasks = mesh.submit(0, 3, once=True)
    task = next(task for task in tasks if mesh.started_on(task) == [mesh.ids[worker]])
    mesh.crash(0)
    mesh.lost = {m.Seek}
    mesh.advance(mesh.settings.guard_grace_s + 0.5)
    mesh.crash(worker, executor=True)
    mesh.lost = set()
    mesh.advance(60.0)
    assert len(mesh.started_on(task)) == 1
    assert own(mesh[guardian], task).state is State.QUEUED  # type: ignore[union-attr]


def test_a_cancellation_outlives_its_owner() -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    worker = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0, needs=needs_node(mesh, worker))
    mesh.lost = {m.End}
    mesh.give(0, cancel(task))
    mesh.run()
    mesh.crash(0)
    mesh.lost = set()
    mesh.advance(GRACE_S + 5.0)
    assert own(mesh[guardian], task).state is State.CANCELLED  # type: ignore[union-attr]
    assert all(exit is not None for node in mesh.nodes.values() for exit in node.process.values())


def test_a_week_old_copy_starts_nothing() -> None:
    mesh = Mesh(slots=0)
    guardian = guardian_of(mesh, 0)
    (task,) = mesh.submit(0)
    mesh.crash(guardian, noticed=False)
    mesh.now += mesh.settings.copy_stale_s + 60.0
    mesh.crash(0, noticed=False)
    mesh.restart(guardian)
    mesh.tell_status(0, Status.DOWN)
    mesh.advance(GRACE_S)
    assert own(mesh[guardian], task) is None
    assert copy_on(mesh[guardian], task) is not None


def test_an_old_guardian_does_not_run_what_ended_elsewhere() -> None:
    mesh = Mesh(4)
    first = guardian_of(mesh, 0)
    (task,) = mesh.submit(0, needs=needs_node(mesh, others(mesh, 0, first)[0]))
    mesh.crash(first)
    mesh.run()
    mesh.finish(exit=Exit(0, stdout=b"x", stdout_size=1))
    mesh.advance(3.0)
    second = guardian_of(mesh, 0)
    assert copy_on(mesh[second], task).progress.state is State.SUCCEEDED  # type: ignore[union-attr]
    mesh.crash(0)
    mesh.restart(first)
    mesh.tell_status(0, Status.DOWN)
    mesh.elect(second)
    mesh.advance(GRACE_S + 5.0)
    assert len(mesh.started_on(task)) == 1
    assert last(mesh[first], task).state is State.SUCCEEDED  # type: ignore[union-attr]


def test_what_it_made_of_a_task_gives_way_to_an_end_under_a_higher_claim() -> None:
    """It took over, lost sight of the attempt and gave up, while the next owner knew the result of that attempt."""
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    (task,) = mesh.submit(0, once=True, needs=needs_node(mesh, others(mesh, 0, guardian)[0]))
    mesh.crash(0)
    mesh.lost = {m.Guarded}  # so what it makes of it stays provisional
    mesh.advance(GRACE_S)
    mesh.finish(exit=Exit(137, ended_by="orphaned"))
    mesh.advance(1.0)
    ours = own(mesh[guardian], task)
    assert ours is not None
    assert ours.state is State.LOST
    theirs = replace(
        ours,
        state=State.FAILED,
        takeover=ours.takeover + 1,
        owner=mesh.ids[0],
        exit=Exit(3),
        provisional=False,
    )
    mesh.give(guardian, Received(m.Known(0, (m.Kept(theirs),)), mesh.ids[0]))
    mesh.run()
    assert own(mesh[guardian], task) is None
    kept = copy_on(mesh[guardian], task)
    assert kept is not None
    assert kept.progress.state is State.FAILED


def test_what_is_yielded_in_the_batch_that_placed_it_is_not_assigned() -> None:
    mesh = Mesh(2, slots=0, lead=-1)
    (task,) = mesh.submit(0)
    mesh.epoch = Epoch(1, mesh.ids[1])
    grant = m.Grant(mesh.epoch, 1, 10.0, (m.GrantRow(1, mesh.ids[1], mesh[1].boot, 1),))
    ours = own(mesh[0], task)
    assert ours is not None
    theirs = replace(ours, takeover=1, owner=mesh.ids[1])
    events = (n.LeaderChanged(mesh.epoch), Received(grant, mesh.ids[1]), n.Contested(mesh.ids[1], theirs))
    mesh.give(0, *events)
    mesh.run()
    assert own(mesh[0], task) is None
    assert not [send for _, send in mesh.sent if isinstance(send.message, m.Assign)]


@pytest.mark.parametrize("once", [False, True])
def test_who_yields_a_task_is_asked_to_let_its_copy_go(once: bool) -> None:
    """Else it would take it over when its owner is gone, and know nothing of what became of it."""
    mesh = Mesh(4)
    guardian = guardian_of(mesh, 0)
    (task,) = mesh.submit(0, needs=Needs(Kind.COMMAND, gpus=1), once=once)
    mesh.crash(0)
    mesh.advance(GRACE_S)
    ours = own(mesh[guardian], task)
    assert ours is not None
    third = next(x for x in others(mesh, 0, guardian) if mesh.ids[x] not in ours.guardians)
    mesh.sent.clear()
    mesh.give(guardian, n.Contested(mesh.ids[third], replace(ours, owner=mesh.ids[third], takeover=0)))
    mesh.advance(3.0)
    asked = [send.to for _, send in mesh.sent if isinstance(send.message, m.Release)]
    assert (mesh.ids[third] in asked) is not once, (
        "of a once task it keeps an intent, by which it starts nothing"
    )


@pytest.mark.parametrize("first", [0, 1], ids=["the lower claim first", "the higher claim first"])
def test_who_is_asked_by_two_heirs_of_a_task_tells_the_lower_claim(first: int) -> None:
    """They took it over from two copies and do not see each other: both would run it, with leases of their own."""
    mesh = Mesh(4)
    witness, low, high = 1, 2, 3
    (task,) = mesh.submit(0)
    mesh.sent.clear()
    heirs = [low, high]
    for heir in (heirs[first], heirs[1 - first]):
        mesh.give(witness, Received(m.Seek(1, 5, (task,)), mesh.ids[heir]))
        mesh.run()
    told = [(send.to, send.message.items) for _, send in mesh.sent if isinstance(send.message, m.Superseded)]
    assert (mesh.ids[low], ((task, Claim(5, mesh.ids[high])),)) in told
    assert mesh.ids[high] not in {to for to, _ in told}


@pytest.mark.parametrize("meeting", ["both notice", "one was away"])
def test_two_owners_who_never_heard_of_each_other_agree_when_they_meet(meeting: str) -> None:
    """One took it over and is done with it; another took it over from that one, from an older copy."""
    mesh = Mesh(4)
    guardian = guardian_of(mesh, 0)
    third = others(mesh, 0, guardian)[1]
    mesh.elect(guardian)
    (task,) = mesh.submit(0)
    older = copy_on(mesh[guardian], task)
    assert older is not None
    mesh.crash(0)
    mesh.give(third, n.LeaderChanged(None))
    for other in others(mesh, 0, third):
        mesh.cut(other, third)
        mesh.give(other, down(mesh, third))
        mesh.give(third, down(mesh, other))
    for _ in range(3):
        mesh.advance(GRACE_S)
        mesh.finish()
    first = own(mesh[guardian], task)
    assert first is not None
    assert first.state is State.SUCCEEDED
    of_first = replace(older, progress=replace(older.progress, owner=mesh.ids[guardian], takeover=1))
    mesh.give(third, n.TakeOver((of_first,), "its owner is down"))
    mesh.run()
    for _ in range(5):
        mesh.advance(5.0)
        mesh.finish()
    second = own(mesh[third], task)
    assert second is not None
    assert (second.state, second.takeover) == (State.SUCCEEDED, 2)
    assert second.token != first.token
    mesh.mend()
    if meeting == "one was away":  # and knows who is there before it is settled
        mesh.crash(third, noticed=False)
        mesh.restart(third)
        for other in others(mesh, 0, third):
            mesh[other].inbox.clear()
    else:
        for other in others(mesh, 0, third):
            mesh.give(other, n.MemberChanged(mesh.ids[third], Status.ALIVE, incarnation(mesh, third)))
            mesh.give(third, n.MemberChanged(mesh.ids[other], Status.ALIVE, incarnation(mesh, other)))
    mesh.advance(10.0)
    ends = [last(mesh[number], task) for number in (guardian, third)]
    assert {end and (end.token, end.claim) for end in ends} == {(second.token, second.claim)}


def test_an_end_that_comes_while_the_disk_is_looked_at_is_not_hidden_by_an_older_copy() -> None:
    mesh = Mesh(4, slots=0)
    guardian = guardian_of(mesh, 0)
    third, fourth = others(mesh, 0, guardian)
    (task,) = mesh.submit(0)
    whole = mesh[0].disk[Table.TASKS, task]
    ours = own(mesh[0], task)
    assert isinstance(whole, Submission)
    assert ours is not None
    late = replace(ours, owner=mesh.ids[third], takeover=1)
    end = replace(ours, state=State.CANCELLED, story=(*ours.story, replace(ours.story[-1], n=9)))
    watcher = mesh[fourth]  # has no copy yet
    (offer,) = pack([(whole, late)], mesh.settings)
    (final,) = pack([(whole, end)], mesh.settings)
    watcher.inbox.append(Received(offer, mesh.ids[third]))
    mesh._batch(watcher)
    watcher.inbox.appendleft(Received(final, mesh.ids[0]))  # and then the answer of the disk
    mesh.run()
    kept = copy_on(watcher, task)
    assert kept is not None
    assert kept.progress.state is State.CANCELLED


@pytest.mark.parametrize("over", [True, False])
def test_what_was_submitted_again_by_its_key_while_its_first_owner_was_away_is_one_task(over: bool) -> None:
    """The first owner died before anybody heard of it: nobody but its own disk knows, and it asks before it places."""
    mesh = Mesh(5)
    guardian = guardian_of(mesh, 0)
    again = next(each for each in others(mesh, 0, guardian) if guardian_of(mesh, each) not in (0, guardian))
    mesh.elect(again)
    task = keyed_task_id("the key")
    first, second = (
        replace(submission(mesh.ids[number], 1), task=task, origin=mesh.ids[number]) for number in (0, again)
    )
    mesh.give(0, Submitted((first,)))
    mesh.fuses[mesh.ids[0]] = 1
    mesh.run()
    assert own(mesh[0], task) is not None
    assert copy_on(mesh[guardian], task) is None
    mesh.give(again, Submitted((second,)))
    mesh.run()
    if over:
        mesh.finish()
        mesh.advance(3.0)
    mesh.restart(0)
    mesh.advance(10.0)
    mesh.finish()
    mesh.advance(10.0)
    assert owners(mesh, task) == [again]
    assert mesh.state(task) is State.SUCCEEDED
    assert len(mesh.started_on(task)) == 1


def test_an_owner_that_is_back_is_not_taken_over_by_what_came_since() -> None:
    mesh = Mesh(slots=0)
    guardian = guardian_of(mesh, 0)
    (first,) = mesh.submit(0)
    mesh.give(guardian, down(mesh, 0))
    mesh.give(0, cancel(first))  # it is over: nothing is kept for its owner
    mesh.run()
    mesh.give(guardian, n.MemberChanged(mesh.ids[0], Status.ALIVE, incarnation(mesh, 0)))
    (second,) = mesh.submit(0)
    mesh.advance(GRACE_S)
    assert copy_on(mesh[guardian], second) is not None
    assert own(mesh[guardian], second) is None


def test_whoever_takes_over_has_copies_from_before_let_go() -> None:
    mesh = Mesh(4, slots=0)
    old, (task,) = guardian_of(mesh, 0), mesh.submit(0, once=True)
    mesh.crash(old)
    mesh.run()
    heir = guardian_of(mesh, 0)
    mesh.crash(0)
    mesh.advance(GRACE_S - 1.0)
    mesh.restart(old)  # it has a copy still, of which the heir knows nothing
    mesh.advance(10.0)
    row = own(mesh[heir], task)
    assert row is not None
    assert [node.me for node in mesh.nodes_up() if copy_on(node, task)] == list(row.guardians)


def test_an_attempt_that_is_adopted_after_all_is_not_ended_in_the_same_batch() -> None:
    mesh = Mesh(slots=0)
    guardian = guardian_of(mesh, 0)
    third = others(mesh, 0, guardian)[0]
    (task,) = mesh.submit(0)
    mesh.crash(0)
    mesh.advance(GRACE_S)
    ours = own(mesh[guardian], task)
    assert ours is not None
    assert ours.takeover == 1
    mesh.epoch = Epoch(1, mesh.ids[third])
    grant = m.Grant(mesh.epoch, 1, 10.0, (m.GrantRow(1, mesh.ids[third], mesh[third].boot, 1),))
    older = Token(0, mesh.ids[0], 1, 1)
    theirs = replace(
        ours, owner=mesh.ids[0], takeover=0, state=State.RUNNING, token=older, worker=mesh.ids[third]
    )
    entry = mesh[guardian].owner.ledger.tasks[task]
    row = replace(grant.rows[0], row=entry.row.number)
    mesh.give(guardian, n.LeaderChanged(mesh.epoch), Received(replace(grant, rows=(row,)), mesh.ids[third]))
    mesh._batch(mesh[guardian])
    assert entry.progress.state is State.PLACED
    token = entry.progress.token
    assert token is not None
    mesh.sent.clear()
    refused = m.Returned((m.Refused(task, token, "an older attempt is still here"),))
    contested = n.Contested(mesh.ids[0], theirs)
    mesh.give(guardian, contested, Received(refused, mesh.ids[third]), contested)
    mesh._batch(mesh[guardian])
    assert (entry.progress.state, entry.progress.token) == (State.RUNNING, older)
    assert not [send for _, send in mesh.sent if isinstance(send.message, m.End)]


@pytest.mark.parametrize("over", [False, True], ids=["before it is over", "after it is over"])
def test_who_knows_another_end_under_a_lower_claim_hears_of_the_one_that_stands(over: bool) -> None:
    mesh = Mesh()
    guardian = guardian_of(mesh, 0)
    third = others(mesh, 0, guardian)[0]
    mesh.elect(guardian)
    (task,) = mesh.submit(0, needs=needs_node(mesh, third))
    mesh.crash(0)
    mesh.advance(GRACE_S)
    mesh.finish()
    mesh.advance(3.0)
    if over:
        mesh.restart(0)
        mesh.advance(10.0)
    ours = own(mesh[guardian], task)
    assert ours is not None
    assert (ours.state, ours.takeover, ours.over) == (State.SUCCEEDED, 1, over)
    token = Token(0, mesh.ids[0], 1, 9)
    theirs = replace(ours, state=State.FAILED, takeover=0, owner=mesh.ids[0], token=token, exit=Exit(3))
    mesh.sent.clear()
    mesh.give(guardian, Received(m.Known(0, (m.Kept(theirs),)), mesh.ids[third]))
    mesh.run()
    told = [send.message for _, send in mesh.sent if send.to == mesh.ids[third]]
    ends = [item.progress for message in told if isinstance(message, m.Guard) for item in message.items]
    assert [(end.state, end.claim, end.token) for end in ends] == [(ours.state, ours.claim, ours.token)]
