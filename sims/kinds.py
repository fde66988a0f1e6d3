"""The dice: one happening of each kind, at a place, a time and a strength by chance."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from sims.faults import (
    Churn,
    ClockJump,
    Crash,
    Cut,
    DiskFull,
    DiskStall,
    Drain,
    Drift,
    ExecutorCrash,
    FlipFlop,
    Happening,
    Loss,
    MassRestart,
    Mixed,
    Pause,
    Sleep,
    Slow,
    Stop,
)

SETTLE_S = 3.0  # before the first fault


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where, when and how long: all is over when peace begins."""

    rng: random.Random
    hosts: list[str]
    peace_s: float
    fault_s_mean: float
    one_way: float

    def fault(self, kinds: dict[str, float]) -> Happening:
        (kind,) = self.rng.choices(list(kinds), list(kinds.values()))
        at = self.rng.uniform(min(SETTLE_S, self.peace_s / 2), self.peace_s)
        for_s = min(self.peace_s - at, self.rng.expovariate(1 / self.fault_s_mean))
        return KINDS[kind](self, at, for_s)

    def host(self) -> str:
        return self.rng.choice(self.hosts)

    def some(self) -> tuple[str, ...]:
        return tuple(sorted(self.rng.sample(self.hosts, self.rng.randint(1, max(1, len(self.hosts) // 2)))))


def _crash(draw: Drawing, at: float, for_s: float) -> Happening:
    return Crash(at, draw.host(), draw.rng.randrange(40), machine=False, down_s=for_s)


def _power_cut(draw: Drawing, at: float, for_s: float) -> Happening:
    return Crash(at, draw.host(), draw.rng.choice([0, draw.rng.randrange(40)]), machine=True, down_s=for_s)


def _executor_crash(draw: Drawing, at: float, _for_s: float) -> Happening:
    return ExecutorCrash(at, draw.host())


def _stop(draw: Drawing, at: float, for_s: float) -> Happening:
    return Stop(at, draw.host(), keep=draw.rng.random() < 0.5, down_s=for_s + 1.0)


def _pause(draw: Drawing, at: float, for_s: float) -> Happening:
    return Pause(at, draw.host(), for_s)


def _sleep(draw: Drawing, at: float, for_s: float) -> Happening:
    return Sleep(at, draw.host(), for_s, new_address=draw.rng.random() < 0.5)


def _slow(draw: Drawing, at: float, for_s: float) -> Happening:
    return Slow(at, draw.host(), draw.rng.choice([0.05, 0.3, 1.5]), for_s)


def _churn(draw: Drawing, at: float, for_s: float) -> Happening:
    rng = draw.rng
    every_s, down_s = rng.choice([1.0, 3.0]), rng.choice([0.2, 2.0])
    return Churn(at, every_s, down_s, for_s, machine=rng.random() < 0.3)


def _mass_restart(draw: Drawing, at: float, for_s: float) -> Happening:
    rng = draw.rng
    return MassRestart(
        at,
        down_s=min(for_s, 5.0),
        every_s=rng.choice([0.0, 1.0]),
        clean=rng.random() < 0.5,
        machine=rng.random() < 0.3,
        hosts=draw.some() if rng.random() < 0.5 else (),
    )


def _cut(draw: Drawing, at: float, for_s: float) -> Happening:
    sources = draw.some()
    others = tuple(name for name in draw.hosts if name not in sources)
    if draw.rng.random() < 0.3:
        others = others[:1]
    return Cut(at, sources, others, one_way=draw.rng.random() < draw.one_way, for_s=for_s)


def _flip_flop(draw: Drawing, at: float, for_s: float) -> Happening:
    one, other = draw.rng.sample(draw.hosts, 2)
    return FlipFlop(at, ((one, other),), period_s=draw.rng.choice([0.7, 3.0, 20.0]), for_s=for_s)


def _loss(draw: Drawing, at: float, for_s: float) -> Happening:
    return Loss(at, rate=draw.rng.choice([0.1, 0.5, 0.8]), for_s=for_s, hosts=draw.some())


def _mixed(draw: Drawing, at: float, _for_s: float) -> Happening:
    return Mixed(at, draw.host())


def _disk_full(draw: Drawing, at: float, for_s: float) -> Happening:
    return DiskFull(at, draw.host(), for_s)


def _disk_stall(draw: Drawing, at: float, for_s: float) -> Happening:
    return DiskStall(at, draw.host(), for_s)


def _clock_jump(draw: Drawing, at: float, _for_s: float) -> Happening:
    return ClockJump(at, draw.host(), draw.rng.choice([-3600.0, -2.0, 5.0, 86400.0]))


def _drift(draw: Drawing, at: float, _for_s: float) -> Happening:
    return Drift(at, draw.host(), draw.rng.choice([0.95, 0.999, 1.001, 1.05]))


def _drain(draw: Drawing, at: float, for_s: float) -> Happening:
    return Drain(at, draw.host(), for_s)


KINDS: dict[str, Callable[[Drawing, float, float], Happening]] = {
    "crash": _crash,
    "power cut": _power_cut,
    "executor crash": _executor_crash,
    "stop": _stop,
    "pause": _pause,
    "sleep": _sleep,
    "slow": _slow,
    "churn": _churn,
    "mass restart": _mass_restart,
    "cut": _cut,
    "flip-flop": _flip_flop,
    "loss": _loss,
    "mixed": _mixed,
    "disk full": _disk_full,
    "disk stall": _disk_stall,
    "clock jump": _clock_jump,
    "drift": _drift,
    "drain": _drain,
}
"""Restored backups and clones are not among them: what those break is not promised, and has scenarios of its own."""
