"""A simulated executor: runs commands that take as long as they say, and outlives its node.

It is the witness: every start that really happens is recorded in the world's ledger, whatever the node believes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import Event, ExecutorUp, Extend, HandedBack, Kill, ProcessExited, ProcessStarted, Run
from openclaw.ids import TaskId, Token
from openclaw.records import Exit, Held, Payload

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

STAGE_S = 0.002
TERM_S = 0.05
HAND_BACK_S = 0.1  # so long may a run wait for a slot
TERM = 128 + 15
LEASE_OVER = Exit(137, ended_by="lease")
ORPHANED = Exit(137, ended_by="orphaned", error="its executor was lost")
KEPT = 0.5  # of the records that were not synced when the power went

Key = tuple[TaskId, Token]


@dataclass(frozen=True, slots=True)
class Start:
    """One process that really started."""

    at: float
    host: str
    task: TaskId
    token: Token


class Executor:
    """`runs` seconds and the exit code stand in the payload: `argv = (runs, code, output bytes)`.

    `held` is what its records say: of each attempt how it ended, or None while it has not.
    """

    def __init__(self, world: World, host: Host, held: dict[Key, Exit | None] | None = None) -> None:
        self.attached = False
        self.life = host.executor_lives = host.executor_lives + 1
        self._world = world
        self._host = host
        self._held = held or {}
        self._ends: dict[Key, tuple[float, Exit]] = {}
        self._gpus: dict[Key, tuple[int, ...]] = {}
        self._slots: dict[Key, int] = {}
        self._waiting: dict[Key, tuple[bytes, float]] = {}
        self._until: dict[Key, float] = {}  # when a lease is over, by the machine's own clock
        self._alive = True

    @property
    def running(self) -> list[TaskId]:
        return [task for task, _ in self._ends]

    @property
    def given(self) -> list[TaskId]:
        """What it was asked to run, and runs or will run."""
        return [task for (task, _), exit in self._held.items() if exit is None]

    @property
    def gpus(self) -> list[int]:
        """Which GPUs belong to what runs, each as often as it was given away."""
        return [gpu for key in self._ends for gpu in self._gpus.get(key, ())]

    # --- its life --------------------------------------------------------------------------------

    def die(self) -> None:
        """Every process ends with it."""
        self._alive = False
        self._held.clear()
        self._ends.clear()
        self._waiting.clear()

    def after_crash(self, host: Host) -> Executor:
        """The one that follows: it finds the records, and writes down that what ran then was orphaned."""
        held = {key: self._held[key] or ORPHANED for key in self._held if self._recorded(key)}
        self.die()
        return Executor(self._world, host, dict(held))

    def after_power_cut(self, host: Host) -> Executor:
        """Records are not synced: some are gone."""
        rng = self._world.rng(f"{host.name}:records:{self._world.now!r}")
        for key in [key for key in self._held if rng.random() >= KEPT]:
            del self._held[key]
        return self.after_crash(host)

    def copy(self, host: Host) -> Executor:
        """On a copy of the machine: the records are there, the processes are not."""
        held = {key: self._held[key] or ORPHANED for key in self._held if self._recorded(key)}
        return Executor(self._world, host, dict(held))

    def attach(self) -> None:
        """The node is there: tell it all that is held."""
        self.attached = True
        held = tuple(Held(task, token, exit) for (task, token), exit in self._held.items())
        self._tell(ExecutorUp(held, self.life))
        for key in self._waiting:
            self._world.after(HAND_BACK_S, lambda key=key: self._hand_back(key))  # type: ignore[misc]

    def woke(self, slept_s: float) -> None:
        """Everything that it runs stood still for so long."""
        for key in list(self._until):
            self._lease(key)
        for key, (due, exit) in list(self._ends.items()):
            self._ends[key] = due + slept_s, exit
            self._world.at(due + slept_s, lambda key=key: self._due(key))  # type: ignore[misc]

    # --- what its node asks ----------------------------------------------------------------------

    def run(self, run: Run) -> None:
        """What is asked while there is none, or of another, is not done; what it had already is told again."""
        key = (run.task, run.token)
        if not self.attached or run.life != self.life:
            return
        if key in self._held:
            self._again(key)
            return
        self._held[key] = None
        self._gpus[key], self._slots[key] = run.gpus, run.slots
        if run.until_s:
            self._until[key] = run.until_s
            self._lease(key)
        self._world.after(STAGE_S, lambda: self._staged(key, run.payload))

    def extend(self, extend: Extend) -> None:
        """What is not there has ended, or is on its way."""
        key = (extend.task, extend.token)
        if self.attached and key in self._until:
            self._until[key] = max(extend.until_s, self._until[key])

    def _lease(self, key: Key) -> None:
        """End it if its lease is over, else look again when that may be; nobody looks while the machine sleeps."""
        until_s = self._until.get(key)
        if until_s is None or not self._alive or self._host.asleep:
            return
        left_s = self._host.clock.when(until_s) - self._world.now
        if left_s > 0:
            self._world.after(left_s, lambda: self._lease(key))
            return
        del self._until[key]
        self._end(key, LEASE_OVER)

    def kill(self, kill: Kill) -> None:
        key = (kill.task, kill.token)
        if not self.attached:
            return
        exit = Exit(TERM, ended_by=kill.reason)
        if key not in self._held:
            self._tell(ProcessExited(*key, exit))
        elif self._held[key] is not None:
            self._again(key)
        elif key in self._waiting:
            self._end(key, exit)
        else:
            self._world.after(min(kill.grace_s, TERM_S), lambda: self._end(key, exit))

    def forget(self, task: TaskId, token: Token) -> None:
        if self.attached and (task, token) not in self._ends:
            self._drop((task, token))
            self._host.disk.outputs.discard((task, token))

    # --- its processes ---------------------------------------------------------------------------

    def _recorded(self, key: Key) -> bool:
        return key in self._ends or self._held[key] is not None

    def _again(self, key: Key) -> None:
        exit = self._held[key]
        if exit is not None:
            self._tell(ProcessExited(*key, exit))
        elif key in self._ends:
            self._tell(ProcessStarted(*key, self._world.wall + self._host.clock.wrong_s))

    def _staged(self, key: Key, payload: bytes) -> None:
        if self._host.asleep:
            self._world.after(1.0, lambda: self._staged(key, payload))
            return
        if not self._alive or self._held.get(key, ORPHANED) is not None:
            return
        self._waiting[key] = payload, self._world.now + HAND_BACK_S
        self._fill()
        if key in self._waiting:
            self._world.after(HAND_BACK_S, lambda: self._hand_back(key))

    def _fill(self) -> None:
        """Start what waits, in order, as far as there are slots. What is larger than all of them runs alone."""
        while key := next(iter(self._waiting), None):
            taken = sum(self._slots[runs] for runs in self._ends)
            if taken and taken + self._slots[key] > self._host.meta.slots:
                return
            self._start(key, self._waiting.pop(key)[0])

    def _hand_back(self, key: Key) -> None:
        """If it still waits, all that does goes back, the last first; as long as there is a node to hear of it."""
        if key not in self._waiting or not self.attached or self._host.asleep:
            return
        back = list(reversed(self._waiting))
        self._waiting.clear()
        for one in back:
            self._drop(one)
            self._tell(HandedBack(*one))

    def _drop(self, key: Key) -> None:
        self._held.pop(key, None)
        self._gpus.pop(key, None)
        self._slots.pop(key, None)
        self._until.pop(key, None)

    def _start(self, key: Key, payload: bytes) -> None:
        world = self._world
        runs, code, size = msgspec.msgpack.decode(payload, type=Payload).argv
        inline = b"" if int(size) > len(code) else code.encode()
        exit = Exit(int(code), runtime_s=float(runs), stdout=inline, stdout_size=int(size))
        self._ends[key] = world.now + float(runs), exit
        world.witness(Start(world.now, self._host.name, *key), self._host)
        self._tell(ProcessStarted(*key, world.wall + self._host.clock.wrong_s))
        world.after(float(runs), lambda: self._due(key))

    def _due(self, key: Key) -> None:
        """Its time is over, unless it stood still in between and has some left."""
        if key in self._ends and not self._host.asleep:
            due, exit = self._ends[key]
            if due <= self._world.now:
                self._end(key, exit)

    def _end(self, key: Key, exit: Exit) -> None:
        if not self._alive or key not in self._held or self._held[key] is not None:
            return
        if self._host.asleep:
            self._world.after(1.0, lambda: self._end(key, exit))
            return
        self._held[key] = exit
        self._until.pop(key, None)
        self._waiting.pop(key, None)
        if self._ends.pop(key, None) is not None:
            self._host.disk.outputs.add(key)
            for ended in self._world.hooks.ended:
                ended(self._host, key, exit)
        self._tell(ProcessExited(*key, exit))
        self._fill()

    def _tell(self, event: Event) -> None:
        if self.attached:
            self._host.post_if_running(event)
