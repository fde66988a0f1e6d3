"""What goes wrong, and when: plain data, so that a scenario can be printed, written by hand and cut down.

In a scenario file each is a table with `do` (the class's name in snake case), `at` in seconds and its own fields.
What lasts (`for_s`) ends by itself, or when the world is calmed; an empty list of hosts means all of them.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import CancelAsked, StopAsked
from openclaw.ids import NodeId
from openclaw.records import Needs

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

STOP_GRACE_S = 2.0


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Timed(
    msgspec.Struct, frozen=True, tag=_snake, tag_field="do", forbid_unknown_fields=True, omit_defaults=True
):
    """Something that the world does at `at` seconds of its own time."""

    at: float


# --- processes and machines ----------------------------------------------------------------------


class Crash(Timed, frozen=True):
    """The node's process ends after `effects` more of its effects, or with `machine` its power is cut then.

    It starts again `down_s` later. A power cut after no effect happens at once.
    """

    host: str
    effects: int
    machine: bool
    down_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        if self.machine and not self.effects:
            _crash(world, host, True, self.down_s)
        elif host.running:
            host.crash_after(self.effects, self.down_s, self.machine)


class ExecutorCrash(Timed, frozen=True):
    """The executor's process ends, and with it every command; the node starts another."""

    host: str

    def apply(self, world: World) -> None:
        world.host(self.host).lose_executor()


class Stop(Timed, frozen=True):
    """A clean stop; with `keep` the executor and what it runs stay."""

    host: str
    keep: bool
    down_s: float

    def apply(self, world: World) -> None:
        _stop(world, world.host(self.host), self.keep, self.down_s)


class Pause(Timed, frozen=True):
    """The node's process does not run for a while, as under SIGSTOP; its machine and its commands do."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.pause()
        world.lasting(self.for_s, host.resume)


class Sleep(Timed, frozen=True):
    """A lid is closed: nothing on the machine runs. It may wake in another network, under a new address."""

    host: str
    for_s: float
    new_address: bool = False

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.sleep()
        world.lasting(self.for_s, lambda: host.wake(self.new_address))


class Slow(Timed, frozen=True):
    """The node's event loop comes to everything up to `lag_s` late."""

    host: str
    lag_s: float
    for_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.slow(self.lag_s)
        world.lasting(self.for_s, lambda: host.slow(-self.lag_s))


class Churn(Timed, frozen=True):
    """Every `every_s` one of the hosts, by chance, ends and comes back `down_s` later."""

    every_s: float
    down_s: float
    for_s: float
    hosts: tuple[str, ...] = ()
    machine: bool = False

    def apply(self, world: World) -> None:
        rng = world.rng(f"churn at {self.at}")
        hosts = world.named(self.hosts)
        for number in range(int(self.for_s / self.every_s)):
            host = rng.choice(hosts)
            crash = partial(_crash, world, host, self.machine, self.down_s)
            world.trouble(number * self.every_s, crash)


class MassRestart(Timed, frozen=True):
    """The hosts restart at once, or one every `every_s`; `clean` by a clean stop that keeps what runs."""

    down_s: float
    every_s: float = 0.0
    clean: bool = False
    machine: bool = False
    hosts: tuple[str, ...] = ()

    def apply(self, world: World) -> None:
        for number, host in enumerate(world.named(self.hosts)):
            crash = partial(_crash, world, host, self.machine, self.down_s)
            stop = partial(_stop, world, host, True, self.down_s)
            world.trouble(number * self.every_s, stop if self.clean else crash)


def _crash(world: World, host: Host, machine: bool, down_s: float) -> None:
    host.crash(machine)
    world.after(down_s, host.start)


def _stop(world: World, host: Host, keep: bool, down_s: float) -> None:
    host.post_if_running(StopAsked(keep=keep, grace_s=STOP_GRACE_S))
    world.after(down_s, host.start)


# --- the network ---------------------------------------------------------------------------------


class Cut(Timed, frozen=True):
    """Nothing gets from `sources` to `to`, and unless it is `one_way` nothing back."""

    sources: tuple[str, ...]
    to: tuple[str, ...]
    one_way: bool
    for_s: float

    def apply(self, world: World) -> None:
        pairs = [(world.host(a).id, world.host(b).id) for a in self.sources for b in self.to]
        if not self.one_way:
            pairs += [(b, a) for a, b in pairs]
        for pair in pairs:
            world.network.cut(*pair)
            world.lasting(self.for_s, lambda pair=pair: world.network.mend(*pair))  # type: ignore[misc]


class FlipFlop(Timed, frozen=True):
    """One way is cut for `period_s`, then the other way, and so on."""

    pairs: tuple[tuple[str, str], ...]
    period_s: float
    for_s: float

    def apply(self, world: World) -> None:
        self._cut(world, [(world.host(a).id, world.host(b).id) for a, b in self.pairs], self.for_s)

    def _cut(self, world: World, ways: list[tuple[NodeId, NodeId]], left_s: float) -> None:
        for way in ways:
            world.network.cut(*way)
        span_s = min(self.period_s, left_s)

        def turn() -> None:
            if left_s > span_s and not world.calmed:
                # Before the other way is mended: at no instant are both open.
                self._cut(world, [(b, a) for a, b in ways], left_s - span_s)
            for a, b in ways:
                world.network.mend(a, b)

        world.lasting(span_s, turn)


class Loss(Timed, frozen=True):
    """`rate` of all packets from and to these hosts is lost, each way."""

    rate: float
    for_s: float
    hosts: tuple[str, ...] = ()

    def apply(self, world: World) -> None:
        for host in world.named(self.hosts):
            world.network.lose(host, self.rate)
            world.lasting(self.for_s, lambda host=host: world.network.lose(host, 0.0))  # type: ignore[misc]


class Mixed(Timed, frozen=True):
    """This host runs the version of tomorrow: more fields in all that it says, and messages nobody knows."""

    host: str

    def apply(self, world: World) -> None:
        world.network.from_tomorrow(world.host(self.host))


# --- disks and clocks ----------------------------------------------------------------------------


class DiskFull(Timed, frozen=True):
    """Commits fail, which ends the process; it is started again and again until there is room."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        disk = world.host(self.host).disk
        disk.full += 1
        world.lasting(self.for_s, disk.make_room)


class DiskStall(Timed, frozen=True):
    """No commit comes to an end for a while."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.stall()
        world.lasting(self.for_s, host.unstall)


class Restore(Timed, frozen=True):
    """A backup is taken; `age_s` later the machine dies, and comes back `down_s` after that on the backup."""

    host: str
    age_s: float
    down_s: float = 1.0

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        backup = host.disk.copy()

        def restore() -> None:
            host.crash(machine=True)
            host.restore(backup)
            world.after(self.down_s, host.start)

        world.trouble(self.age_s, restore)


class Clone(Timed, frozen=True):
    """A second machine runs on a copy of the host's state, as after a copied virtual machine."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        clone = world.clone(world.host(self.host))
        world.lasting(self.for_s, clone.retire)


class ClockJump(Timed, frozen=True):
    """Somebody sets the host's wall clock."""

    host: str
    by_s: float

    def apply(self, world: World) -> None:
        world.host(self.host).clock.jump(self.by_s)


class Drift(Timed, frozen=True):
    """From now on the host's clock runs `rate` times as fast as time does."""

    host: str
    rate: float

    def apply(self, world: World) -> None:
        world.host(self.host).drift(self.rate)


# --- what people do ------------------------------------------------------------------------------


class Drain(Timed, frozen=True):
    """The host takes no new tasks for a while."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.drain(True)
        world.lasting(self.for_s, lambda: host.drain(False))


class Forget(Timed, frozen=True):
    """The host has kept what is over for long enough, and deletes it."""

    host: str

    def apply(self, world: World) -> None:
        world.host(self.host).forget()


class Work(Timed, frozen=True):
    """Tasks come in at `host`; some of them are cancelled a little later."""

    host: str
    runs_s: tuple[float, ...]
    once: bool = False
    no_overlap: bool = False
    retries: int = 0
    code: int = 0
    output_bytes: int = 1
    cancel_after_s: float | None = None
    cancel_at: str = ""  # another host than the one that was given the work
    priority: int = 0
    cpus: int = 0
    memory_bytes: int = 0
    gpus: int = 0
    job: str = ""

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        tasks = world.submit(
            host,
            self.runs_s,
            once=self.once,
            no_overlap=self.no_overlap,
            retries=self.retries,
            code=self.code,
            output_bytes=self.output_bytes,
            priority=self.priority,
            needs=Needs(cpus=self.cpus, memory_bytes=self.memory_bytes, gpus=self.gpus),
            job=self.job,
        )
        if self.cancel_after_s is not None and tasks:
            cancelled = CancelAsked(tuple(tasks[:1]))
            asked = world.host(self.cancel_at or self.host)
            world.after(self.cancel_after_s, lambda: asked.post_if_running(cancelled))


Happening = (
    Crash | ExecutorCrash | Stop | Pause | Sleep | Slow | Churn | MassRestart | Cut | FlipFlop | Loss | Mixed
    | DiskFull | DiskStall | Restore | Clone | ClockJump | Drift | Drain | Forget | Work
)  # fmt: skip
