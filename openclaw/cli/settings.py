"""Where a setting's value comes from: a flag, the environment, `config.toml`, or the default, in that order.

One table names every setting; each layer is parsed by the same function, so that a wrong value is refused
with the place where it stands, and `openclaw config` can show every value and its source.
"""

from __future__ import annotations

import math
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

from openclaw.config import ENV_PREFIX, LIMITS_MOST, PORT, Limits
from openclaw.errors import BadState, MeshError

CONFIG_FILE = "config.toml"
STATE_DIR_VARIABLE = ENV_PREFIX + "STATE_DIR"
PORT_MAX = 65533  # the intro and the bulk port follow the mesh port
SLOTS_MAX = 4096
NAME_CHARS_MAX = 63
LIMIT_TASKS_MAX = 1_000_000_000

Value = str | int | float | bool | tuple[str, ...] | None
_UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_UNITS_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


class Resolved(NamedTuple):
    """A value, and who said so: "flag", the variable's name, the file's path, or "default"."""

    value: Value
    source: str


class Setting(NamedTuple):
    """One thing a node can be told, under the same name as flag, variable and key of the file."""

    name: str
    parse: Callable[[object], Value]
    default: Callable[[], Value]


class WrongSetting(MeshError):
    """A value that cannot be used; the message names the place where it stands."""

    kind = "usage"
    exit_code = 2


def seconds(text: str) -> float:
    """Raises ValueError for what is no span of time."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(r"(\d+(\.\d+)?(ms|s|m|h|d))+", text):
        raise ValueError(f"{text!r} is no span of time; write 90, 10s, 5m, 2h or 1h30m")
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text)
    return float(sum(float(number) * _UNITS_S[unit] for number, unit in parts))


def size(text: str) -> int:
    """A number of bytes. Raises ValueError for what is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(i?B)?", text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size; write 4096, 64K, 500M or 8G")
    return int(float(found[1]) * _UNITS_BYTES[found[2]])


def state_folder(flag: str | None, environ: Mapping[str, str] = os.environ) -> Path:
    """The folder of the node that a command talks to."""
    if chosen := flag or environ.get(STATE_DIR_VARIABLE):
        return Path(chosen).expanduser().absolute()
    from platformdirs import user_data_path

    return user_data_path("openclaw-mesh", appauthor=False)


def resolve(
    state_dir: Path, flags: Mapping[str, object], environ: Mapping[str, str] = os.environ
) -> dict[str, Resolved]:
    """Every setting's value. A flag that is None or empty was not given."""
    path = state_dir / CONFIG_FILE
    file = _read(path)
    found: dict[str, Resolved] = {}
    for setting in SETTINGS:
        variable = ENV_PREFIX + setting.name.upper()
        layers = (
            (flags.get(setting.name), _flag(setting), "flag"),
            (environ.get(variable), variable, variable),
            (file.get(setting.name), f"{setting.name} in {path}", str(path)),
        )
        for raw, place, source in layers:
            if raw is not None and raw not in ((), ""):
                found[setting.name] = Resolved(_parsed(setting, raw, place), source)
                break
        else:
            found[setting.name] = Resolved(setting.default(), "default")
    return found


def _flag(setting: Setting) -> str:
    if setting in LIMITS:
        return f"--limit {setting.name}"
    return f"--{setting.name.replace('_', '-')}"


def _read(path: Path) -> dict[str, object]:
    if not os.access(path.parent, os.X_OK) and path.parent.is_dir():
        raise BadState(
            f"cannot enter the state folder {path.parent}. Mend it: chmod u+rwx {path.parent}, or name another: "
            "--state-dir DIR"
        )
    if not path.exists():
        return {}
    import tomllib

    try:
        file: dict[str, object] = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise WrongSetting(f"cannot read {path}: {error}; mend the file or move it away") from error
    if unknown := sorted(file.keys() - {setting.name for setting in SETTINGS}):
        known = ", ".join(setting.name for setting in SETTINGS)
        raise WrongSetting(f"{path}: unknown setting {unknown[0]!r}; there are: {known}")
    return file


def _parsed(setting: Setting, raw: object, place: str) -> Value:
    try:
        return setting.parse(raw)
    except ValueError as error:
        raise WrongSetting(f"{place}: {error}") from error


def _host_label() -> str:
    return socket.gethostname().partition(".")[0][:NAME_CHARS_MAX] or "node"


def _name(raw: object) -> str:
    name = str(raw).strip()
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable() or "," in name:
        raise ValueError(
            f"{name!r} is no name for a node: 1 to {NAME_CHARS_MAX} printable characters, no comma"
        )
    return name


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(raw: object) -> int:
        try:
            number = int(str(raw))
        except ValueError:
            raise ValueError(f"{raw!r} is not a whole number") from None
        if not low <= number <= high:
            raise ValueError(f"{number} is not between {low} and {high}")
        return number

    return parse


def _truth(raw: object) -> bool:
    match str(raw).strip().lower():
        case "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
    raise ValueError(f"{raw!r} is neither true nor false")


def _list(raw: object) -> tuple[str, ...]:
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple):
        raise ValueError(f"{raw!r} is not a list")
    return tuple(text for item in items if (text := str(item).strip()))


def _addresses(raw: object) -> tuple[str, ...]:
    import ipaddress

    for address in (items := _list(raw)):
        try:
            ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            raise ValueError(f"{address!r} is not a numeric address, like 192.168.1.5") from None
    return items


def _seeds(raw: object) -> tuple[str, ...]:
    for seed in (items := _list(raw)):
        host, _, port = seed.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
            raise ValueError(f"{seed!r} is not HOST:PORT, like nas.local:{PORT}")
    return items


def _labels(raw: object) -> tuple[str, ...]:
    if isinstance(raw, dict):
        raw = [f"{key}={value}" for key, value in raw.items()]
    for label in (items := _list(raw)):
        key, equals, _ = label.partition("=")
        if not key or not equals:
            raise ValueError(f"{label!r} is not KEY=VALUE")
    return items


def _policy(raw: object) -> str:
    if raw not in ("skills", "commands", "none"):
        raise ValueError(f"{raw!r} is not one of skills, commands, none")
    return str(raw)


def _limit(name: str) -> Setting:
    """A limit, whose value is read by the unit that stands last in its name."""
    most = LIMITS_MOST.get(name, math.inf)
    whole = _whole(1, LIMIT_TASKS_MAX)

    def parse(raw: object) -> int | float:
        text = str(raw)
        value = (
            seconds(text) if name.endswith("_s") else size(text) if name.endswith("_bytes") else whole(raw)
        )
        if not 0 < value <= most:
            raise ValueError(f"{text} is not above 0" + (f" and at most {most}" if most < math.inf else ""))
        return value

    return Setting(name, parse, lambda: getattr(Limits(), name))


LIMITS = tuple(_limit(field.name) for field in fields(Limits))
SETTINGS = (
    Setting("name", _name, _host_label),
    Setting("port", _whole(0, PORT_MAX), lambda: PORT),
    Setting("bind", _addresses, tuple),
    Setting("seed", _seeds, tuple),
    Setting("mdns", _truth, lambda: True),
    Setting("tailscale", _truth, lambda: True),
    Setting("lead", _truth, lambda: True),
    Setting("slots", _whole(1, SLOTS_MAX), lambda: None),
    Setting("label", _labels, tuple),
    Setting("policy", _policy, lambda: "commands"),
    Setting("skills_dir", _list, tuple),
    Setting("handlers", _list, tuple),
    Setting("handlers_dir", str, os.getcwd),
    *LIMITS,
)
