"""This machine, as the gates of skills ask about it: programs on PATH, variables, modules, configuration.

The configuration is OpenClaw's own file, read only, under ours in the state folder: both in its shape, so that
`skills.entries.<key>` switches a skill off or gives it what it asks for. One that cannot be read is as if empty,
and `warnings` says so. Values never leave this object but into the environment of the skill that names them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import invalidate_caches
from importlib.util import find_spec
from pathlib import Path

from openclaw.config import SKILL_FILE_BYTES_MAX
from openclaw.skills.json5 import Json, NotJson, parse

OURS = "skills.json"
THEIRS = "~/.openclaw/openclaw.json"


class ThisMachine:
    """A `gating.Machine`; what it says is as of when it was made."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.system = sys.platform
        self.warnings: list[tuple[str, int, str]] = []
        self._environ = environ
        self._bins: dict[str, bool] = {}
        self._modules: dict[str, bool] = {}
        self._configs = [self._read(state_dir / OURS), self._read(Path(THEIRS).expanduser())]
        invalidate_caches()

    def has_bin(self, name: str) -> bool:
        if name not in self._bins:
            folders = [folder for folder in self._environ.get("PATH", "").split(os.pathsep) if folder]
            paths = [os.path.join(folder, name) for folder in folders]
            self._bins[name] = any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths)
        return self._bins[name]

    def variable(self, name: str) -> str:
        return self._environ.get(name, "")

    def has_module(self, name: str) -> bool:
        if name not in self._modules:
            try:
                self._modules[name] = name.isidentifier() and find_spec(name) is not None
            except (ImportError, ValueError):
                self._modules[name] = False
        return self._modules[name]

    def config(self, path: str) -> Json:
        for config in self._configs:
            value: Json = config
            for part in path.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value
        return None

    def entry(self, key: str) -> dict[str, Json]:
        for config in self._configs:
            value: Json = config
            for part in ("skills", "entries", key):
                value = value.get(part) if isinstance(value, dict) else None
            if isinstance(value, dict):
                return value
        return {}

    def _read(self, path: Path) -> Json:
        try:
            with path.open("rb") as file:
                return parse(file.read(SKILL_FILE_BYTES_MAX).decode("utf-8", "replace"))
        except FileNotFoundError:
            return None
        except NotJson as error:
            with path.open(errors="replace") as file:
                line = file.read(error.offset).count("\n") + 1
            self.warnings.append((str(path), line, f"passed over: {error}"))
        except OSError as error:
            self.warnings.append((str(path), 0, f"passed over: {error.strerror}"))
        return None
