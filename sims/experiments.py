"""What is measured: each experiment does one thing to a world that had settled, and returns its samples.

A sample is in seconds unless its name says otherwise. What never came within its limit counts as infinite.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import count
from math import inf

import msgspec

from openclaw.effects import MetaChanged, Received
from openclaw.election.rank import order
from openclaw.ids import NodeId
from openclaw.messages import Elect, Status
from openclaw.notes import MemberChanged
from openclaw.records import Tier
from sims.bench import Bench
from sims.host import Host
from sims.meter import quantile

Samples = defaultdict[str, list[float]]

DETECTION_S_MAX = 120.0
RETURN_S_MAX = 60.0
SPREAD_S_MAX = 30.0
HEAL_S_MAX = 120.0
ELECTION_S_MAX = 30.0
LOSS = 0.2  # of messages that nobody repeats
LOSS_TCP = 0.05  # of segments, which TCP does
SHARES = (("50", 0.5), ("99", 0.99), ("99.99", 0.9999))


def idle(bench: Bench, samples: Samples, seconds: int) -> None:
    bench.meter.clear()
    bench.run(seconds)
    meter = bench.meter
    samples["idle_bytes_per_node_s"] += meter.per_second(meter.bins, seconds)
    samples["idle_messages_per_node_s"] += meter.per_second(meter.messages, seconds)
    samples["idle_false_deaths"].append(meter.false_deaths)


def rumour(bench: Bench, samples: Samples) -> None:
    """One node publishes something new of itself: until others have heard of it, and until they hold it."""
    (origin,) = bench.others(1)
    bench.meter.clear()
    since, others = bench.now, len(bench.running()) - 1
    origin.post(MetaChanged(msgspec.structs.replace(origin.meta, labels=(("changed", f"{since:.3f}"),))))
    bench.reached(lambda: len(bench.meter.learned[origin.id]) >= others, SPREAD_S_MAX)
    for what, reached in (("rumour", bench.meter.heard), ("news", bench.meter.learned)):
        times = sorted(at - since for at in reached[origin.id].values())
        times += [inf] * (others - len(times))
        for name, share in SHARES:
            samples[f"{what}_{name}_percent_s"].append(quantile(times, share))


def death(bench: Bench, samples: Samples, *, dying: int, machine: bool) -> None:
    """So many processes (or whole machines, silently) end at once; later they come back."""
    kind = "machine" if machine else "process"
    victims = bench.others(dying)
    bench.meter.clear()
    since = bench.now
    for victim in victims:
        victim.crash(machine=machine)
    survivors, down = len(bench.running()), bench.meter.down
    bench.reached(lambda: all(len(down[dead.id]) >= survivors for dead in victims), DETECTION_S_MAX)
    for victim in victims:
        times = bench.meter.verdicts_s(victim.id, since)
        times += [inf] * (survivors - len(times))
        samples[f"{kind}_death_first_s"].append(times[0])
        samples[f"{kind}_death_last_s"].append(times[-1])
        samples[f"{kind}_death_each_s"] += times
    samples["death_false_deaths"].append(bench.meter.false_deaths)
    seconds = max(1, int(bench.now - since))
    samples["death_bytes_per_node_s"] += bench.meter.per_second(bench.meter.bins, seconds)
    _come_back(bench, samples, victims)


def _come_back(bench: Bench, samples: Samples, victims: list[Host]) -> None:
    bench.meter.clear()
    since = bench.now
    for victim in victims:
        victim.start()
    everyone = bench.running()
    came = bench.reached(lambda: bench.sees_all(everyone), RETURN_S_MAX)
    back = bench.meter.back
    for victim in victims:
        times = [at for name, at in back[victim.id].items() if name != victim.name]
        samples["return_all_see_s"].append(max(times, default=inf) - since if came else inf)
    bench.run(5.0)


def cut_off(bench: Bench, samples: Samples) -> None:
    """One node's cable is cut, silently, and put back when everyone else knows."""
    (lost,) = bench.others(1)
    others = [host for host in bench.running() if host is not lost]
    pairs = [pair for host in others for pair in ((host.id, lost.id), (lost.id, host.id))]
    bench.meter.clear()
    since = bench.now
    for pair in pairs:
        bench.world.network.cut(*pair)
    bench.reached(lambda: bench.meter.knowing(lost.id, others) == len(others), DETECTION_S_MAX)
    times = [at - since for name, at in bench.meter.down[lost.id].items() if name != lost.name]
    samples["cut_last_s"].append(max(times) if len(times) == len(others) else inf)
    for pair in pairs:
        bench.world.network.mend(*pair)
    bench.reached(lambda: bench.sees_all(bench.running()), RETURN_S_MAX)
    bench.run(5.0)


def join(bench: Bench, samples: Samples, name: str = "new") -> None:
    """A machine is let in and starts for the first time."""
    bench.meter.clear()
    since = bench.now
    new = bench.admit(name)
    came = bench.reached(lambda: bench.sees_all(bench.hosts), RETURN_S_MAX)
    back = bench.meter.back
    times = [*back[new.id].values(), *(seen[new.name] for seen in back.values() if new.name in seen)]
    samples["join_all_see_s"].append(max(times, default=inf) - since if came else inf)
    samples["join_spread_s"].append(max(times, default=inf) - min(times, default=0.0) if came else inf)
    bench.run(5.0)


def election(bench: Bench, samples: Samples, *, machine: bool = False) -> None:
    """The leader's process (or machine) ends."""
    dead = bench.leader()
    bench.meter.clear()
    since = bench.now
    dead.crash(machine=machine)
    _elected(bench, samples, since, "election")
    dead.start()
    bench.reached(lambda: bench.sees_all(bench.running()), RETURN_S_MAX)
    bench.run(5.0)


def worst_starter(bench: Bench, samples: Samples, *, all_at_once: bool) -> None:
    """As `election`, but whoever ranks worst in the next term hears of the death first, and stands at once.

    With `all_at_once` everyone does so at that instant: as many candidates as there are nodes.
    """
    dead = bench.leader()
    assert dead.node is not None
    term = dead.node.election.epoch.term + 1
    gone = MemberChanged(dead.id, Status.DOWN, dead.node.membership.incarnation)
    bench.meter.clear()
    since = bench.now
    dead.crash(machine=True)
    ranked = _ranked(term, [host.id for host in bench.running()])
    worse = next(node for node in map(str, count()) if _ranked(term, [ranked[-1], NodeId(node)])[1] == node)
    for node in ranked if all_at_once else ranked[-1:]:
        host = bench.world.hosts[node]
        host.post(gone)  # type: ignore[arg-type]
        host.post(Received(Elect(term), NodeId(worse)))  # one that ranks worse asks: no waiting in line
    _elected(bench, samples, since, "worst_starter")
    dead.start()
    bench.reached(lambda: bench.sees_all(bench.running()), RETURN_S_MAX)
    bench.run(5.0)


def _ranked(term: int, nodes: list[NodeId]) -> list[NodeId]:
    return order(term, nodes, lambda _: Tier.MAINS)


def _elected(bench: Bench, samples: Samples, since: float, name: str) -> None:
    hosts = bench.running()
    came = bench.reached(lambda: bench.agreed(hosts) and len(bench.leaders()) == 1, ELECTION_S_MAX)
    changes = [at for at, _, _ in bench.meter.leaders]
    begun = min(changes, default=since)
    ended = max((at for at, _, epoch in bench.meter.leaders if epoch is not None), default=inf)
    samples[f"{name}_from_death_s"].append(ended - since if came else inf)
    samples[f"{name}_s"].append(ended - begun if came else inf)
    samples[f"{name}_messages_per_node"].append(bench.meter.elections_sent() / len(hosts))


def turn(bench: Bench, samples: Samples, rotation_s: float) -> None:
    """Small tasks come in all the time while the leader's turn ends: how much later is the latest of them?"""
    (owner,) = bench.others(1)
    before = bench.leader()
    bench.meter.clear()
    submitted: dict[str, float] = {}

    def submit() -> None:
        for task in bench.world.submit(owner, [0.01]):
            submitted[task] = bench.now

    began = bench.now
    for step in range(int((rotation_s + 5) / 0.05)):
        bench.world.at(began + step * 0.05, submit)
    bench.run(rotation_s + 10)
    turns = [at for at, who, epoch in bench.meter.leaders if epoch is not None and who != before.name]
    if not turns:
        return
    starts = {start.task: start.at for start in reversed(bench.world.starts)}
    delays = {at: starts.get(task, inf) - at for task, at in submitted.items()}  # type: ignore[call-overload]
    near = [delay for at, delay in delays.items() if min(turns) - 1 <= at <= max(turns) + 2]
    far = sorted(delay for at, delay in delays.items() if at < min(turns) - 1)
    samples["turn_gap_s"].append(max(0.0, max(near) - quantile(far, 0.99)))
    samples["turn_without_leader_s"].append(_leaderless_s(bench))


def _leaderless_s(bench: Bench) -> float:
    """The longest that any node followed nobody."""
    lost: dict[str, float] = {}
    longest = 0.0
    for at, who, epoch in bench.meter.leaders:
        if epoch is None:
            lost.setdefault(who, at)
        elif who in lost:
            longest = max(longest, at - lost.pop(who))
    return longest


def split(bench: Bench, samples: Samples, for_s: float) -> None:
    """Two halves, for a while; then until all see all, and how long two of them led."""
    middle = len(bench.hosts) // 2
    pairs = [(a.id, b.id) for a in bench.hosts[:middle] for b in bench.hosts[middle:]]
    pairs += [(b, a) for a, b in pairs]
    bench.meter.clear()
    for pair in pairs:
        bench.world.network.cut(*pair)
    bench.run(for_s)
    samples["split_bytes_per_node_s"] += bench.meter.per_second(bench.meter.bins, int(for_s))
    bench.meter.clear()
    since = bench.now
    for pair in pairs:
        bench.world.network.mend(*pair)
    came = bench.reached(lambda: bench.sees_all(bench.hosts), HEAL_S_MAX)
    seen = [at for times in bench.meter.back.values() for at in times.values()]
    followed = [at for at, _, _ in bench.meter.leaders]
    samples["heal_s"].append(max([*seen, *followed], default=since) - since if came else inf)
    if bench.protocol.ours:
        samples["split_leader_s"].append(max(followed, default=since) - since if came else inf)
    bench.run(5.0)


def stalls(bench: Bench, samples: Samples, seconds: float, share: float = 0.2) -> None:
    """Some nodes stall now and then, up to four seconds; verdicts on the others are mistakes.

    Those on the stalling ones are counted by themselves: whoever finds silent losses in two seconds calls them dead.
    """
    slow = bench.others(max(1, round(len(bench.hosts) * share)))
    bench.meter.clear()
    bench.meter.excused = {host.id for host in slow}
    end = bench.now + seconds
    for host in slow:
        at = bench.now + bench.rng.random() * 4
        while at < end - 5:
            for_s = bench.rng.uniform(0.5, 4.0)
            bench.world.at(at, host.pause)
            bench.world.at(at + for_s, host.resume)
            at += for_s + bench.rng.uniform(0.1, 4.0)
    bench.run(seconds)
    healthy = (len(bench.hosts) - len(slow)) * seconds / 3600
    samples["stalls_false_deaths_per_node_hour"].append(bench.meter.false_deaths / healthy)
    samples["stalling_called_dead_per_node_hour"].append(bench.meter.excused_deaths / healthy)


def lossy(bench: Bench, samples: Samples, what: str, seconds: float) -> None:
    """The weather does it all; `what` it loses names the row."""
    bench.meter.clear()
    bench.run(seconds)
    hours = len(bench.hosts) * seconds / 3600
    samples[f"{what}_lost_false_deaths_per_node_hour"].append(bench.meter.false_deaths / hours)
