"""Writes down what a simulated world does, in the rows of `openclaw.trace`, without changing a step of it.

It watches from outside: as an observer of the trace, as a property that never fails, and at the network's cuts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from openclaw.effects import Send
from openclaw.ids import NodeId, TaskId, Token
from openclaw.messages import AnyMessage
from openclaw.records import Exit
from openclaw.trace import (
    VERSION,
    AnyRow,
    CutRow,
    DownRow,
    EndRow,
    MarkRow,
    MendRow,
    NamedRow,
    PauseRow,
    ReceiveRow,
    ResumeRow,
    SendRow,
    StartRow,
    TraceRow,
    UpRow,
    row_of,
    token_name,
    words,
)
from sims.properties import Property, all_properties
from sims.scenario import build

if TYPE_CHECKING:
    from sims.host import Host
    from sims.plan import Plan
    from sims.processes import Executor, Start
    from sims.world import World

MACHINE = "with its machine"
WHY_CHARS_MAX = 300
TOLD = re.compile("runs |no longer reaches |reaches ")
"""Marks of what has rows of its own."""


class Recorder(Property):
    """Hands every row to `write`. One for one world, among its properties from the start, then `watch(world)`."""

    name = "recorder"
    sentence = "All of it is written down."

    def __init__(self, write: Callable[[AnyRow], None]) -> None:
        self._write = write
        self._number = 0
        # The message itself is kept, so that nothing else can get its `id()`.
        self._sent: dict[tuple[str, str, int], tuple[str, AnyMessage]] = {}
        self._running: dict[str, dict[tuple[TaskId, Token], tuple[Host, Executor]]] = defaultdict(dict)

    def watch(self, world: World) -> None:
        """Before the first host starts."""
        self._world = world
        self._write(TraceRow(world.now, "", VERSION, "simulation", f"seed {world.seed}"))
        for host in world.hosts.values():
            self._write(NamedRow(world.now, "", host.name, host.name))
        world.trace.observers.append(self._observed)
        for change in ("cut", "mend"):
            setattr(world.network, change, self._changing(getattr(world.network, change)))

    def _named(self, node: NodeId) -> str:
        host = self._world.hosts.get(node)
        return host.name if host is not None else node

    def _observed(self, at: float, who: str, what: object) -> None:
        if self._running[who]:
            self._orphans(at, who)
        if isinstance(what, str):
            if not TOLD.match(what):
                self._write(_mark(at, who, what))
        elif isinstance(what, Send):
            self._number += 1
            to, message = self._named(what.to), what.message
            self._sent[who, to, id(message)] = (str(self._number), message)
            text = words(message, self._named)
            self._write(SendRow(at, who, to, type(message).__name__, str(self._number), text))
        elif (row := row_of(at, who, what, self._named)) is not None:  # type: ignore[arg-type]
            self._write(row)

    def _orphans(self, at: float, who: str) -> None:
        """Nobody sees the end of what ends with its executor; that there is another one tells it."""
        running = self._running[who]
        for key, (host, executor) in list(running.items()):
            if host.executor is not executor:
                del running[key]
                self._write(EndRow(at, who, key[0], token_name(key[1]), -1, "orphaned"))

    def _changing(self, change: Callable[[NodeId, NodeId], None]) -> Callable[[NodeId, NodeId], None]:
        """Cuts may overlap: only what opens or closes the way is written down."""
        clear = self._world.network.clear

        def watched(source: NodeId, to: NodeId) -> None:
            before = clear(source, to)
            change(source, to)
            if clear(source, to) != before:
                row = CutRow if before else MendRow
                self._write(row(self._world.now, self._named(source), self._named(to)))

        return watched

    def delivered(self, host: Host, sender: NodeId, message: AnyMessage) -> None:
        source = self._named(sender)
        number, _ = self._sent.get((source, host.name, id(message)), ("", message))
        self._write(ReceiveRow(self._world.now, host.name, source, type(message).__name__, number))

    def started(self, host: Host, start: Start) -> None:
        self._running[host.name][start.task, start.token] = (host, host.executor)
        self._write(StartRow(start.at, host.name, start.task, token_name(start.token)))

    def ended(self, host: Host, key: tuple[TaskId, Token], exit: Exit) -> None:
        task, token = key
        self._running[host.name].pop(key, None)
        self._write(EndRow(self._world.now, host.name, task, token_name(token), exit.code, exit.ended_by))


def _mark(at: float, who: str, what: str) -> AnyRow:
    match what.partition(" ")[0]:
        case "starts":
            return UpRow(at, who)
        case "crashes" | "stops":
            return DownRow(at, who, what, machine=MACHINE in what)
        case _ if MACHINE in what:
            return DownRow(at, who, what, machine=True)
        case "sleeps":
            return PauseRow(at, who, what)
        case "wakes":
            return ResumeRow(at, who)
        case _ if what == "is paused":
            return PauseRow(at, who, what)
        case _ if what == "goes on":
            return ResumeRow(at, who)
        case _:
            return MarkRow(at, who, what)


def record(plan: Plan, write: Callable[[AnyRow], None]) -> World:
    """Run a plan as `scenario.run` does, with all of it written down, as far as it goes; `run` has the verdict."""
    recorder = Recorder(write)
    world = build(plan, (*all_properties(), recorder))
    recorder.watch(world)
    try:
        world.run(plan.peace_s)
        for host in world.hosts.values():
            host.calm()
        world.run(plan.seconds)
    except Exception as error:  # what a scenario ends with is a part of its picture
        write(MarkRow(world.now, "", f"the run ends here: {str(error)[:WHY_CHARS_MAX]}"))
    return world
