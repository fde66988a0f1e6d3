"""From settings, wherever they came from, to what the runtime is started with: in their final types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from openclaw.cli.settings import LIMITS, Resolved, Value
from openclaw.config import Limits
from openclaw.runtime.options import StartOptions


def start_options(
    state_dir: Path, settings: Mapping[str, Resolved], *, join: str | None = None, json: bool = False
) -> StartOptions:
    """The options that `settings.resolve` came to, in their final types."""
    slots = settings["slots"].value
    return StartOptions(
        state_dir=state_dir,
        join=join,
        name=str(settings["name"].value),
        port=int(str(settings["port"].value)),
        binds=_many(settings["bind"].value),
        seeds=_many(settings["seed"].value),
        mdns=bool(settings["mdns"].value),
        tailscale=bool(settings["tailscale"].value),
        lead=bool(settings["lead"].value),
        slots=None if slots is None else int(str(slots)),
        labels=tuple(_pair(label) for label in _many(settings["label"].value)),
        policy=str(settings["policy"].value),
        skills_dirs=tuple(
            Path(folder).expanduser().absolute() for folder in _many(settings["skills_dir"].value)
        ),
        limits=Limits(**{setting.name: settings[setting.name].value for setting in LIMITS}),  # type: ignore[arg-type]
        json=json,
        handlers=_many(settings["handlers"].value),
        handlers_path=(str(Path(str(settings["handlers_dir"].value)).expanduser().absolute()),),
    )


def _many(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _pair(label: str) -> tuple[str, str]:
    key, _, value = label.partition("=")
    return key, value
