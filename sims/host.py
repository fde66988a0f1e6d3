"""One simulated machine: its clocks, its disk, its executor, and the node that runs on it, or not.

`start`, `crash` and the other troubles may come at any time and in any order; what is undone twice is undone once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import (
    DrainAsked,
    Event,
    ExecutorDown,
    ForgetAsked,
    Measured,
    MetaChanged,
    PeerFound,
    Received,
    RosterChanged,
    Started,
    Store,
)
from openclaw.ids import NodeId
from openclaw.messages import AnyMessage
from openclaw.node import Node
from openclaw.records import Ended, Meta, Metrics
from sims.clock import OFFSET_S_MAX, Clock
from sims.disk import Disk, Full
from sims.processes import Executor
from sims.runtime import Runtime

if TYPE_CHECKING:
    from sims.links import Pipe
    from sims.world import World

EXECUTOR_ANSWERS_S = 0.01
EXECUTOR_STARTS_S = 0.3
CALM_S = 2.0
RESTART_S = 1.0  # until a process that gave up is started again
MEASURE_EVERY_S = 2.0
LAG_S_MIN = 0.05
INTERFACES_EVERY_S = 2.0
FULL_REFUSES = 0.7  # of the batches: the others fit into pages that the store has already


class Host:
    """`rivals` are the starts of other machines that its node has found to speak under its own key."""

    def __init__(self, world: World, name: str, node: NodeId, meta: Meta, disk: Disk | None = None) -> None:
        self.world = world
        self.name = name
        self.id = node
        self.meta = meta
        self.disk = disk or Disk()
        self.clock = Clock(world.rng(f"{name}:clock").random() * OFFSET_S_MAX)
        self.executor_lives = 0
        self.executor = Executor(world, self)
        self.runtime: Runtime | None = None
        self.starts = 0
        self.awake = False  # its process is there, and runs
        self.powered = True
        self.asleep = False
        self.retired = False
        self.put_back = False  # to a backup: it counts again what it has counted
        self.lag_s = 0.0
        self.rivals: set[str] = set()
        self.pipes: dict[NodeId, Pipe] = {}
        self.chance = world.rng(f"{name}:network").random
        self._disk_chance = world.rng(f"{name}:disk").random
        self._lag_chance = world.rng(f"{name}:lag").random
        self._paused = 0
        self._paused_at = 0.0
        self._slept_at = 0.0
        self._late_s = 0.0
        self._address = 0

    @property
    def running(self) -> bool:
        return self.runtime is not None

    @property
    def node(self) -> Node | None:
        return None if self.runtime is None else self.runtime.node

    @property
    def wall(self) -> float:
        """What its node takes for the time of day."""
        if self.runtime is None:
            return self.world.wall + self.clock.wrong_s
        return self.runtime.wall_offset_s + self.clock.read(self.world.now)

    # --- its process -----------------------------------------------------------------------------

    def start(self, warm: bool = False) -> None:
        """Start the node's process on whatever the disk holds. A `warm` one is introduced by the world."""
        if self.running or self.asleep or self.retired:
            return
        world = self.world
        self.starts += 1
        self.powered = True
        boot = f"{self.name}.{self.starts}"
        self._mark("starts")
        node = Node(
            self.id, boot, world.settings, lambda stream: world.rng(f"{boot}:{stream}"), self.disk.restored()
        )
        wall_offset_s = world.wall + self.clock.wrong_s - self.clock.read(world.now)
        runtime = self.runtime = Runtime(self, node, wall_offset_s)
        self._settle()
        runtime.post(Started(self.meta, wall_offset_s))
        runtime.post(RosterChanged(world.roster(), world.roster_digest))
        if warm:
            world.network.known(self)
        else:
            for peer in world.peers(self):
                runtime.post(PeerFound(peer))
            world.network.started(self)
        self._attach_later(EXECUTOR_ANSWERS_S)

    def crash(self, machine: bool = False, how: str = "crashes") -> None:
        """The process ends here and now; with `machine` the power is cut."""
        if self.running:
            self._mark(f"{how}{' with its machine' * machine}")
        self._end(machine)
        if machine:
            self.powered = False
            self.executor = self.executor.after_power_cut(self)

    def crash_after(self, effects: int, down_s: float, machine: bool = False) -> None:
        """Crash when so many more effects have been performed, in the middle of whatever that is."""
        if self.runtime is not None:
            self.runtime.fuse = effects
            self.runtime.on_fuse = lambda: self._burn(down_s, machine)

    def start_later(self) -> None:
        """As whoever looks after services does."""
        self.world.after(RESTART_S, self.start)

    def stopped(self, keep: bool) -> None:
        """The core is done with a clean stop."""
        self._mark("stops")
        self._end(machine=False)
        if not keep:
            self.executor.die()
            self.executor = Executor(self.world, self)

    def calm(self) -> None:
        """Whatever was still to happen to this host does not; it runs, or starts again soon."""
        if self.runtime is not None:
            self.runtime.fuse = None
        self.resume()
        self.wake(False)
        self.world.after(CALM_S, self.start)

    def _burn(self, down_s: float, machine: bool) -> None:
        self.crash(machine, how="crashes between two effects")
        self.world.after(down_s, self.start)

    def _end(self, machine: bool) -> None:
        if self.runtime is None:
            if machine:
                self.world.network.ended(self, machine)
            return
        unsure = self.runtime.end()
        if unsure and not self.disk.full and self._disk_chance() < 0.5:
            self.commit(unsure)
        self.runtime = None
        self.executor.attached = False
        self._paused = 0
        self._settle()
        self.world.network.ended(self, machine)

    def _mark(self, what: str) -> None:
        self.world.trace.mark(self.world.now, self.name, what)

    # --- standing still --------------------------------------------------------------------------

    def pause(self) -> None:
        if self.running:
            self._mark("is paused")
            if not self._paused:
                self._paused_at = self.world.now
            self._paused += 1
            self._settle()
            self.world.network.silent(self)

    def resume(self) -> None:
        if self.runtime is None or not self._paused:
            return
        self._paused -= 1
        if self._paused and not self.world.calmed:
            return
        self._paused = 0
        self._mark("goes on")
        self._settle()
        late_s = self.world.now - self._paused_at - MEASURE_EVERY_S * self._lag_chance()
        if late_s > LAG_S_MIN:
            self.runtime.post(Measured(Metrics(), late_s))
        self.world.network.back(self)
        self._go_on()

    def sleep(self) -> None:
        """A lid is closed: node, executor and commands stand still, and nothing answers any more."""
        if not self.asleep and self.powered:
            self._mark("sleeps")
            self.asleep, self._slept_at = True, self.world.now
            self._settle()
            self.world.network.silent(self)

    def wake(self, new_address: bool) -> None:
        if not self.asleep:
            return
        self._mark("wakes" + " with a new address" * new_address)
        self.asleep = False
        self._settle()
        self.executor.woke(self.world.now - self._slept_at)
        if new_address:
            self._move()
        self.world.network.back(self, moved=new_address)
        self._go_on()

    def slow(self, by_s: float) -> None:
        """Its event loop comes to everything up to so much later."""
        before, self.lag_s = self.lag_s, max(0.0, self.lag_s + by_s)
        if self.lag_s < 1e-9:
            self.lag_s = 0.0
        self._mark(f"lags up to {self.lag_s:g} s")
        if not before:
            self._measure()

    def late_s(self) -> float:
        """How late it comes to this."""
        late_s = self.lag_s * self._lag_chance()
        self._late_s = max(self._late_s, late_s)
        return late_s

    def _measure(self) -> None:
        """The node tells its core how late it was, for as long as it is late."""
        late_s, self._late_s = self._late_s, 0.0
        if late_s > LAG_S_MIN:
            self.post_if_running(Measured(Metrics(), late_s))
        if self.lag_s:
            self.world.after(MEASURE_EVERY_S, self._measure)

    def _settle(self) -> None:
        self.awake = self.runtime is not None and not self._paused and not self.asleep

    def _go_on(self) -> None:
        if self.runtime is not None and self.awake:
            self.runtime.go_on()

    # --- its disk --------------------------------------------------------------------------------

    def fsync_s(self) -> float:
        chance, shared = self._disk_chance(), self.world.shared
        return 0.0003 + 0.004 * chance**4 if shared is None else shared.commit_s(chance)

    def commit(self, stores: list[Store]) -> None:
        """All of it or nothing; raises `Full`."""
        if self.disk.full and self._disk_chance() < FULL_REFUSES:
            raise Full(self.name)
        world = self.world
        for committing in world.hooks.committing:
            committing(self, stores)
        for store in stores:
            world.trace.effect(world.now, self.name, store)
        self.disk.commit(stores)

    def stall(self) -> None:
        self._mark("has a disk that hangs")
        self.disk.stalled += 1

    def unstall(self) -> None:
        self.disk.stalled -= 1
        if not self.disk.stalled:
            self._go_on()

    def restore(self, backup: Disk) -> None:
        """The disk is as it was; what ran then is no more."""
        self._mark("is put back to a backup")
        self.put_back = True
        self.disk.revert(backup)
        self.executor = Executor(self.world, self)

    # --- its clock, its address, its executor ----------------------------------------------------

    def drift(self, rate: float) -> None:
        self.clock.drift(rate, self.world.now)
        if self.runtime is not None:
            self.runtime.retime()

    def drain(self, draining: bool) -> None:
        self.meta = msgspec.structs.replace(self.meta, draining=draining)
        self.post_if_running(MetaChanged(self.meta))
        self.post_if_running(DrainAsked(draining))

    def forget(self) -> None:
        """What is over is deleted, as the real runtime's retention does it: it asks again once it was answered."""
        runtime = self.runtime
        over = tuple(Ended(row.task, row.state, row.finished, 0) for row in self.disk.tasks() if row.over)
        if runtime is not None and over and not runtime.forgetting:
            runtime.forgetting = True
            runtime.post(ForgetAsked(over))

    def lose_executor(self) -> None:
        """It ends with all that it runs. The node notices, and starts another, which tells what is left of it."""
        self._mark("loses its executor")
        self.executor = self.executor.after_crash(self)
        self.post_if_running(ExecutorDown())
        self._attach_later(EXECUTOR_STARTS_S)

    def retire(self) -> None:
        """Switched off for good."""
        self.crash(machine=True, how="is switched off")
        self.retired = True

    def _move(self) -> None:
        """Another network: found out about within a moment, and published."""
        self._address += 1
        host, _, port = self.meta.addresses[0].rpartition(":")
        address = f"10.{self._address}.{host.partition('.')[2].partition('.')[2]}:{port}"
        self.meta = msgspec.structs.replace(self.meta, addresses=(address,))
        after_s = INTERFACES_EVERY_S * self._lag_chance()
        self.world.after(after_s, lambda: self.post_if_running(MetaChanged(self.meta)))

    def _attach_later(self, after_s: float) -> None:
        runtime = self.runtime

        def attach() -> None:
            if runtime is not None and runtime.alive:
                self.executor.attach()

        self.world.after(after_s, attach)

    # --- its inbox -------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        assert self.runtime is not None, f"{self.name} does not run"
        self.runtime.post(event)

    def post_if_running(self, event: Event) -> None:
        if self.runtime is not None:
            self.runtime.post(event)

    def receive(self, sender: NodeId, message: AnyMessage) -> bool:
        """A message from a peer; False when it is lost here."""
        if self.runtime is None or not self.runtime.offer(Received(message, sender)):
            return False
        for delivered in self.world.hooks.delivered:
            delivered(self, sender, message)
        return True
