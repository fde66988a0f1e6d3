"""A simulated executor: runs commands that take as long as they say, and outlives its node.

It is the witness: every start that really happens is recorded in the world's ledger, whatever the node believes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import ExecutorUp, Kill, ProcessExited, ProcessStarted, Run
from openclaw.ids import TaskId, Token
from openclaw.records import Exit, Held, Payload

if TYPE_CHECKING:
    from sims.host import Host
    from sims.world import World

STAGE_S = 0.002
TERM = 128 + 15


@dataclass(frozen=True, slots=True)
class Start:
    """One process that really started."""

    at: float
    host: str
    task: TaskId
    token: Token


class Executor:
    """`runs` seconds and the exit code stand in the payload: `argv = (runs, code, output bytes)`."""

    def __init__(self, world: World, host: Host) -> None:
        self._world = world
        self._host = host
        self._held: dict[tuple[TaskId, Token], Exit | None] = {}
        self._started: dict[tuple[TaskId, Token], float] = {}
        self._alive = True

    @property
    def running(self) -> int:
        return sum(1 for key, exit in self._held.items() if exit is None and key in self._started)

    def die(self) -> None:
        """The machine is off: every process with it."""
        self._alive = False
        self._held.clear()

    def attach(self) -> None:
        """The node is there again: tell it all that is held."""
        held = tuple(Held(task, token, exit) for (task, token), exit in self._held.items())
        self._host.post(ExecutorUp(held))

    def run(self, run: Run) -> None:
        key = (run.task, run.token)
        if key in self._held:
            return
        self._held[key] = None
        self._world.after(STAGE_S, lambda: self._start(key, run.payload))

    def kill(self, kill: Kill) -> None:
        key = (kill.task, kill.token)
        if key in self._held and self._held[key] is None:
            delay_s = min(kill.grace_s, 0.05)
            self._world.after(delay_s, lambda: self._end(key, Exit(TERM, ended_by=kill.reason)))

    def forget(self, task: TaskId, token: Token) -> None:
        self._held.pop((task, token), None)

    def _start(self, key: tuple[TaskId, Token], payload: bytes) -> None:
        if not self._alive or self._held.get(key, Exit(0)) is not None:
            return
        runs, code, size = msgspec.msgpack.decode(payload, type=Payload).argv
        self._started[key] = self._world.now
        self._world.witness(Start(self._world.now, self._host.name, *key), self._host)
        self._host.post_if_running(ProcessStarted(*key, self._world.wall))
        inline = b"" if int(size) > len(code) else code.encode()
        exit = Exit(int(code), runtime_s=float(runs), stdout=inline, stdout_size=int(size))
        self._world.after(float(runs), lambda: self._end(key, exit))

    def _end(self, key: tuple[TaskId, Token], exit: Exit) -> None:
        if self._alive and key in self._held and self._held[key] is None:
            self._held[key] = exit
            self._host.post_if_running(ProcessExited(*key, exit))
