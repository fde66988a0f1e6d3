"""The worlds that the bugs are tried in."""

from __future__ import annotations

from msgspec.structs import replace

from sims.faults import Crash, Cut, DiskStall, Drain, Happening, Loss, Restore, Sleep, Stop, Work
from sims.links import Weather
from sims.plan import Plan, plain

NODES = 4
SECONDS = 40.0


def mixed(seed: int) -> Plan:
    """As any campaign draws them, but small."""
    return plain(seed, NODES, SECONDS)


def hostile(seed: int) -> Plan:
    """Links that repeat and reorder."""
    return replace(mixed(seed), link=Weather(mode="hostile", duplicate=0.2, stray=0.2))


def turning(seed: int) -> Plan:
    """The lead goes on every few seconds."""
    return replace(mixed(seed), settings={"rotation_s": 4.0})


def hasty(seed: int) -> Plan:
    """The lead goes on all the time, and grants run out before slow messages arrive."""
    plan = replace(mixed(seed), settings={"rotation_s": 1.0, "grant_ttl_s": 0.05})
    return replace(plan, link=Weather(mode="hostile", latency="mixed", stray=0.3))


def lossy(seed: int) -> Plan:
    """Grants get lost, and run out soon."""
    plan = replace(mixed(seed), settings={"grant_ttl_s": 1.0})
    work = [Work(at=2.0 + k, host=_name(k), runs_s=(0.5,) * 4) for k in range(14)]
    return _with(replace(plan, link=Weather(mode="hostile", loss=0.1)), list(work))


def mute(seed: int) -> Plan:
    """Much is lost, and now and then a disk hangs: who cannot store a higher incarnation cannot refute."""
    stalls = [DiskStall(at=3.0 + 4.0 * k, host=_name(k), for_s=6.0) for k in range(4)]
    losses = [Loss(at=3.0 + 4.0 * k, rate=0.5, for_s=4.0, hosts=(_name(k),)) for k in range(4)]
    return _with(hostile(seed), [*stalls, *losses])


def draining(seed: int) -> Plan:
    """Every node stops to take tasks now and then."""
    return _with(hostile(seed), [Drain(at=2.0 + 1.5 * k, host=_name(k), for_s=1.0) for k in range(10)])


def sleepy(seed: int) -> Plan:
    """One lid after the other is closed for a while."""
    return _with(mixed(seed), [Sleep(at=4.0 + 13.0 * k, host=_name(seed + k), for_s=12.0) for k in range(2)])


def dying(seed: int) -> Plan:
    """The machines lose power one after the other, while they run what must run once, and nobody is patient."""
    work = [Work(at=1.0 + k, host=_name(k), runs_s=(2.0,) * 3, once=k % 2 == 0) for k in range(10)]
    deaths = [Crash(at=3.0 + 2.0 * k, host=_name(k), effects=0, machine=True, down_s=1.5) for k in range(6)]
    plan = replace(mixed(seed), settings={"rerun_grace_s_max": 1.0, "keep_restart_grace_s": 1.0})
    return _with(plan, [*work, *deaths])


def orphaned(seed: int) -> Plan:
    """Owners lose power and stay away for longer than their guardians wait; some of what they own must run once."""
    work = [Work(at=1.0 + k, host=_name(k), runs_s=(1.5,) * 3, once=k % 2 == 0) for k in range(12)]
    deaths = [Crash(at=3.5 + 3.0 * k, host=_name(k), effects=0, machine=True, down_s=8.0) for k in range(4)]
    plan = replace(mixed(seed), settings={"guard_grace_s": 3.0, "keep_restart_grace_s": 3.0})
    return _with(plan, [*work, *deaths])


def dead(seed: int) -> Plan:
    """Half of the machines lose power with what they run, and stay away for long."""
    work = [Work(at=1.0 + k, host=_name(k % 2), runs_s=(3.0,) * 4) for k in range(6)]
    deaths = [Crash(at=4.0, host=_name(2 + k), effects=0, machine=True, down_s=30.0) for k in range(2)]
    plan = replace(mixed(seed), settings={"rerun_grace_s_max": 0.5, "keep_restart_grace_s": 0.5})
    return _with(plan, [*work, *deaths])


def gone(seed: int) -> Plan:
    """One machine loses power, silently, and nothing else happens for long."""
    crash = Crash(at=4.0, host=_name(seed), effects=0, machine=True, down_s=60.0)
    return Plan(seed=seed, nodes=NODES, seconds=60.0, peace_s=45.0, happenings=(crash,))


def hurried(seed: int) -> Plan:
    """Nodes are back at once after a crash, and old messages still find them."""
    work = [Work(at=1.0 + k / 2, host=_name(k), runs_s=(0.05,) * 8) for k in range(30)]
    crashes = [Crash(at=2.0 + k / 2, host=_name(k), effects=0, machine=False, down_s=0.01) for k in range(28)]
    plan = replace(mixed(seed), link=Weather(mode="hostile", latency="mixed", stray=0.3))
    return _with(plan, [*work, *crashes])


def busy(seed: int) -> Plan:
    """Much runs, and nodes stop in the midst of it to be back soon."""
    work = [Work(at=1.0 + k, host=_name(k), runs_s=(1.5,) * 4) for k in range(14)]
    stops = [Stop(at=2.5 + 3.0 * k, host=_name(k), keep=True, down_s=1.0) for k in range(5)]
    return _with(mixed(seed), [*work, *stops])


def large(seed: int) -> Plan:
    """Of what is to be done no two fit on one machine, and now and then nobody leads."""
    plan = mixed(seed)
    work = [Work(at=1.0 + k / 2, host=_name(k), runs_s=(0.4,) * 2, memory_bytes=9) for k in range(20)]
    deaths = [Crash(at=2.0 + 3.0 * k, host=_name(k), effects=0, machine=True, down_s=2.0) for k in range(4)]
    slots = tuple(count and count + 2 for count in plan.slots)
    return _with(replace(plan, slots=slots, memory_bytes=(16,)), [*work, *deaths])


def hoarding(seed: int) -> Plan:
    """Long tasks that nobody could tell from short ones: what was to run ahead waits behind them."""
    plan = replace(mixed(seed), slots=(2,), happenings=())
    work = [Work(at=3.0, host=_name(seed), runs_s=(0.01,) * 40)]
    work += [Work(at=6.0, host=_name(seed), runs_s=((14.0,) + (0.01,) * 25) * 4)]
    return _with(plan, list(work))


def queueing(seed: int) -> Plan:
    """More work from three owners than there are slots for; some is of another job, and some is more urgent."""
    work = [
        Work(at=1.0 + k / 2, host=_name(k % 3), runs_s=(0.4,) * 6, priority=3 * (k % 5 == 4), job="ab"[k % 2])
        for k in range(24)
    ]
    return _with(replace(mixed(seed), slots=(1,), happenings=()), list(work))


def graphic(seed: int) -> Plan:
    """Every machine has two GPUs, and most of the work wants one."""
    work = [Work(at=1.0 + k / 2, host=_name(k), runs_s=(0.5,) * 3, gpus=int(k % 4 > 0)) for k in range(20)]
    return _with(replace(mixed(seed), slots=(2,), gpus=(2,), happenings=()), list(work))


def restored(seed: int) -> Plan:
    """A node restarts, and then comes back on a backup from before: it counts again what it has counted already."""
    backup = Restore(at=4.0, host=_name(seed), age_s=8.0)
    crash = Crash(at=7.0, host=_name(seed), effects=0, machine=False, down_s=0.5)
    return _with(replace(mixed(seed), happenings=()), [backup, crash])


def crowded(seed: int) -> Plan:
    """More urgent work than there are slots, and a little that can wait, but not for ever."""
    plan = replace(mixed(seed), slots=(1,), settings={"starve_s_max": 2.0})
    urgent = [Work(at=1.0 + k / 4, host=_name(k), runs_s=(0.5,) * 3, priority=5) for k in range(48)]
    patient = [Work(at=2.0 + k, host=_name(k), runs_s=(0.5,)) for k in range(4)]
    return _with(replace(plan, happenings=()), [*urgent, *patient])


def leased(seed: int) -> Plan:
    """Work that must not overlap, and workers that are cut off from its owner, or lose their node."""
    settings = {"lease_s": 2.0, "lease_margin_s": 0.75, "guard_grace_s": 5.0}
    plan = replace(mixed(seed), happenings=(), settings=settings)
    work = [Work(at=1.0 + k, host=_name(k), runs_s=(6.0,), no_overlap=True) for k in range(12)]
    cuts = [
        Cut(
            at=3.0 + 5 * k,
            sources=(_name(k),),
            to=tuple(_name(k + n) for n in (1, 2, 3)),
            one_way=False,
            for_s=4.0,
        )
        for k in range(3)
    ]
    deaths = [
        Crash(at=4.0 + 5 * k, host=_name(k + seed), effects=0, machine=False, down_s=3.0) for k in range(3)
    ]
    return _with(plan, [*work, *cuts, *deaths])


def parted(seed: int) -> Plan:
    """The mesh falls in two for a while."""
    cuts = [Cut(at=3.0, sources=("n0", "n1"), to=("n2", "n3"), one_way=False, for_s=11.0)]
    return _with(mixed(seed), list(cuts))


def withdrawn(seed: int) -> Plan:
    """What is short runs ahead of the slots, and is cancelled while it waits at its worker."""
    work = [
        Work(at=1.0 + k / 4, host=_name(k), runs_s=(0.1,) * 30, cancel_after_s=0.01 * (k % 8))
        for k in range(40)
    ]
    return _with(mixed(seed), list(work))


def small(seed: int) -> Plan:
    """Little goes into one message, and many tasks end at once."""
    plan = replace(mixed(seed), settings={"outcomes_per_message_max": 2, "assign_tasks_max": 4})
    return _with(plan, [Work(at=2.0 + k, host=_name(k), runs_s=(0.3,) * 16) for k in range(10)])


def _name(number: int) -> str:
    return f"n{number % NODES}"


def _with(plan: Plan, more: list[Happening]) -> Plan:
    return replace(plan, happenings=tuple(sorted([*plan.happenings, *more], key=lambda one: one.at)))
