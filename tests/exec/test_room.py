"""Slots, memory and GPUs: what a worker lets in, what the leader counts, and that both agree."""

from __future__ import annotations

from random import Random

import msgspec
from exec_mesh import EVERYTHING, Mesh, node_id, submission
from hypothesis import given
from hypothesis import strategies as st

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.jobs import Job, Phase
from openclaw.exec.room import Line, Room
from openclaw.exec.schedule import Scheduler, Want
from openclaw.exec.seat import Seat
from openclaw.exec.worker import Worker
from openclaw.ids import Epoch, TaskId, Token
from openclaw.records import ONE_SLOT, Attempt, Exit, Held, Member, Meta, Needs, Restored, Size, State, Table
from openclaw.trust.batches import needs_bytes

ME = node_id(0)
GPUS = 3


def job(number: int, size: Size = ONE_SLOT) -> Job:
    return Job(TaskId(f"{ME}-{number}"), Token(0, ME, 1, 1), ME, Phase.WAITING, size=size)


@given(
    st.lists(
        st.one_of(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(0, GPUS)), st.integers(0, 9)),
        max_size=40,
    )
)
def test_nothing_is_let_in_beyond_what_there_is_and_a_gpu_has_one_task(
    steps: list[tuple[int, int, int] | int],
) -> None:
    whole, room, inside = Size(4, 8, GPUS), Room(), list[Job]()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            if inside:
                room.leave(inside.pop(step % len(inside)))
        elif room.fits(Size(*step), whole):
            inside.append(job(number, Size(*step)))
            room.enter(inside[-1], whole)
        assert room.taken.size == Size(
            sum(j.size.slots for j in inside),
            sum(j.size.memory_bytes for j in inside),
            sum(j.size.gpus for j in inside),
        )
        given_away = [gpu for j in inside for gpu in j.gpus]
        assert len(given_away) == len(set(given_away)) == room.taken.gpus
        assert room.taken.slots <= 4
        assert room.taken.memory_bytes <= 8


def test_a_line_keeps_its_order_and_its_sum() -> None:
    line = Line()
    for number in range(3):
        line.add(job(number, Size(number + 1, 1)))
    line.add(job(1, Size(5)))  # a newer attempt stays where the older one was
    line.add(job(9), front=True)
    assert [j.task[-1] for j in line] == ["9", "0", "1", "2"]
    assert line.taken.size == Size(1 + 1 + 5 + 3, 2, 0)
    while (first := line.first()) is not None:
        line.remove(first)
    assert line.taken.size == Size(0)


def worker(restored: Restored | None = None, **meta: int) -> Worker:
    made = Worker(ME, "b", Settings(), Random(1), restored or Restored())
    made.handle(e.Started(Meta(**meta), 0.0), 0.0)  # type: ignore[arg-type]
    made.handle(e.RosterChanged({ME: Member(ME, "n0", EVERYTHING)}, b""), 0.0)
    return made


def assigned(*needs: Needs) -> e.Received:
    items = tuple(
        m.Item(submission(ME, i).task, Token(0, ME, 1, 1), each, b"x", 0, 0) for i, each in enumerate(needs)
    )
    return e.Received(m.Assign(Epoch(1, ME), 1, "b", (), items), ME)


def flushed(made: Worker, *events: e.Event) -> list[e.Effect]:
    return [x for event in (*events, e.Tick()) for x in made.handle(event, 1.0)]


def test_who_is_first_and_does_not_fit_holds_back_the_others() -> None:
    made = worker(slots=4, memory_bytes=8)
    first = flushed(made, e.ExecutorUp(()), assigned(Needs(memory_bytes=5), Needs(memory_bytes=4), Needs()))
    (run,) = (x for x in first if isinstance(x, e.Run))
    assert made.queued == 2
    then = flushed(made, e.ProcessExited(run.task, run.token, Exit(0)))
    assert [x.task for x in then if isinstance(x, e.Run)] == [submission(ME, i).task for i in (1, 2)]


def test_gpus_are_given_to_one_task_each_also_after_a_restart() -> None:
    made = worker(slots=8, gpus=2)
    effects = flushed(made, e.ExecutorUp(()), assigned(*[Needs(gpus=1)] * 3, Needs()))
    runs = [x for x in effects if isinstance(x, e.Run)]
    assert [run.gpus for run in runs] == [(0,), (1,)]
    rows = [x.value for x in effects if isinstance(x, e.Store) and x.table is Table.ATTEMPTS]
    kept = tuple(row for row in rows if isinstance(row, Attempt))
    again = worker(Restored(attempts=kept), slots=8, gpus=2)
    held = tuple(Held(row.task, row.token) for row in kept)
    flushed(again, e.ExecutorUp(held))
    third = msgspec.structs.replace(assigned(Needs(gpus=1)).message, boot="b")
    assert isinstance(third, m.Assign)
    (item,) = third.items
    item = msgspec.structs.replace(item, task=submission(ME, 7).task)
    assert not [
        x
        for x in flushed(again, e.Received(msgspec.structs.replace(third, items=(item,)), ME))
        if isinstance(x, e.Run)
    ]
    effects = flushed(again, e.ProcessExited(held[1].task, held[1].token, Exit(0)))
    assert [x.gpus for x in effects if isinstance(x, e.Run)] == [(1,)]


def test_what_is_large_goes_where_it_fits_and_to_the_fewest_of_those() -> None:
    wholes = [Size(4, 8), Size(4, 16), Size(4, 16), Size(8, 2)]
    seats = [Seat(node_id(i), "b", whole.slots, whole, load=i % 3) for i, whole in enumerate(wholes)]
    large = Want(ME, 1, Needs(cpus=2, memory_bytes=8), 0, "", 9)
    assert Scheduler(Random(1), 100, 30.0).place([large], lambda _: seats, 0.0) == 3
    assert [large.places.get(seat, 0) for seat in seats] == [1, 1, 1, 0]
    assert [(seat.load, seat.memory_bytes) for seat in seats] == [(2, 8), (3, 8), (4, 8), (0, 0)]


def test_a_seat_counts_sizes_until_a_grant_is_used_up() -> None:
    seat = Seat(ME, "b", 8, Size(8, 100, 2))
    large = Size(2, 30, 1)
    seat.take(large, 2)
    seat.grant(1, large, 2)
    seat.report(Size(1, 10, 0))
    assert (seat.load, seat.memory_bytes, seat.gpus) == (5, 70, 2)
    seat.release(1, 1)
    assert (seat.load, seat.memory_bytes, seat.gpus) == (3, 40, 1)
    seat.release(1, 5)
    seat.release(1)
    assert (seat.load, seat.memory_bytes, seat.gpus) == (1, 10, 0)


def test_a_mesh_fills_its_memory_and_no_more() -> None:
    mesh = Mesh(3, slots=4)
    for number, memory in enumerate((4, 8, 0)):
        meta = Meta(name=f"n{number}", slots=4, memory_bytes=memory)
        mesh[number].inbox.append(e.MetaChanged(meta))
        mesh.give_all(n.MetaLearned(mesh.ids[number], 2, meta))
    tasks = mesh.submit(2, 5, needs=Needs(memory_bytes=3))
    assert sorted(node for _, _, node in mesh.starts) == [mesh.ids[0], mesh.ids[1], mesh.ids[1]]
    mesh.elect(1)
    mesh.run()
    small = mesh.submit(0, 1)
    assert mesh.started_on(small[0]) == [mesh.ids[2]]
    assert len(mesh.starts) == 4  # the next leader knows what is taken
    while mesh.finish(runtime_s=2.0):
        mesh.advance(0.02)
    assert {mesh.state(task) for task in tasks} == {State.SUCCEEDED}


def test_needs_of_yesterday_are_signed_as_they_were() -> None:
    """A task that was signed before there was room to ask for is still what its owner signed."""
    needs = Needs(labels=(("a", "b"),))
    assert needs_bytes(needs) == msgspec.msgpack.encode(["command", "", [["a", "b"]], []])
    assert needs_bytes(Needs(gpus=1)) != needs_bytes(Needs(cpus=1)) != needs_bytes(Needs())
    assert msgspec.msgpack.decode(needs_bytes(Needs(memory_bytes=5)), type=Needs) == Needs(memory_bytes=5)
