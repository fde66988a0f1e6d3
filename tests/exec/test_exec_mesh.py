"""Owner, leader and worker together: a task's way, and what happens when one of the three goes."""

from __future__ import annotations

from collections import Counter

from mesh import Mesh

from openclaw.records import State


def test_a_task_is_placed_run_and_finished() -> None:
    mesh = Mesh()
    (task,) = mesh.submit(1)
    assert mesh.state(task) is State.RUNNING
    mesh.finish()
    assert mesh.story(task) == [State.QUEUED, State.PLACED, State.RUNNING, State.SUCCEEDED]
    assert mesh[1].owner.active(task) is None
    assert mesh[1].owner.counts.succeeded == 1


def test_ten_of_ten_go_to_whoever_has_the_fewest() -> None:
    mesh = Mesh(5, slots=2)
    tasks = mesh.submit(2, 10)
    assert {mesh.state(task) for task in tasks} == {State.RUNNING}
    assert Counter(node for _, _, node in mesh.starts) == dict.fromkeys(mesh.ids, 2)
