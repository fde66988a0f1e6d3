"""What a skill asks of the machine that runs it, and what of that is missing. Pure: the machine is an argument.

The rules of `metadata.openclaw`, as OpenClaw applies them: a skill that was switched off is out; `os` is a hard
filter; `always` passes all that follows; every one of `bins`, one of `anyBins`, every `env`, every `config` path.
`requires.python`, modules of the interpreter that runs the node, is our own and comes last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from openclaw.skills.json5 import Json

SYSTEMS = ("darwin", "linux", "win32")
ALIASES = {"macos": "darwin"}
"""What authors write, because one documentation says so, and OpenClaw itself blocks: meant kindly, and warned of."""
CONFIG_DEFAULTS = frozenset({"browser.enabled", "browser.evaluateEnabled"})


@dataclass(frozen=True, slots=True)
class Gate:
    """Lists are as their author meant them; `key` names the skill in the configuration."""

    key: str = ""
    always: bool = False
    os: tuple[str, ...] = ()
    bins: tuple[str, ...] = ()
    any_bins: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    primary_env: str = ""
    more_env: tuple[str, ...] = ()  # named in `envVars`: passed on, not asked for
    python: tuple[str, ...] = ()
    install: str = ""  # what brings the modules, for people

    def variables(self) -> tuple[str, ...]:
        """Every variable that the skill names."""
        primary = (self.primary_env,) if self.primary_env else ()
        return tuple(dict.fromkeys((*self.env, *primary, *self.more_env)))


class Machine(Protocol):
    """What a gate may ask. `system` is one of `SYSTEMS` or what else Node.js would call it."""

    system: str

    def has_bin(self, name: str) -> bool: ...
    def variable(self, name: str) -> str: ...
    def has_module(self, name: str) -> bool: ...
    def config(self, path: str) -> Json: ...
    def entry(self, key: str) -> dict[str, Json]:
        """`skills.entries.<key>` of the configuration; empty where there is none."""
        ...


def missing(gate: Gate, machine: Machine) -> tuple[str, ...]:
    """What keeps the skill from running there, for people; empty when it is eligible."""
    entry = machine.entry(gate.key)
    if entry.get("enabled") is False:
        return (f"switched off in the configuration (skills.entries.{gate.key}.enabled)",)
    if gate.os and machine.system not in {ALIASES.get(name, name) for name in gate.os}:
        return (f"{' or '.join(gate.os)} (this is {machine.system})",)
    if gate.always:
        return ()
    return (
        *(f"program {name}" for name in gate.bins if not machine.has_bin(name)),
        *_any_bins(gate, machine),
        *(f"variable {name}" for name in gate.env if not _value(gate, machine, entry, name)),
        *(f"configuration {path}" for path in gate.config if not _holds(machine, path)),
        *_modules(gate, machine),
    )


def lacking(
    bins: tuple[str, ...], python: tuple[str, ...], install: str, machine: Machine
) -> tuple[str, ...]:
    """What keeps one entrypoint from running there, beside what keeps its skill."""
    return missing(Gate(bins=bins, python=python, install=install), machine)


def environment(gate: Gate, machine: Machine) -> dict[str, str]:
    """The variables that the skill names and this machine has: what its commands are given."""
    entry = machine.entry(gate.key)
    found = {name: _value(gate, machine, entry, name) for name in gate.variables()}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def _any_bins(gate: Gate, machine: Machine) -> tuple[str, ...]:
    if not gate.any_bins or any(machine.has_bin(name) for name in gate.any_bins):
        return ()
    return (f"one of the programs {', '.join(gate.any_bins)}",)


def _value(gate: Gate, machine: Machine, entry: dict[str, Json], name: str) -> Json:
    """From the node's own environment, else its configuration; an empty one counts as none."""
    configured = entry.get("env")
    return (
        machine.variable(name)
        or (configured.get(name) if isinstance(configured, dict) else None)
        or (entry.get("apiKey") if name == gate.primary_env else None)
    )


def _holds(machine: Machine, path: str) -> bool:
    value = machine.config(path)
    if value is None:
        return path in CONFIG_DEFAULTS
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, dict | list) or bool(value)


def _modules(gate: Gate, machine: Machine) -> tuple[str, ...]:
    hint = f" (pip install '{gate.install}')" if gate.install else ""
    return tuple(f"Python module {name}{hint}" for name in gate.python if not machine.has_module(name))
