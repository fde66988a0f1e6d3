"""The scheduler alone, in process: grants a second at 1,000 workers and 1,000,000 pending tasks.

    python -m benchmarks.scheduler

The leader machine is driven through its door, with demands, reports and ticks; nothing is stubbed. Beside it the
whole way of a task (owner, leader, worker, in one process, no disk and no network), as tasks a second.
"""

from __future__ import annotations

from random import Random
from statistics import median
from time import perf_counter

from openclaw import effects as e
from openclaw import messages as m
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.leader import Leader
from openclaw.exec.owner import Owner
from openclaw.exec.worker import Worker
from openclaw.ids import Epoch, Incarnation, NodeId, mint_task_id
from openclaw.records import Batch, Exit, Member, Meta, Needs, Restored, Submission

WORKERS = 1_000
PENDING = 1_000_000
SLOTS = 8
ROUNDS = 5
GRANTS_A_ROUND = 200_000
TASKS = 20_000
TARGET = 100_000


def node_id(number: int) -> NodeId:
    return NodeId(f"node{number:012d}")


def members(count: int) -> dict[NodeId, Member]:
    able = frozenset({"skill", "shell"})
    return {node_id(i): Member(node_id(i), f"n{i}", able) for i in range(count)}


def grants_a_second(seed: int) -> float:
    """Ten owners want 100,000 tasks each; every place that is granted is taken, run and reported free."""
    me, epoch = node_id(0), Epoch(1, node_id(0))
    leader = Leader(me, Settings(), Random(seed))
    leader.handle(e.Started(Meta(slots=SLOTS), 0.0), 0.0)
    leader.handle(e.RosterChanged(members(WORKERS), b""), 0.0)
    for i in range(1, WORKERS):
        leader.handle(n.MetaLearned(node_id(i), 1, Meta(slots=SLOTS)), 0.0)
        leader.handle(n.MemberChanged(node_id(i), m.Status.ALIVE, Incarnation(1, "b")), 0.0)
    leader.handle(n.LeaderChanged(epoch), 0.0)
    owners = [node_id(i) for i in range(10)]
    for owner in owners:
        row = m.DemandRow(1, Needs(), PENDING // len(owners), 0, 0.01, "map")
        leader.handle(e.Received(m.Demand(epoch, 0, (row,)), owner), 0.0)
    for i in range(WORKERS):
        leader.handle(e.Received(m.Report(epoch, "b", SLOTS, 0, 0, False), node_id(i)), 0.0)
    start, now = perf_counter(), 0.0
    while leader.granted < GRANTS_A_ROUND:
        now += 0.001
        taken: dict[NodeId, list[tuple[NodeId, int, int]]] = {}
        for effect in leader.handle(e.Tick(), now):
            if isinstance(effect, e.Send) and isinstance(effect.message, m.Grant):
                for given in effect.message.rows:
                    taken.setdefault(given.worker, []).append((effect.to, effect.message.seq, given.count))
        for worker, counts in taken.items():
            report = m.Report(epoch, "b", SLOTS, 0, 0, False, tuple(counts))
            leader.handle(e.Received(report, worker), now)
    return leader.granted / (perf_counter() - start)


def tasks_a_second(seed: int) -> float:
    """One node that owns, leads and works: submitted in batches of 256 until every outcome is stored."""
    me, epoch, slots = node_id(0), Epoch(1, node_id(0)), 64
    owner = Owner(me, "b", Settings(), Random(seed), Restored())
    worker = Worker(me, "b", Settings(), Random(seed), Restored())
    leader = Leader(me, Settings(), Random(seed))
    machines = (leader, owner, worker)
    batch = Batch(b"signature", b"leaf" * 256)
    work = [Submission(mint_task_id(me, "b", i), Needs(), b"true", batch, i % 256, 0.0) for i in range(TASKS)]
    queue: list[e.Event | n.Note] = [
        e.Started(Meta(slots=slots), 0.0),
        e.RosterChanged(members(1), b""),
        n.IncarnationRaised(Incarnation(1, "b")),
        e.ExecutorUp(()),
        n.Settled(),
        n.LeaderChanged(epoch),
    ]
    queue += [e.Submitted(tuple(work[i : i + 256])) for i in range(0, TASKS, 256)]
    start, now = perf_counter(), 0.0
    while owner.counts.succeeded < TASKS:
        now += 0.001
        events, queue = queue, []
        effects = [x for event in events for machine in machines for x in machine.handle(event, now)]
        effects += [x for machine in machines for x in machine.handle(e.Tick(), now)]
        for effect in effects:
            if isinstance(effect, e.Send):
                queue.append(e.Received(effect.message, me))
            elif isinstance(effect, e.Run):
                queue.append(e.ProcessStarted(effect.task, effect.token, now))
                queue.append(e.ProcessExited(effect.task, effect.token, Exit(0, runtime_s=0.001)))
    return TASKS / (perf_counter() - start)


def show(what: str, rates: list[float]) -> None:
    print(f"{what}: median {median(rates):,.0f}/s of {len(rates)} ({min(rates):,.0f} to {max(rates):,.0f})")


def main() -> None:
    show(
        f"grants, {WORKERS:,} workers, {PENDING:,} pending (to reach: {TARGET:,}/s)",
        [grants_a_second(seed) for seed in range(ROUNDS)],
    )
    show("tasks through owner, leader and worker", [tasks_a_second(seed) for seed in range(ROUNDS)])


if __name__ == "__main__":
    main()
