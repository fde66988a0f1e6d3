"""What goes wrong, and when: plain data, so that a scenario can be printed, written by hand and cut down.

In a scenario file each is a table with `do` (the class's name in snake case), `at` in seconds and its own fields.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from openclaw.effects import CancelAsked, StopAsked

if TYPE_CHECKING:
    from sims.world import World

STOP_GRACE_S = 2.0


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


class Timed(
    msgspec.Struct, frozen=True, tag=_snake, tag_field="do", forbid_unknown_fields=True, omit_defaults=True
):
    """Something that the world does at `at` seconds of its own time."""

    at: float


class Crash(Timed, frozen=True):
    """The node's process ends after `effects` more of its effects; it starts again `down_s` later."""

    host: str
    effects: int
    machine: bool
    down_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        if self.machine:
            host.crash(machine=True)
            world.after(self.down_s, host.start)
        elif host.running:
            host.crash_after(self.effects, self.down_s)


class Stop(Timed, frozen=True):
    """A clean stop; with `keep` the executor and what it runs stay."""

    host: str
    keep: bool
    down_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.post_if_running(StopAsked(keep=self.keep, grace_s=STOP_GRACE_S))
        world.after(self.down_s, host.start)


class Pause(Timed, frozen=True):
    """The process does not run for a while: a lid that closes, a SIGSTOP."""

    host: str
    for_s: float

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        host.pause()
        world.after(self.for_s, host.resume)


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
            world.after(self.for_s, lambda pair=pair: world.network.mend(*pair))  # type: ignore[misc]


class Work(Timed, frozen=True):
    """Tasks come in at `host`; some of them are cancelled a little later."""

    host: str
    runs_s: tuple[float, ...]
    once: bool = False
    retries: int = 0
    code: int = 0
    output_bytes: int = 1
    cancel_after_s: float | None = None

    def apply(self, world: World) -> None:
        host = world.host(self.host)
        tasks = world.submit(
            host,
            self.runs_s,
            once=self.once,
            retries=self.retries,
            code=self.code,
            output_bytes=self.output_bytes,
        )
        if self.cancel_after_s is not None and tasks:
            cancelled = CancelAsked(tuple(tasks[:1]))
            world.after(self.cancel_after_s, lambda: host.post_if_running(cancelled))


Happening = Crash | Stop | Pause | Cut | Work
