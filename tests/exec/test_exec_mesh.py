"""Owner, leader and worker together: a task's way, and what happens when one of the three goes."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from exec_mesh import Mesh, submission

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw import wire
from openclaw.config import Settings
from openclaw.ids import Epoch, Incarnation, TaskId
from openclaw.records import (
    REFUSED,
    Attempt,
    Ended,
    Exit,
    InputFile,
    Meta,
    Metrics,
    Needs,
    Policy,
    Restored,
    State,
    Table,
)

Q, P, R = State.QUEUED, State.PLACED, State.RUNNING


def no_token_started_twice(mesh: Mesh) -> None:
    assert len({(task, token) for task, token, _ in mesh.starts}) == len(mesh.starts)


def rows(mesh: Mesh, table: Table) -> int:
    return sum(key[0] is table for node in mesh.nodes.values() for key in node.disk)


# --- the way of a task ---------------------------------------------------------------------------


def test_a_task_is_placed_run_and_finished() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(1)
    assert mesh.state(task) is R
    mesh.finish()
    assert mesh.story(task) == [Q, P, R, State.SUCCEEDED]
    assert mesh[1].owner.active(task) is None
    assert mesh[1].owner.counts.succeeded == 1
    assert rows(mesh, Table.ATTEMPTS) == 0
    assert not any(node.process for node in mesh.nodes.values())


def test_ten_of_ten_go_to_whoever_has_the_fewest() -> None:
    mesh = Mesh(5, slots=2)
    tasks = mesh.submit(2, 10)
    assert {mesh.state(task) for task in tasks} == {R}
    assert Counter(node for _, _, node in mesh.starts) == dict.fromkeys(mesh.ids, 2)


def test_no_worker_runs_more_than_its_slots_and_the_queue_drains_in_order() -> None:
    mesh = Mesh(3, slots=2)
    tasks = mesh.submit(0, 50)
    while mesh.finish(runtime_s=5.0):
        assert all(node.worker.running <= 2 for node in mesh.nodes.values())
        mesh.advance(0.02)
    for node in mesh.ids:
        there = [tasks.index(task) for task, _, worker in mesh.starts if worker == node]
        assert there == sorted(there)
    assert {mesh.state(task) for task in tasks} == {State.SUCCEEDED}
    no_token_started_twice(mesh)


def test_short_tasks_run_ahead_of_free_slots_and_long_ones_do_not() -> None:
    mesh = Mesh(1, slots=1)
    mesh.submit(0, 100)
    mesh.finish(runtime_s=0.001)
    mesh.advance(0.02)
    assert mesh[0].worker.queued > 1
    slow = Mesh(1, slots=1)
    slow.submit(0, 100)
    slow.finish(runtime_s=30.0)
    slow.advance(0.02)
    assert slow[0].worker.queued == 0


@pytest.mark.parametrize("quick_s", [0.001, 0.04], ids=["in the executor", "in its queue"])
def test_what_waits_behind_a_long_task_is_taken_back_for_who_has_nothing_to_do(quick_s: float) -> None:
    mesh = Mesh(2, slots=1)
    mesh.submit(0, 60)
    mesh.finish(runtime_s=quick_s)  # such tasks are short, as far as anybody knows
    mesh.advance(0.01)
    (long,) = (key[0] for key, exit in mesh[1].process.items() if exit is None)
    assert mesh[1].worker.queued + len(mesh[1].queue) > 1
    for _ in range(200):
        for (task, token), exit in list(mesh[0].process.items()):
            if exit is None:
                mesh._exit(mesh[0], task, token, Exit(0, runtime_s=0.001))
        mesh.run()
        mesh.advance(0.01)
    assert mesh[1].owner.counts.succeeded + mesh[0].owner.counts.succeeded == 59
    assert mesh.state(long) is R
    assert mesh[1].worker.queued == len(mesh[1].queue) == 0
    taken = [
        key for key, row in mesh[0].disk.items() if key[0] is Table.PROGRESS and "nothing to do" in str(row)
    ]
    assert taken
    no_token_started_twice(mesh)


def test_only_the_newest_leader_takes_back_and_only_for_who_could_run_it() -> None:
    mesh = Mesh(2, slots=1)
    mesh.submit(0, 2, needs=Needs(node=mesh.ids[1]))
    mesh.finish(runtime_s=0.04)
    mesh.submit(0, 6, needs=Needs(node=mesh.ids[1]))
    mesh.advance(0.02)
    queued = mesh[1].worker.queued
    assert queued > 1
    epoch = mesh.epoch
    assert epoch is not None
    older = Epoch(epoch.term - 1, mesh.ids[0])
    for recall in (m.Recall(epoch, 2, mesh.ids[0]), m.Recall(older, 2, mesh.ids[1])):
        mesh.give(1, e.Received(recall, mesh.ids[0]))
    mesh.give(1, e.Received(m.Recall(epoch, 2, mesh.ids[1]), mesh.ids[1]))
    mesh.run()
    assert mesh[1].worker.queued == queued


def test_one_task_does_not_wait_until_all_that_may_run_ahead_is_done() -> None:
    mesh = Mesh(1, slots=1)
    mesh.submit(0, 5000, job="map")
    mesh.finish(runtime_s=0.001)
    mesh.advance(0.01)
    ahead = mesh[0].worker.queued + mesh[0].worker.running
    assert ahead > 10
    (single,) = mesh.submit(0, needs=Needs(labels=()), job="run")
    for _ in range(ahead + 2):
        mesh.finish(runtime_s=0.001)
        mesh.advance(0.01)
    assert mesh.state(single) in (R, State.SUCCEEDED)


def test_owners_and_jobs_take_turns() -> None:
    mesh = Mesh(2, slots=1)
    mesh.submit(0, 20, job="map")
    (single,) = mesh.submit(1)
    mesh.finish(runtime_s=5.0)
    mesh.advance(0.02)
    assert mesh.state(single) is R


def test_the_urgent_go_first() -> None:
    mesh = Mesh(1, slots=1)
    mesh.submit(0, 5)
    (urgent,) = mesh.submit(0, priority=5)
    mesh.finish(runtime_s=5.0)
    mesh.advance(0.02)
    assert mesh.state(urgent) is R


def test_work_goes_only_to_who_may_do_it() -> None:
    mesh = Mesh(3)
    labelled = Meta(name="n2", slots=2, labels=(("gpu", "yes"),))
    mesh.give_all(n.MetaLearned(mesh.ids[2], 2, labelled))
    mesh[2].inbox.append(e.MetaChanged(labelled))
    (task,) = mesh.submit(0, needs=Needs(labels=(("gpu", "yes"),)))
    assert mesh.started_on(task) == [mesh.ids[2]]
    (named,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    assert mesh.started_on(named) == [mesh.ids[1]]
    (nobody,) = mesh.submit(0, needs=Needs(skills=("fly",)))
    mesh.advance(30)
    assert mesh.state(nobody) is Q


def test_the_worker_has_the_last_word() -> None:
    """Its policy changed, and nobody else has heard of that yet."""
    mesh = Mesh(1)
    mesh[0].worker.handle(e.MetaChanged(Meta(slots=2, policy=Policy.NONE)), mesh.now)
    (task,) = mesh.submit(0)
    mesh.advance(10)
    assert mesh.starts == []
    assert mesh.state(task) in (Q, P, State.RETRYING)
    returns = sum(move.state is P for move in mesh.progress(task).story)
    assert 2 <= returns < 12  # it asks again, more and more rarely


# --- ends ----------------------------------------------------------------------------------------


def test_exit_codes_are_kept_and_failures_are_final_without_retries() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0)
    mesh.finish(code=3)
    assert mesh.state(task) is State.FAILED
    exit = mesh.progress(task).exit
    assert exit is not None
    assert exit.code == 3


def test_retries_count_failures_and_timeouts_and_wait_between() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, retries=2)
    mesh.finish(code=1)
    assert mesh.state(task) is State.RETRYING
    mesh.advance(5)
    mesh.finish(exit=Exit(124, ended_by="timeout"))
    mesh.advance(5)
    mesh.finish(code=1)
    assert mesh.state(task) is State.FAILED
    assert len(mesh.starts) == 3
    assert mesh.progress(task).failures == 2


def test_word_of_a_start_that_arrives_after_its_end_starts_nothing_anew() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, retries=2)
    token, worker = mesh.progress(task).token, mesh.progress(task).worker
    assert token is not None
    mesh.finish(code=1)
    assert mesh.state(task) is State.RETRYING
    mesh[0].inbox.append(e.Received(m.Started(((task, token, 0.0),)), worker))
    mesh.run()
    assert mesh.state(task) is State.RETRYING
    mesh.advance(5)
    mesh.finish()
    assert mesh.state(task) is State.SUCCEEDED
    assert len(mesh.starts) == 2


@pytest.mark.parametrize("ended_by", ["stop", "orphaned"])
def test_what_the_mesh_ended_runs_again_and_does_not_count(ended_by: str) -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0)
    mesh.finish(exit=Exit(137, ended_by=ended_by))
    assert mesh.state(task) is R
    assert mesh.progress(task).failures == 0
    assert len(mesh.starts) == 2
    (once,) = mesh.submit(0, once=True)
    mesh.finish(exit=Exit(137, ended_by=ended_by))
    assert mesh.state(once) is State.LOST


def test_a_command_that_does_not_exist_is_not_tried_again() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, retries=5)
    mesh.finish(exit=Exit(127, ended_by="spawn", error="no such command"))
    assert mesh.state(task) is State.FAILED
    assert mesh.progress(task).error == "no such command"


def test_outputs_are_fetched_before_the_worker_may_forget() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.finish(exit=Exit(0, outputs=(InputFile("a", "hash", 1),)))
    assert mesh.state(task) is State.SUCCEEDED
    assert not mesh.progress(task).fetched
    fetch = [note for note in mesh[0].notes if isinstance(note, e.Fetch)]
    assert [one.worker for one in fetch] == [mesh.ids[1]]
    assert rows(mesh, Table.ATTEMPTS) == 1
    mesh.give(0, e.Fetched(task, fetch[0].token, ok=False))
    mesh.advance(3)
    assert len([note for note in mesh[0].notes if isinstance(note, e.Fetch)]) == 2
    mesh.give(0, e.Fetched(task, fetch[0].token, ok=True))
    mesh.run()
    assert mesh.progress(task).fetched
    assert [note for note in mesh[0].notes if isinstance(note, n.TaskFetched)] == [n.TaskFetched(task)]
    assert rows(mesh, Table.ATTEMPTS) == 0
    assert mesh[0].owner.active(task) is None


def test_outputs_that_are_gone_are_not_asked_for_for_ever() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.finish(exit=Exit(0, outputs=(InputFile("a", "hash", 1),)))
    (fetch,) = [note for note in mesh[0].notes if isinstance(note, e.Fetch)]
    for _ in range(5):
        assert not mesh.progress(task).fetched
        mesh.give(0, e.Fetched(task, fetch.token, ok=False, gone=True))
        mesh.advance(60)
    assert mesh.progress(task).fetched
    assert mesh.state(task) is State.SUCCEEDED
    assert "output" in mesh.progress(task).error
    assert rows(mesh, Table.ATTEMPTS) == 0


# --- cancel --------------------------------------------------------------------------------------


def test_a_waiting_task_is_cancelled_at_once_a_running_one_when_it_has_ended() -> None:
    mesh = Mesh(2, slots=1)
    tasks = mesh.submit(0, 3)
    mesh.give(0, e.CancelAsked((tasks[2],)))
    mesh.run()
    assert mesh.state(tasks[2]) is State.CANCELLED
    mesh.give(1, e.CancelAsked((tasks[0],)))  # from another machine
    mesh.run()
    assert mesh.story(tasks[0])[-2:] == [State.CANCELLING, State.CANCELLED]
    assert mesh.state(tasks[1]) is R


def test_cancelling_is_repeated_until_the_worker_hears_it_and_survives_a_restart_of_the_owner() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.cut(0, 1)
    mesh.give(0, e.CancelAsked((task,)))
    mesh.advance(3)
    assert mesh.state(task) is State.CANCELLING
    mesh.crash(0)
    mesh.restart(0)
    mesh.mend()
    mesh.advance(3)
    assert mesh.state(task) is State.CANCELLED
    assert len(mesh.starts) == 1


def test_a_cancellation_never_beats_a_result() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.cut(0, 1)
    mesh.finish()
    mesh.give(0, e.CancelAsked((task,)))
    mesh.run()
    mesh.mend()
    mesh.advance(10)
    assert mesh.state(task) is State.SUCCEEDED


def test_what_was_cancelled_on_a_lost_worker_is_ended_when_it_is_back() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.cut(0, 1)
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.DOWN, Incarnation(1, "boot0")))
    mesh.give(0, e.CancelAsked((task,)))
    mesh.run()
    assert mesh.state(task) is State.CANCELLED
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(10)
    assert mesh[1].worker.running == 0
    assert rows(mesh, Table.ATTEMPTS) == 0


# --- a lost worker -------------------------------------------------------------------------------


def test_a_short_task_of_a_dead_worker_runs_elsewhere_at_once() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, needs=Needs(labels=()))
    worker = mesh.number(mesh.started_on(task)[0])
    if worker == 0:
        mesh.submit(0)
        (task,) = mesh.submit(0)
        worker = mesh.number(mesh.started_on(task)[0])
    mesh.crash(worker, executor=True)
    mesh.advance(0.1)
    assert len(mesh.started_on(task)) == 2
    assert mesh.progress(task).deaths == 1


def long_runner(settings: Settings | None = None, **fields: object) -> tuple[Mesh, TaskId]:
    """A task of node 0 that has run on node 1 for 300 s; node 2 could run it too."""
    mesh = Mesh(3, slots=1, settings=settings)
    mesh.submit(0, needs=Needs(node=mesh.ids[0]))
    mesh.submit(0, needs=Needs(node=mesh.ids[2]))
    (task,) = mesh.submit(0, **fields)
    assert mesh.started_on(task) == [mesh.ids[1]]
    mesh.advance(300)
    for node in (0, 2):
        for (other, token), _ in list(mesh[node].process.items()):
            mesh._exit(mesh[node], other, token, Exit(0))
    mesh.run()
    return mesh, task


def test_a_long_task_waits_a_tenth_of_its_running_time() -> None:
    mesh, task = long_runner()
    mesh.crash(1)
    mesh.advance(28)
    assert len(mesh.started_on(task)) == 1
    mesh.advance(3)
    assert len(mesh.started_on(task)) == 2


def test_a_worker_that_is_back_in_time_goes_on() -> None:
    mesh, task = long_runner()
    mesh.crash(1)
    mesh.advance(10)
    mesh.restart(1)
    mesh.advance(60)
    assert len(mesh.started_on(task)) == 1
    assert mesh.state(task) is R
    mesh.finish()
    assert mesh.state(task) is State.SUCCEEDED


def test_a_worker_that_said_back_soon_is_waited_for() -> None:
    mesh, task = long_runner()
    mesh[1].up = False
    mesh.tell_status(1, m.Status.LEFT, back_soon=True)
    mesh.advance(50)
    assert len(mesh.started_on(task)) == 1
    mesh.advance(15)
    assert len(mesh.started_on(task)) == 2


def test_a_cut_off_copy_is_ended_when_it_is_heard_of() -> None:
    mesh, task = long_runner()
    for other in (0, 2):
        mesh.cut(1, other)
    mesh.tell_status(1, m.Status.DOWN)
    mesh.advance(40)
    assert len(mesh.started_on(task)) == 2
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(10)
    assert mesh[1].worker.running == 0
    assert mesh.state(task) is R
    mesh.finish()
    assert mesh.state(task) is State.SUCCEEDED
    assert rows(mesh, Table.ATTEMPTS) == 0


def test_work_that_a_cut_off_copy_finished_is_taken_and_the_other_ended() -> None:
    mesh, task = long_runner()
    for other in (0, 2):
        mesh.cut(1, other)
    mesh.tell_status(1, m.Status.DOWN)
    mesh.advance(40)
    (first, second) = [token for started, token, _ in mesh.starts if started == task]
    mesh._exit(mesh[1], task, first, Exit(0))
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(40)
    assert mesh.state(task) is State.SUCCEEDED
    assert mesh.progress(task).token == first
    assert mesh.progress(task).worker == mesh.ids[1]
    assert mesh[2].worker.running == 0
    assert second > first
    assert not [note for note in mesh[0].notes if isinstance(note, n.Duplicate)]


def test_a_second_result_is_shown_as_a_duplicate() -> None:
    mesh, task = long_runner()
    for other in (0, 2):
        mesh.cut(1, other)
    mesh.tell_status(1, m.Status.DOWN)
    mesh.advance(40)
    mesh.finish()
    assert mesh.state(task) is State.SUCCEEDED
    kept = mesh.progress(task)
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(40)
    duplicates = [note for note in mesh[0].notes if isinstance(note, n.Duplicate)]
    assert [note.task for note in duplicates] == [task]
    assert mesh.progress(task) == kept
    assert rows(mesh, Table.ATTEMPTS) == 0


def test_what_runs_on_at_a_worker_that_is_back_counts_though_it_was_placed_there_anew() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    first = mesh.progress(task).token
    mesh.crash(1)
    mesh.advance(1.0)
    assert mesh.state(task) is State.QUEUED
    mesh.lost = {m.Have, m.Started, m.Returned}  # what it says of itself comes after the next assignment
    mesh.restart(1)
    mesh.advance(0.5)
    again = mesh.progress(task)
    assert (again.state, again.worker) == (State.PLACED, mesh.ids[1])
    assert again.token != first
    mesh.lost = set()
    mesh.sent.clear()
    assert first is not None
    have = m.Have(mesh[1].boot, ((task, first, m.Holding.RUNNING),))
    mesh.give(0, e.Received(have, mesh.ids[1]))
    mesh.run()
    assert (mesh.state(task), mesh.progress(task).token) == (State.RUNNING, first)
    ended = [item for _, send in mesh.sent if isinstance(send.message, m.End) for item in send.message.items]
    assert ended == [(task, again.token)]
    mesh.finish()
    mesh.advance(3.0)
    assert mesh.state(task) is State.SUCCEEDED
    assert len(mesh.started_on(task)) == 1


def test_a_copy_that_still_runs_is_adopted_while_nobody_else_has_started_it() -> None:
    mesh, task = long_runner(needs=Needs(node=Mesh().ids[1]))
    mesh.cut(0, 1)
    mesh.cut(2, 1)
    mesh.tell_status(1, m.Status.DOWN)
    mesh.advance(40)
    assert mesh.state(task) is Q
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(1)
    assert mesh.state(task) is R
    assert len(mesh.started_on(task)) == 1
    assert mesh[0].owner.queued == 0


def test_late_word_of_a_worker_that_is_down_takes_nothing_back_before_it_is_back() -> None:
    """Taken back at once, the task would be on a worker that nobody asks, and wait for ever if it stays away."""
    mesh, task = long_runner(needs=Needs(node=Mesh().ids[1]))
    mesh.cut(0, 1)
    mesh.cut(2, 1)
    mesh.tell_status(1, m.Status.DOWN)
    mesh.advance(40)
    token = mesh.progress(task).token
    assert token is not None
    mesh[0].inbox.append(e.Received(m.Started(((task, token, 1.0),)), mesh.ids[1]))
    mesh.advance(1)
    assert mesh.state(task) is Q
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(1)
    assert mesh.state(task) is R
    assert len(mesh.started_on(task)) == 1


def test_a_worker_that_is_first_heard_of_as_a_suspect_is_asked_as_any_other() -> None:
    """As when its owner restarts: else nobody would ever ask for what it was given."""
    mesh, task = long_runner(needs=Needs(node=Mesh().ids[1]))
    worker = mesh.ids[1]
    mesh.crash(0)
    mesh.restart(0)
    owner = mesh[0]
    heard = [one for one in owner.inbox if not isinstance(one, n.MemberChanged) or one.node != worker]
    owner.inbox.clear()
    owner.inbox.extend(heard)
    for status in (m.Status.SUSPECT, m.Status.ALIVE):
        owner.inbox.append(n.MemberChanged(worker, status, Incarnation(1, "boot0")))
    mesh.advance(60)
    assert mesh.state(task) is R
    assert owner.owner.next_deadline() is not None


def test_three_deaths_make_a_task_poison() -> None:
    mesh = Mesh(5, lead=0)
    (task,) = mesh.submit(0, needs=Needs(labels=(("spare", "yes"),)))
    for number in range(1, 5):
        meta = Meta(slots=2, labels=(("spare", "yes"),))
        mesh.give_all(n.MetaLearned(mesh.ids[number], 2, meta))
        mesh[number].inbox.append(e.MetaChanged(meta))
    mesh.advance(3)
    for _ in range(3):
        mesh.crash(mesh.number(mesh.started_on(task)[-1]), executor=True)
        mesh.advance(1)
    assert mesh.state(task) is State.FAILED
    assert "poison" in mesh.progress(task).error
    assert len(mesh.starts) == 3


def test_a_worker_that_lost_its_executor_says_so_and_the_task_runs_again() -> None:
    mesh, task = long_runner()
    mesh.crash(1, executor=True, noticed=False)
    mesh.restart(1)
    mesh.advance(3)
    assert len(mesh.started_on(task)) == 2
    assert mesh.progress(task).deaths == 1
    mesh.finish()
    assert rows(mesh, Table.ATTEMPTS) == 0


def test_an_assignment_that_got_lost_is_asked_about_and_placed_again() -> None:
    mesh = Mesh()
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0)
    assert mesh.state(task) is P
    mesh.lost = set()
    mesh.advance(3)
    assert mesh.state(task) is R
    assert len(mesh.starts) == 1


def test_lost_news_of_a_start_and_of_an_end_are_made_good() -> None:
    mesh = Mesh()
    mesh.lost = {m.Started, m.Outcomes, m.OutcomesStored}
    (task,) = mesh.submit(0)
    mesh.advance(2)
    assert mesh.state(task) is R  # it asked
    mesh.finish()
    mesh.advance(5)
    assert mesh.state(task) is R
    mesh.lost = {m.OutcomesStored}
    mesh.advance(70)
    assert mesh.state(task) is State.SUCCEEDED
    assert rows(mesh, Table.ATTEMPTS) == 1
    mesh.lost = set()
    mesh.advance(70)
    assert rows(mesh, Table.ATTEMPTS) == 0
    no_token_started_twice(mesh)


# --- once ----------------------------------------------------------------------------------------


def test_once_is_lost_when_nobody_can_know() -> None:
    mesh, task = long_runner(once=True)
    mesh.crash(1)
    mesh.advance(55)
    assert mesh.state(task) is R
    mesh.advance(10)
    assert mesh.state(task) is State.LOST
    assert len(mesh.started_on(task)) == 1


def test_once_beats_retries() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(0, once=True, retries=3)
    mesh.finish(code=1)
    mesh.advance(10)
    assert mesh.state(task) is State.FAILED
    assert len(mesh.starts) == 1


def test_once_is_placed_again_only_when_the_worker_swears_that_it_did_not_start() -> None:
    mesh = Mesh()
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0, once=True)
    assert mesh.progress(task).intent
    mesh.lost = set()
    mesh.advance(3)
    assert mesh.state(task) is R
    assert len(mesh.started_on(task)) == 1


# --- a lost owner, and restarts ------------------------------------------------------------------


def test_an_owner_that_restarts_adopts_what_runs_and_dispatches_the_rest() -> None:
    mesh = Mesh(3, slots=1)
    tasks = mesh.submit(0, 6)
    running = [task for task in tasks if mesh.state(task) is R]
    mesh.crash(0)
    mesh.restart(0)
    mesh.advance(2)
    assert {mesh.state(task) for task in running} == {R}
    while mesh.finish():
        mesh.advance(1)
    assert {mesh.state(task) for task in tasks} == {State.SUCCEEDED}
    assert len(mesh.starts) == 6
    assert mesh[0].owner.counts.succeeded == 6


def test_what_ended_while_the_owner_was_down_is_delivered_when_it_is_back() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.crash(0)
    mesh.finish()
    mesh.advance(30)
    mesh.restart(0)
    mesh.advance(1)
    assert mesh.state(task) is State.SUCCEEDED
    assert rows(mesh, Table.ATTEMPTS) == 0


def test_a_worker_named_on_disk_that_nobody_knows_any_more_is_not_waited_for() -> None:
    mesh = Mesh(3, lead=0)
    (task,) = mesh.submit(0, needs=Needs(labels=()))
    (second,) = mesh.submit(0)
    lost = mesh.number(mesh.started_on(second)[0])
    tasks = [t for t in (task, second) if mesh.started_on(t) == [mesh.ids[lost]]]
    if lost == 0:
        (second,) = mesh.submit(0)
        lost = mesh.number(mesh.started_on(second)[0])
        tasks = [second]
    mesh.crash(0)
    mesh.crash(lost)
    mesh.restart(0)
    mesh.advance(20)
    assert [len(mesh.started_on(t)) for t in tasks] == [2] * len(tasks)


def test_nothing_is_dispatched_before_the_owner_is_settled() -> None:
    mesh = Mesh(1)
    fresh = mesh._node(mesh.ids[0], "boot9", Restored())
    fresh.inbox.extend(
        [
            e.Started(mesh.meta(mesh.ids[0]), 0.0),
            e.RosterChanged(mesh.members, b""),
            n.LeaderChanged(mesh.epoch),
            e.Submitted((submission(mesh.ids[0], 1),)),
        ]
    )
    mesh.nodes[mesh.ids[0]] = fresh
    mesh.advance(5)
    sent = [send.message for _, send in mesh.sent if isinstance(send.message, m.Demand)]
    assert sent == []
    fresh.inbox.extend([n.IncarnationRaised(Incarnation(7, "boot9")), e.ExecutorUp(()), n.Settled()])
    mesh.advance(0.1)
    assert [token.incarnation for _, token, _ in mesh.starts] == [7]


def test_a_restarted_worker_refuses_what_was_meant_for_its_former_self() -> None:
    mesh = Mesh(2)
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    assign = next(s for _, s in reversed(mesh.sent) if isinstance(s.message, m.Assign))
    mesh.lost = set()
    mesh.crash(1, noticed=False)
    mesh.restart(1)
    mesh.run()
    before = len(mesh.starts)
    mesh.give(1, e.Received(assign.message, mesh.ids[0]))
    mesh.run()
    started = [token for t, token, _ in mesh.starts[before:] if t == task]
    assert assign.message.items[0].token not in started


# --- a lost leader -------------------------------------------------------------------------------


def test_a_new_leader_is_asked_at_once_and_places_the_rest() -> None:
    mesh = Mesh(3, slots=1)
    tasks = mesh.submit(1, 6)
    mesh.crash(0, executor=True)
    mesh.elect(2)
    mesh.advance(0.1)
    while mesh.finish():
        mesh.advance(1)
    assert {mesh.state(task) for task in tasks} == {State.SUCCEEDED}


def test_a_deposed_leader_places_nothing_once_its_grants_have_run_out() -> None:
    mesh = Mesh(3)
    mesh.lost = {m.Assign}
    (task,) = mesh.submit(1)
    assign = next(s for _, s in reversed(mesh.sent) if isinstance(s.message, m.Assign))
    mesh.elect(2)
    mesh.advance(mesh.settings.grant_ttl_s + 1)
    mesh.sent.clear()
    fresh = Mesh(3, seed=2)
    fresh.elect(2)
    fresh.advance(fresh.settings.grant_ttl_s + 1)
    fresh.give(fresh.number(assign.to), e.Received(assign.message, fresh.ids[1]))
    fresh.run()
    assert fresh.starts == []
    refused = [s.message for _, s in fresh.sent if isinstance(s.message, m.Returned)]
    assert [item.task for message in refused for item in message.items] == [task]


def test_without_a_leader_two_are_probed_and_the_work_goes_on() -> None:
    mesh = Mesh(4, slots=2, lead=-1)
    mesh.give_all(n.LeaderChanged(None))
    tasks = mesh.submit(0, 8)
    mesh.advance(0.5)
    assert mesh.starts == []
    mesh.advance(1.0)
    assert {mesh.state(task) for task in tasks} == {R}
    probes = [send.to for _, send in mesh.sent if isinstance(send.message, m.Probe)]
    assert len(probes) < 100
    assert all(node.worker.running <= 2 for node in mesh.nodes.values())


def test_a_turn_hands_over_what_is_wanted_and_what_was_granted() -> None:
    mesh = Mesh(3, slots=1)
    mesh.submit(1, 10)
    mesh.give(0, n.OfferTurn(mesh.ids[2], 2, 2.0))
    mesh.run()
    offer = next(s.message for _, s in reversed(mesh.sent) if isinstance(s.message, m.Offer))
    assert [(one.owner, sum(row.count for row in one.rows)) for one in offer.demands] == [(mesh.ids[1], 7)]
    assert mesh.epoch is not None
    epoch = mesh.epoch._replace(term=2, node=mesh.ids[2])
    mesh.epoch = epoch
    mesh.give(2, n.TurnTaken(epoch, offer.demands, offer.outstanding))
    mesh.give_all(n.LeaderChanged(epoch))
    mesh.run()
    mesh.finish()
    mesh.advance(1)
    assert len(mesh.starts) == 6


# --- stopping ------------------------------------------------------------------------------------


def test_a_stop_hands_back_what_waits_and_ends_what_runs() -> None:
    mesh = Mesh(2, slots=1)
    tasks = mesh.submit(0, 2, needs=Needs(node=mesh.ids[1]))
    mesh.give(1, e.StopAsked(keep=False, grace_s=1.0))
    mesh.run()
    assert [note for note in mesh[1].notes if isinstance(note, e.Stopped)] == [e.Stopped(keep=False)]
    assert [mesh.state(task) for task in tasks] == [Q, Q]
    assert mesh[1].worker.running == 0


def test_a_stop_that_keeps_leaves_the_commands_running() -> None:
    mesh, task = long_runner()
    mesh.give(1, e.StopAsked(keep=True, grace_s=1.0))
    mesh.run()
    assert e.Stopped(keep=True) in mesh[1].notes
    assert list(mesh[1].process.values()) == [None]
    assert mesh.state(task) is R


def test_a_draining_worker_takes_nothing_more() -> None:
    mesh = Mesh(2)
    mesh.give(1, e.DrainAsked(True))
    mesh.run()
    tasks = mesh.submit(0, 4)
    mesh.advance(1)
    assert {node for _, _, node in mesh.starts} == {mesh.ids[0]}
    mesh.give(1, e.DrainAsked(False))
    mesh.advance(1)
    assert {mesh.state(task) for task in tasks} == {R}


def test_a_worker_whose_disk_is_nearly_full_takes_nothing_and_gives_back_what_waits() -> None:
    mesh = Mesh(2)
    there = Needs(node=mesh.ids[1])
    for _ in range(3):
        mesh.submit(0, 2, needs=there)
        mesh.finish(runtime_s=0.04)  # short, so more are granted than run at once
    tasks = mesh.submit(0, 8, needs=there)
    mesh.advance(0.02)
    running = len(mesh.starts)
    assert mesh[1].worker.queued > 0
    mesh.give(1, e.Measured(Metrics(), disk_low=True))
    mesh.run()
    assert mesh[1].worker.queued == 0
    mesh.finish()
    mesh.advance(3)
    assert len(mesh.starts) == running
    mesh.give(1, e.Measured(Metrics(), disk_low=False))
    for _ in range(20):
        mesh.advance(5)
        mesh.finish()
    assert {mesh.state(task) for task in tasks} == {State.SUCCEEDED}


def test_what_a_worker_finds_no_room_for_goes_elsewhere_and_is_no_failure() -> None:
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    mesh.finish(exit=Exit(125, ended_by=REFUSED, error="its disk has only 3 MiB left"))
    mesh.advance(1)
    assert mesh.state(task) in (R, Q, State.PLACED)
    assert any("3 MiB" in move.reason for move in mesh.progress(task).story)
    mesh.advance(5)
    mesh.finish()
    mesh.advance(1)
    assert mesh.state(task) is State.SUCCEEDED
    assert not [row for row in mesh[1].disk.values() if isinstance(row, Attempt)]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_forgotten_never_comes_back(restarted: bool) -> None:
    """Not by the outcome of a copy that was cut off and knows nothing of it, and not by a restart of its owner."""
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]), replicas=0)
    mesh.cut(0, 1)
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.DOWN, Incarnation(1, "boot0")))
    mesh.give(0, e.CancelAsked((task,)))
    mesh.finish()
    assert mesh.state(task) is State.CANCELLED
    assert rows(mesh, Table.ATTEMPTS) == 1, "its outcome waits at its worker"
    mesh.give(0, e.ForgetAsked((Ended(task, State.CANCELLED, 0.0, 0),)))
    mesh.run()
    assert n.Forgotten((task,)) in mesh[0].notes
    assert rows(mesh, Table.TASKS) == rows(mesh, Table.PROGRESS) == 0
    if restarted:
        mesh.crash(0)
        mesh.restart(0)
    starts = len(mesh.starts)
    mesh.mend()
    mesh[0].inbox.append(n.MemberChanged(mesh.ids[1], m.Status.ALIVE, Incarnation(2, "boot0")))
    mesh.advance(30)
    assert len(mesh.starts) == starts
    assert rows(mesh, Table.TASKS) == rows(mesh, Table.PROGRESS) == rows(mesh, Table.ATTEMPTS) == 0
    assert mesh[0].owner.counts.cancelled == 0


def test_what_a_revoked_node_submitted_ends() -> None:
    mesh = Mesh(2)
    mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    member = mesh.members[mesh.ids[0]]
    revoked = dict(mesh.members) | {mesh.ids[0]: type(member)(member.node, "", member.capabilities, True)}
    mesh.give(1, e.RosterChanged(revoked, b"2"))
    mesh.advance(1)
    assert mesh[1].worker.running == 0
    assert not [row for row in mesh[1].disk.values() if isinstance(row, Attempt)]


# --- everything at once --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_storms_lose_and_double_nothing(seed: int) -> None:
    """Crashes, restarts, cuts and lost messages at random; then quiet, in which everything must end."""
    chance = Random(seed)
    mesh = Mesh(4, slots=2, seed=seed)
    tasks: list[TaskId] = []
    once: list[TaskId] = []
    for _ in range(60):
        match chance.randrange(11):
            case 9:
                mesh.fuses[mesh.ids[chance.randrange(4)]] = chance.randrange(0, 30)
            case 10:  # a false death, taken back a while later
                number = chance.randrange(4)
                if mesh[number].up:
                    mesh.tell_status(number, m.Status.DOWN)
                    mesh.advance(chance.choice([0.1, 5.0, 70.0]))
                    if mesh[number].up:
                        mesh.tell_status(number, m.Status.ALIVE)
            case 0 | 1 if mesh[0].up:
                tasks += mesh.submit(0, chance.randrange(1, 6), retries=2)
            case 2 if mesh[1].up:
                once += mesh.submit(1, 1, once=True)
            case 3:
                number = chance.randrange(4)
                if mesh[number].up:
                    mesh.crash(number, executor=chance.random() < 0.5)
            case 4:
                for number in range(4):
                    if not mesh[number].up:
                        mesh.restart(number)
            case 5:
                mesh.lost = {
                    chance.choice([m.Assign, m.Started, m.Outcomes, m.OutcomesStored, m.Have, m.Grant])
                }
            case 6:
                mesh.lost = set()
            case 7:
                up = [n for n in range(4) if mesh[n].up]
                if up:
                    mesh.elect(chance.choice(up))
            case _:
                mesh.finish(code=chance.choice([0, 0, 0, 1]))
        mesh.advance(chance.choice([0.01, 0.3, 2.0, 20.0]))
    mesh.lost = set()
    mesh.fuses.clear()
    for number in range(4):
        if not mesh[number].up:
            mesh.restart(number)
    mesh.elect(3)
    for _ in range(40):
        mesh.advance(10)
        mesh.finish()
    mesh.advance(120)
    accepted = {task for node in mesh.nodes.values() for table, task in node.disk if table is Table.TASKS}
    assert accepted <= {*tasks, *once}  # a crash before the commit takes what nobody was promised
    assert {mesh.state(TaskId(task)).final for task in accepted} <= {True}
    no_token_started_twice(mesh)
    assert max(Counter(task for task, _, _ in mesh.starts if task in once).values(), default=0) <= 1
    assert rows(mesh, Table.ATTEMPTS) == 0
    counts = [node.owner.counts for node in mesh.nodes.values()]
    assert sum(c.succeeded + c.failed + c.lost for c in counts) == len(accepted)
    assert sum(c.queued + c.placed + c.running for c in counts) == 0


@pytest.fixture(scope="module")
def crowd() -> Mesh:
    """100,000 tasks of one owner and two jobs wait; six of them run."""
    mesh = Mesh(3, slots=2)
    for job in ("one", "other"):
        mesh.submit(1, 50_000, job=job)
    return mesh


def test_the_next_leader_knows_of_all_that_waits_in_one_round(crowd: Mesh) -> None:
    assert crowd[0].leader.pending == 100_000 - 6
    crowd.elect(None)
    crowd.run()
    assert crowd[0].leader.pending == 0
    crowd.elect(2)
    crowd.run()  # at this very instant: nothing had to wait for a timer
    assert crowd[2].leader.pending == 100_000 - 6
    assert len(crowd.starts) == 6
    crowd.finish(runtime_s=5.0)
    crowd.advance(0.02)
    assert len(crowd.starts) == 12
    no_token_started_twice(crowd)


def test_a_hand_over_of_all_that_waits_is_one_message_and_grants_nothing_twice(crowd: Mesh) -> None:
    began = len(crowd.starts)
    leading = next(node for node in crowd.nodes.values() if node.leader.pending)
    successor = crowd.number(next(node for node in crowd.ids if node != leading.me))
    assert crowd.epoch is not None
    offering = n.OfferTurn(crowd.ids[successor], crowd.epoch.term + 1, 2.0)
    (offer,) = (x.message for x in leading.leader.handle(offering, crowd.now) if isinstance(x, e.Send))
    assert isinstance(offer, m.Offer)
    assert len(wire.encode(offer)) < 1024
    assert sum(row.count for of in offer.demands for row in of.rows) == 100_000 - began
    epoch = Epoch(crowd.epoch.term + 1, crowd.ids[successor])
    crowd[successor].inbox.append(n.TurnTaken(epoch, offer.demands, offer.outstanding))
    crowd.elect(successor)
    crowd.run()
    assert crowd[successor].leader.pending == 100_000 - began
    assert len(crowd.starts) == began
    crowd.finish(runtime_s=5.0)
    crowd.advance(crowd.settings.gather_s + 0.1)  # what was on its way has been heard of, or is free
    assert len(crowd.starts) == began + 6
    no_token_started_twice(crowd)
