"""The parts of the exec room, each by its promises: the table of moves, eligibility, rows, fences, least tasks."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from exec_mesh import EVERYTHING, Mesh, node_id, submission
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw import wire
from openclaw.config import MESSAGE_BYTES_MAX, Settings
from openclaw.errors import IllegalMove
from openclaw.exec.deliveries import Deliveries
from openclaw.exec.demand import Demands
from openclaw.exec.eligible import refusals, submitter_refusal
from openclaw.exec.fences import Fences
from openclaw.exec.leader import Leader
from openclaw.exec.outbox import Outbox
from openclaw.exec.schedule import Scheduler, Want
from openclaw.exec.seat import Seat
from openclaw.exec.task import LEGAL, advance, begin, tell
from openclaw.exec.worker import Worker
from openclaw.ids import Epoch, NodeId, TaskId, Token
from openclaw.messages import Holding
from openclaw.records import (
    FINAL,
    Attempt,
    Batch,
    Exit,
    Held,
    InputFile,
    Kind,
    Member,
    Meta,
    Needs,
    Policy,
    Restored,
    Size,
    SkillRow,
    State,
    Table,
)

ME = node_id(0)
TASK = TaskId(f"{ME}-boota")


def token(attempt: int = 1, incarnation: int = 1) -> Token:
    return Token(0, ME, incarnation, attempt)


# --- the table of moves --------------------------------------------------------------------------


class TaskTable(RuleBasedStateMachine):
    """Any sequence of moves: the legal ones happen, the others raise and change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.progress = begin(TASK, 0.0, ME)
        self.moves = 1
        self.final: State | None = None

    @rule(to=st.sampled_from(State))
    def move(self, to: State) -> None:
        if to not in LEGAL[self.progress.state]:
            with pytest.raises(IllegalMove, match=re.escape(tell(self.progress))):
                advance(self.progress, to, 1.0, ME)
            return
        self.progress = advance(self.progress, to, 1.0, ME, "because", moves_max=16)
        self.moves += 1
        if to.final:
            self.final = to

    @invariant()
    def finals_stick(self) -> None:
        assert self.final is None or self.progress.state is self.final

    @invariant()
    def the_story_is_numbered_bounded_and_ends_here(self) -> None:
        story = self.progress.story
        assert len(story) <= 16
        assert [move.n for move in story] == sorted({move.n for move in story})
        assert story[-1].n == self.moves - 1
        assert story[0].n == 0
        assert story[-1].state is self.progress.state


TestTaskTable = TaskTable.TestCase
TestTaskTable.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)


def test_the_table_knows_every_state_and_leaves_no_final() -> None:
    assert set(LEGAL) == set(State)
    assert not any(LEGAL[final] for final in FINAL)
    for state in set(State) - FINAL:
        assert LEGAL[state] >= FINAL


# --- eligible ------------------------------------------------------------------------------------

MEMBER = Member(ME, "n0", EVERYTHING)


@pytest.mark.parametrize(
    ("needs", "meta", "member", "alive", "reason"),
    [
        (Needs(), Meta(), None, True, "roster"),
        (Needs(), Meta(), Member(ME, "", EVERYTHING, revoked=True), True, "revoked"),
        (Needs(), Meta(), MEMBER, False, "not alive"),
        (Needs(), None, MEMBER, True, "has not said"),
        (Needs(), Meta(draining=True), MEMBER, True, "draining"),
        (Needs(), Meta(slots=0), MEMBER, True, "no slots"),
        (Needs(), Meta(policy=Policy.SKILLS), MEMBER, True, "policy"),
        (Needs(kind=Kind.SKILL), Meta(policy=Policy.NONE), MEMBER, True, "policy"),
        (Needs(node=node_id(1)), Meta(), MEMBER, True, "asked for"),
        (Needs(labels=(("a", "b"),)), Meta(labels=(("a", "c"),)), MEMBER, True, "a=b"),
        (Needs(skills=("fly",)), Meta(), MEMBER, True, "does not have the skill fly"),
        (Needs(cpus=3), Meta(slots=2), MEMBER, True, "has 2 of the 3 slots"),
        (Needs(memory_bytes=3 << 30), Meta(memory_bytes=1 << 30), MEMBER, True, "has 1 GiB of the 3 GiB"),
        (Needs(gpus=1), Meta(), MEMBER, True, "has none of the 1 GPUs"),
        (Needs(handler="fly"), Meta(handlers=("flow",)), MEMBER, True, "does not know the handler fly"),
        (
            Needs(skills=("fly@a1",)),
            Meta(skills=(SkillRow("fly", tree="b2"),)),
            MEMBER,
            True,
            "hash b2, not a1",
        ),
        (Needs(skills=("fly@a1",)), Meta(skills=(SkillRow("fly"),)), MEMBER, True, "has another skill fly"),
        (
            Needs(skills=("fly:far",)),
            Meta(skills=(SkillRow("fly", entries=("near",), missing=("far: wings",)),)),
            MEMBER,
            True,
            "lacks for fly:far: wings",
        ),
        (
            Needs(skills=("fly",)),
            Meta(skills=(SkillRow("fly", eligible=False, missing=("wings",)),)),
            MEMBER,
            True,
            "wings",
        ),
    ],
)
def test_each_refusal_is_said_in_words(
    needs: Needs, meta: Meta | None, member: Member | None, alive: bool, reason: str
) -> None:
    (said,) = refusals(needs, meta, member, alive)
    assert reason in said


def test_who_meets_all_needs_is_eligible() -> None:
    needs = Needs(kind=Kind.SKILL, node=ME, labels=(("a", "b"),), skills=("fly", "fly@a1"))
    meta = Meta(labels=(("a", "b"),), skills=(SkillRow("fly", tree="a1b2"),), policy=Policy.SKILLS)
    assert refusals(needs, meta, MEMBER, True) == []


def test_the_submitter_needs_the_capability() -> None:
    watcher = Member(ME, "", frozenset({"skill"}))
    assert submitter_refusal(Kind.SKILL, watcher) == ""
    assert "shell" in submitter_refusal(Kind.COMMAND, watcher)
    assert submitter_refusal(Kind.SKILL, None)
    assert submitter_refusal(Kind.SKILL, Member(ME, "", EVERYTHING, revoked=True))


# --- the queue by class --------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.sampled_from(["push", "front", "take", "remove"]), st.integers(0, 3)), max_size=60)
)
def test_rows_agree_with_a_plain_list(moves: list[tuple[str, int]]) -> None:
    demands = Demands(2, 1 << 20)
    plain: dict[int, list[TaskId]] = {}
    rows = [demands.row_of(submission(ME, 1, priority=p)) for p in range(4)]
    for number, (what, priority) in enumerate(moves):
        row, tasks, task = rows[priority], plain.setdefault(rows[priority].number, []), TaskId(str(number))
        match what:
            case "push":
                demands.push(task, row, 0.0)
                tasks.append(task)
            case "front":
                demands.push(task, row, 0.0, front=True)
                tasks.insert(0, task)
            case "take":
                assert demands.take(row.number, 2, 0.0) == tasks[:2]
                del tasks[:2]
            case _ if tasks:
                demands.remove(tasks.pop(len(tasks) // 2), row)
        assert demands.queued == sum(map(len, plain.values()))
        told = demands.table(0.0)
        assert len(told) <= 2
        assert all(row.count == len(plain[row.row]) > 0 for row in told)
        assert [row.priority for row in told] == sorted((row.priority for row in told), reverse=True)


def test_a_hundred_thousand_equal_tasks_are_one_row() -> None:
    demands = Demands(8, 1 << 20)
    one = submission(ME, 1)
    for number in range(100_000):
        demands.push(TaskId(str(number)), demands.row_of(one), 0.0)
    assert [row.count for row in demands.table(0.0)] == [100_000]


def test_a_demand_of_any_classes_fits_into_one_message() -> None:
    """The most urgent rows are told, whatever labels people invent; the leader's hand-over is bounded as well."""
    settings = Settings()
    demands = Demands(settings.demand_rows_max, settings.demand_bytes_max)
    for number in range(1000):
        labels = tuple((f"label{n}" * 10, "värde" * 20) for n in range(20))
        one = submission(ME, number + 1, needs=Needs(labels=labels), job=f"job{number}", priority=number)
        demands.push(one.task, demands.row_of(one), 0.0)
    table = demands.table(0.0)
    assert [row.priority for row in table] == list(range(999, 999 - len(table), -1))
    assert len(wire.encode(m.Demand(Epoch(1, ME), 0, table))) < MESSAGE_BYTES_MAX
    leader = Leader(ME, settings, Random(1))
    epoch = Epoch(1, ME)
    leader.handle(n.LeaderChanged(epoch), 0.0)
    for number in range(1, 9):
        leader.handle(e.Received(m.Demand(epoch, 0, table), node_id(number)), 0.0)
    (offer,) = leader.handle(n.OfferTurn(node_id(1), 2, 1.0), 0.0)
    assert isinstance(offer, e.Send)
    assert len(wire.encode(offer.message)) < MESSAGE_BYTES_MAX


def test_outcomes_with_many_outputs_are_cut_to_size() -> None:
    deliveries = Deliveries(Settings())
    files = tuple(InputFile("o" * 200 + str(n), "0" * 64, 1) for n in range(256))
    for number in range(64):
        deliveries.add(ME, m.Outcome(TaskId(f"{ME}-{number}"), token(), Exit(0, outputs=files)))
    sends = [one for one in deliveries.flush(1.0, lambda _: True) if isinstance(one, e.Send)]
    assert all(len(wire.encode(one.message)) < MESSAGE_BYTES_MAX for one in sends)


# --- fences --------------------------------------------------------------------------------------


def test_a_fence_only_rises_and_memory_is_bounded() -> None:
    fences = Fences(limit=100)
    fences.raise_to(TASK, token(3))
    fences.raise_to(TASK, token(2))
    assert not fences.passes(TASK, token(3))
    assert fences.passes(TASK, token(4))
    assert fences.passes(TASK, token(1, incarnation=2))
    for number in range(1000):
        fences.raise_to(TaskId(str(number)), token())
        assert len(fences) <= 100
        assert not fences.passes(TaskId(str(number)), token())


# --- messages of bounded size --------------------------------------------------------------------


def test_an_end_that_has_not_left_is_spared_when_its_attempt_counts_again() -> None:
    outbox = Outbox(Settings())
    ended, spared = (Token(0, node_id(0), 1, n) for n in (1, 2))
    for token in (ended, spared):
        outbox.end(node_id(1), TaskId("t"), token, "superseded")
    outbox.spare(node_id(2), TaskId("t"), ended)
    outbox.spare(node_id(1), TaskId("t"), spared)
    outbox.flush()
    assert outbox.take() == [e.Send(node_id(1), m.End(((TaskId("t"), ended),), "superseded"))]


def test_what_is_ended_in_the_batch_that_placed_it_is_not_assigned() -> None:
    outbox = Outbox(Settings())
    place = (node_id(1), "b", Epoch(1, ME), 7)
    kept, ended = submission(ME, 1), submission(ME, 2)
    outbox.assign(place, kept, token(), -1.0)
    outbox.assign(place, ended, token(), -1.0)
    outbox.end(node_id(1), ended.task, token(), "superseded")
    outbox.flush()
    assigned, end = [effect.message for effect in outbox.take() if isinstance(effect, e.Send)]
    assert isinstance(assigned, m.Assign)
    assert [item.task for item in assigned.items] == [kept.task]
    assert end == m.End(((ended.task, token()),), "superseded")


def test_assignments_are_cut_by_number_and_size_and_name_each_signature_once() -> None:
    limits = Settings()
    outbox = Outbox(limits)
    batches = [Batch(b"one", b"1" * 4096), Batch(b"two", b"2" * 4096)]
    work = [submission(ME, i, batch=batches[i % 2], payload=b"x" * 3000, leaf=i) for i in range(600)]
    for one in work:
        outbox.assign((node_id(1), "b", Epoch(1, ME), 7), one, token(), -1.0)
    outbox.flush()
    sent = [effect.message for effect in outbox.take() if isinstance(effect, e.Send)]
    assigns = [message for message in sent if isinstance(message, m.Assign)]
    assert [item.task for assign in assigns for item in assign.items] == [one.task for one in work]
    for assign in assigns:
        assert len(assign.items) <= limits.assign_tasks_max
        assert sum(len(item.payload) for item in assign.items) <= limits.assign_bytes_max
        assert len(assign.batches) <= 2
        for item in assign.items:
            assert assign.batches[item.batch] == batches[item.leaf % 2]
    assert outbox.take() == []
    assert not outbox.waiting


def test_outcomes_are_cut_to_what_a_packet_carries_and_repeated_until_acknowledged() -> None:
    deliveries = Deliveries(Settings())
    exit = Exit(0, stdout=b"x" * 16_000, stderr=b"y" * 16_000)
    tasks = [TaskId(str(i)) for i in range(100)]
    for task in tasks:
        deliveries.add(ME, m.Outcome(task, token(), exit))

    def sent(now: float, *, alive: bool = True) -> list[TaskId]:
        effects = deliveries.flush(now, lambda _: alive)
        found = [effect.message for effect in effects if isinstance(effect, e.Send)]
        outcomes = [message for message in found if isinstance(message, m.Outcomes)]
        for message in outcomes:
            assert sum(len(o.exit.stdout) + len(o.exit.stderr) for o in message.items) < MESSAGE_BYTES_MAX
        return [outcome.task for message in outcomes for outcome in message.items]

    assert sent(0.0, alive=False) == []
    assert sent(0.0) == tasks
    assert sent(0.5) == []
    assert sent(1.0) == tasks
    assert sent(2.0) == []  # the pause has doubled
    for task in tasks[:99]:
        deliveries.acknowledged(ME, task)
    deliveries.back(ME)
    assert sent(2.0) == tasks[99:]
    deliveries.acknowledged(ME, tasks[99])
    assert deliveries.next(lambda _: True) is None


# --- least tasks ---------------------------------------------------------------------------------


def want(count: int, *, owner: int = 0, row: int = 1, **fields: object) -> Want:
    base: dict[str, object] = {"needs": Needs(), "priority": 0, "job": ""}
    return Want(owner=node_id(owner), row=row, count=count, **(base | fields))  # type: ignore[arg-type]


def place(wants: list[Want], seats: list[Seat]) -> int:
    return Scheduler(Random(1), 100, 30.0).place(wants, lambda _: seats, 0.0)


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 20)), min_size=1, max_size=12),
    st.integers(0, 60),
    st.integers(0, 100),
)
def test_each_task_goes_to_the_fewest_tasks_per_slot(
    workers: list[tuple[int, int]], count: int, seed: int
) -> None:
    seats = [Seat(node_id(i), "b", slots, load=load) for i, (slots, load) in enumerate(workers)]
    expected = min(count, sum(max(0, slots - load) for slots, load in workers))
    one = want(count)
    assert Scheduler(Random(seed), 100, 30.0).place([one], lambda _: seats, 0.0) == expected
    assert sum(one.places.values()) == expected
    fewest = min(seat.load / seat.slots for seat in seats)
    for seat, placed in one.places.items():
        assert placed
        assert (seat.load - 1) / seat.slots <= fewest  # ties go by lot, so nothing more can be said


def test_equal_owners_share_and_the_turn_is_remembered() -> None:
    scheduler = Scheduler(Random(1), 100, 30.0)
    seats = [Seat(node_id(0), "b", 1)]
    many, few = want(1000, owner=0), want(10, owner=1)
    winners = []
    for _ in range(10):
        seats[0].load = 0
        scheduler.place([many, few], lambda _: seats, 0.0)
        winners += [w.owner for w in (many, few) if w.places.pop(seats[0], 0)]
    assert Counter(winners) == {node_id(0): 5, node_id(1): 5}


def test_an_owner_with_many_jobs_gets_no_more_than_another() -> None:
    scheduler = Scheduler(Random(1), 100, 30.0)
    seats = [Seat(node_id(0), "b", 2)]
    wants = [want(1000, owner=0, row=i, job=str(i)) for i in range(9)] + [want(1000, owner=1)]
    for _ in range(45):
        seats[0].load = 0
        scheduler.place(wants, lambda _: seats, 0.0)
    given = [sum(one.places.values()) for one in wants]
    assert given == [5] * 9 + [45]


def test_an_urgent_class_is_emptied_first() -> None:
    seats = [Seat(node_id(0), "b", 4)]
    low, high = want(10, priority=0), want(3, priority=1, row=2)
    place([low, high], seats)
    assert (sum(high.places.values()), sum(low.places.values())) == (3, 1)


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),  # slots of the workers
    st.lists(
        st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=6
    ),  # priority; whether it is short
    st.lists(st.integers(0, 50), min_size=60, max_size=60),
)
@settings(max_examples=60, deadline=None)
def test_nothing_starves(slots: list[int], classes: list[tuple[int, bool]], ends: list[int]) -> None:
    """Any number of more urgent tasks: every class gets a place at most so long after its last."""
    scheduler = Scheduler(Random(1), 100, 5.0)
    seats = [Seat(node_id(i), "b", count) for i, count in enumerate(slots)]
    wants = [
        want(1000, row=i, priority=priority, depth=41.0 if short else 1.0)
        for i, (priority, short) in enumerate(classes)
    ]
    now = 0.0
    for choice in ends:
        now += 1.0
        for one in wants:
            one.count = 1000
        scheduler.place(wants, lambda _: seats, now)
        for one in wants:
            if one.places:
                one.places, one.since_s = {}, now
        assert max(now - one.since_s for one in wants) <= 5.0 + len(wants)
        chosen = seats[choice % len(seats)]
        chosen.load = chosen.slots - 1  # what ran ahead there is done, and one slot is free again


def test_what_is_too_large_for_now_gets_a_worker_emptied_for_it() -> None:
    scheduler = Scheduler(Random(1), 100, 5.0)
    seats = [Seat(node_id(i), "b", 2, Size(2), load=2) for i in range(2)]
    large, small = want(1, needs=Needs(cpus=2)), want(1000, row=2)
    for second in range(30):
        now = float(second)
        scheduler.place([large, small], lambda _: seats, now)
        if small.places:
            small.since_s = now
        if large.places:
            return
        seats[second % 2].load -= 1  # one task ends, on each in turn
    pytest.fail("the small ones took every slot")


def test_classes_with_other_needs_share_the_same_count() -> None:
    seats = [Seat(node_id(i), "b", 4) for i in range(2)]
    wants = [want(2, row=i, needs=Needs(labels=(("n", str(i)),)), job=str(i)) for i in range(4)]
    assert place(wants, seats) == 8
    assert [seat.load for seat in seats] == [4, 4]


def test_ties_are_broken_by_lot() -> None:
    firsts = set()
    for seed in range(40):
        one = want(1)
        seats = [Seat(node_id(i), "b", 1) for i in range(4)]
        Scheduler(Random(seed), 100, 30.0).place([one], lambda _, seats=seats: seats, 0.0)  # type: ignore[misc]
        firsts |= {seat.node for seat in one.places}
    assert firsts == {node_id(i) for i in range(4)}


# --- the leader by itself ------------------------------------------------------------------------


def leading() -> tuple[Leader, Epoch]:
    leader, epoch = Leader(ME, Settings(), Random(1)), Epoch(3, ME)
    leader.handle(e.Started(Meta(slots=2), 0.0), 0.0)
    leader.handle(e.RosterChanged({ME: MEMBER}, b""), 0.0)
    leader.handle(n.LeaderChanged(epoch), 0.0)
    return leader, epoch


def demand(epoch: Epoch, count: int, seen: int = 0, unused: tuple[m.Unused, ...] = ()) -> e.Received:
    rows = (m.DemandRow(1, Needs(), count),) if count else ()
    return e.Received(m.Demand(epoch, seen, rows, unused), ME)


def granted(leader: Leader, now: float) -> int:
    grants = [effect.message for effect in leader.handle(e.Tick(), now) if isinstance(effect, e.Send)]
    return sum(row.count for grant in grants if isinstance(grant, m.Grant) for row in grant.rows)


def test_nothing_is_granted_before_a_worker_has_reported_under_this_epoch() -> None:
    leader, epoch = leading()
    leader.handle(demand(epoch, 5), 0.0)
    assert granted(leader, 0.0) == 0
    leader.handle(e.Received(m.Report(Epoch(2, ME), "b", 2, 0, 0, False), ME), 0.0)
    assert granted(leader, 0.0) == 0
    leader.handle(e.Received(m.Report(epoch, "b", 2, 0, 0, False), ME), 0.0)
    assert granted(leader, 0.0) == 2


def test_a_grant_counts_as_load_until_it_is_taken_given_back_or_expired() -> None:
    leader, epoch = leading()
    leader.handle(e.Received(m.Report(epoch, "b", 2, 0, 0, False), ME), 0.0)
    leader.handle(demand(epoch, 9), 0.0)
    assert granted(leader, 0.0) == 2
    leader.handle(e.Received(m.Report(epoch, "b", 2, 0, 0, False), ME), 0.0)
    assert granted(leader, 0.0) == 0  # it has not arrived there yet
    leader.handle(e.Received(m.Report(epoch, "b", 2, 1, 0, False, ((ME, 1, 1),)), ME), 0.0)
    assert granted(leader, 0.0) == 0  # one runs, one is on its way
    leader.handle(demand(epoch, 7, 1, (m.Unused(1, ME, 1),)), 0.0)
    assert granted(leader, 0.0) == 1
    deadline = leader.next_deadline()
    assert deadline is not None
    assert granted(leader, deadline - 0.1) == 0
    assert granted(leader, deadline) == 1  # what was granted second was never taken


def test_a_demand_sent_before_a_grant_arrived_is_not_served_twice() -> None:
    leader, epoch = leading()
    leader.handle(e.Received(m.Report(epoch, "b", 8, 0, 0, False), ME), 0.0)
    leader.handle(demand(epoch, 2), 0.0)
    assert granted(leader, 0.0) == 2
    leader.handle(demand(epoch, 3, seen=0), 0.0)
    assert granted(leader, 0.0) == 1
    leader.handle(demand(epoch, 1, seen=2), 0.0)
    assert granted(leader, 0.0) == 1


def test_who_is_not_leader_grants_nothing() -> None:
    leader, epoch = leading()
    leader.handle(e.Received(m.Report(epoch, "b", 2, 0, 0, False), ME), 0.0)
    leader.handle(demand(epoch, 9), 0.0)
    leader.handle(n.LeaderChanged(Epoch(4, node_id(1))), 0.0)
    assert granted(leader, 0.0) == 0
    assert leader.pending == 0


# --- the worker by itself ------------------------------------------------------------------------


def working(executor: bool = True) -> Worker:
    worker = Worker(ME, "b", Settings(), Random(1), Restored())
    worker.handle(e.Started(Meta(slots=1), 0.0), 0.0)
    worker.handle(e.RosterChanged({ME: MEMBER, node_id(1): Member(node_id(1), "", EVERYTHING)}, b""), 0.0)
    if executor:
        worker.handle(e.ExecutorUp(()), 0.0)
    return worker


def assign(attempt: int = 1, boot: str = "b", sender: NodeId = ME, **fields: object) -> e.Received:
    base: dict[str, object] = {"needs": Needs(), "payload": b"", "batch": 0, "leaf": 0}
    item = m.Item(**({"task": TASK, "token": token(attempt)} | base | fields))  # type: ignore[arg-type]
    return e.Received(m.Assign(Epoch(1, ME), 1, boot, (), (item,)), sender)


def runs(worker: Worker, *events: e.Event) -> list[Token]:
    effects = [effect for event in events for effect in worker.handle(event, 1.0)]
    effects += worker.handle(e.Tick(), 1.0)
    return [effect.token for effect in effects if isinstance(effect, e.Run)]


def test_a_token_starts_once_however_often_it_is_assigned() -> None:
    worker = working()
    assert runs(worker, assign(), assign()) == [token()]
    done = e.ProcessExited(TASK, token(), Exit(0))
    stored = e.Received(m.OutcomesStored(((TASK, token()),)), ME)
    assert runs(worker, assign(), done, assign(), stored, assign()) == []
    assert worker.held() == []
    assert runs(worker, assign(2)) == [token(2)]


def test_what_was_sworn_off_never_starts() -> None:
    worker = working()
    assert runs(worker, e.Received(m.Ask(((TASK, token(2)),)), ME), assign(1), assign(2)) == []
    assert runs(worker, e.Received(m.End(((TASK, token(3)),), "cancel"), ME), assign(3)) == []
    assert runs(worker, assign(4)) == [token(4)]


def test_nothing_starts_for_a_stranger_or_a_former_self() -> None:
    assert runs(working(), assign(sender=node_id(1))) == []
    assert runs(working(), assign(sender=node_id(9))) == []
    assert runs(working(), assign(boot="former")) == []


def test_nothing_starts_before_the_executor_has_spoken() -> None:
    worker = working(executor=False)
    assert runs(worker, assign()) == []
    assert runs(worker, e.ExecutorUp(())) == [token()]


def test_an_attempt_that_nobody_knows_is_told_until_its_owner_has_noted_it() -> None:
    row = Attempt(TASK, token(), ME)
    worker = Worker(ME, "b", Settings(), Random(1), Restored(attempts=(row,)))

    def told(now: float) -> list[Holding]:
        effects = worker.handle(e.Tick(), now)
        have = [effect.message for effect in effects if isinstance(effect, e.Send)]
        return [item[2] for message in have if isinstance(message, m.Have) for item in message.items]

    worker.handle(e.ExecutorUp(()), 0.0)
    assert told(0.0) == [Holding.MAYBE_STARTED]
    again = worker.next_deadline()
    assert again is not None
    assert told(again) == [Holding.MAYBE_STARTED]
    effects = worker.handle(e.Received(m.OutcomesStored(((TASK, token()),)), ME), again)
    assert e.Store(Table.ATTEMPTS, TASK, None) in effects
    assert told(again + 100) == []


@pytest.mark.parametrize(
    ("kind", "told", "again"),
    [(Kind.COMMAND, [], [token()]), (Kind.HANDLER, [Holding.MAYBE_STARTED], [])],
)
def test_what_an_executor_took_along_is_started_again_only_if_it_would_have_left_a_trace(
    kind: Kind, told: list[Holding], again: list[Token]
) -> None:
    worker = working()
    assert runs(worker, assign(needs=Needs(kind=kind), payload=b"p")) == [token()]
    worker.handle(e.ExecutorDown(), 1.0)
    worker.handle(e.ExecutorUp((), life=1), 2.0)
    effects = worker.handle(e.Tick(), 2.0)
    have = [effect.message for effect in effects if isinstance(effect, e.Send)]
    assert [item[2] for message in have if isinstance(message, m.Have) for item in message.items] == told
    assert [effect.token for effect in effects if isinstance(effect, e.Run)] == again


@pytest.mark.parametrize(
    ("runtime_s", "once", "started"),
    [
        (-1.0, False, 1),  # nothing is known
        (0.0001, False, 9),
        (0.01, False, 4),  # as many more as run within the pause between two batches
        (1.0, False, 1),
        (0.0001, True, 1),
    ],
)
def test_only_what_is_known_to_be_quick_goes_ahead_of_the_slots(
    runtime_s: float, once: bool, started: int
) -> None:
    worker = working()
    tasks = [TaskId(f"{ME}-t{number}") for number in range(9)]
    assigned = [assign(task=task, once=once, runtime_s=runtime_s) for task in tasks]
    assert len(runs(worker, *assigned)) == started
    assert worker.running == started


def test_an_older_attempt_with_a_lease_does_not_start_once_a_newer_one_has_come() -> None:
    worker = working()
    running = assign(task=TaskId(f"{ME}-x"))
    assert len(runs(worker, running)) == 1  # the only slot is taken
    runs(worker, assign(1, no_overlap=True))
    leased = e.Received(m.Leased(1, 30.0, ((TASK, token(1)),)), ME)
    assert runs(worker, leased) == []
    assert worker.queued == 1
    assert runs(worker, assign(2, no_overlap=True)) == []
    assert runs(worker, e.ProcessExited(TaskId(f"{ME}-x"), token(), Exit(0))) == []
    assert runs(worker, e.Received(m.Leased(2, 30.0, ((TASK, token(2)),)), ME)) == [token(2)]


def test_what_waits_behind_something_long_is_handed_back_and_nothing_more_goes_ahead_until_it_ends() -> None:
    worker = working()
    long, short, more = (assign(task=TaskId(f"{ME}-{n}"), runtime_s=0.01, payload=b"p") for n in "abc")
    tasks = [TaskId(f"{ME}-{n}") for n in "abc"]
    assert len(runs(worker, long, short)) == 2
    effects = worker.handle(e.HandedBack(tasks[1], token()), 1.0)
    assert e.Store(Table.ATTEMPTS, tasks[1], None) in effects
    assert runs(worker, more) == []
    assert worker.queued == 2
    assert len(runs(worker, e.ProcessExited(tasks[0], token(), Exit(0)))) == 2


def test_what_a_former_self_gave_the_executor_goes_back_to_its_owner_if_it_waits_there_for_long() -> None:
    attempts = tuple(Attempt(TaskId(f"{ME}-{n}"), token(), ME) for n in "ab")
    worker = Worker(ME, "b", Settings(), Random(1), Restored(attempts=attempts))
    held = tuple(Held(attempt.task, attempt.token) for attempt in attempts)
    worker.handle(e.Started(Meta(slots=1), 0.0), 0.0)
    worker.handle(e.RosterChanged({ME: MEMBER}, b""), 0.0)
    worker.handle(e.ExecutorUp(held), 0.0)
    worker.handle(e.HandedBack(attempts[1].task, token()), 1.0)
    effects = worker.handle(e.Tick(), 1.0)
    returned = [x.message for x in effects if isinstance(x, e.Send) and isinstance(x.message, m.Returned)]
    assert [[item.task for item in message.items] for message in returned] == [[attempts[1].task]]
    assert (worker.running, worker.queued) == (1, 0)


def test_what_starts_is_stored_first() -> None:
    worker = working()
    worker.handle(assign(), 1.0)
    kinds = [type(effect) for effect in worker.handle(e.Tick(), 1.0)]
    assert kinds.index(e.Store) < kinds.index(e.Run)


def test_a_stranger_cannot_end_or_fence_what_it_does_not_own() -> None:
    worker = working()
    stranger = e.Received(m.End(((TASK, token(9)),), "cancel"), node_id(1))
    asked = e.Received(m.Ask(((TASK, token(9)),)), node_id(1))
    assert runs(worker, stranger, asked, assign(1)) == [token(1)]
    killed = worker.handle(e.Received(m.End(((TASK, token(1)),), "cancel"), node_id(1)), 1.0)
    assert killed == []


# --- the owner's door ----------------------------------------------------------------------------


def test_room_shrinks_with_what_waits_and_is_given_back() -> None:
    mesh = Mesh(1, slots=1, settings=Settings(queued_max=10))
    mesh.submit(0, 4)
    assert mesh[0].owner.room() == 6
    mesh.finish()
    assert mesh[0].owner.room() == 7


def test_an_outcome_from_who_never_had_the_task_is_not_believed() -> None:
    mesh = Mesh(3)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]))
    held = mesh.progress(task).token
    assert held is not None
    forged = m.Outcomes((m.Outcome(task, held, Exit(0)),))
    mesh.give(0, e.Received(forged, mesh.ids[2]))
    mesh.run()
    assert mesh.state(task) is State.RUNNING


@pytest.mark.parametrize("again_s", [0.0, 5.0])
def test_a_failure_that_is_told_twice_is_counted_once(again_s: float) -> None:
    """At once, and when the next attempt is on its way."""
    mesh = Mesh(2)
    (task,) = mesh.submit(0, needs=Needs(node=mesh.ids[1]), retries=1)
    held = mesh.progress(task).token
    assert held is not None
    mesh.finish(code=3)
    mesh.advance(again_s)
    mesh.give(0, e.Received(m.Outcomes((m.Outcome(task, held, Exit(3)),)), mesh.ids[1]))
    mesh.run()
    assert mesh.progress(task).failures == 1
    mesh.advance(5.0)
    assert mesh.state(task) is State.RUNNING
    mesh.finish(code=3)
    mesh.run()
    assert mesh.state(task) is State.FAILED
