"""What a node is started with, decided once by the command line and never asked again.

`StartOptions` is the whole contract between `openclaw node start` and the runtime: every layer (flags,
environment, configuration file, defaults) has been merged and checked before it exists.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from openclaw.config import Limits


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start the node that lives in `state_dir`."""

    state_dir: Path
    join: str | None  # an `oc1_…` token
    name: str
    port: int  # 0 takes free ports
    binds: tuple[str, ...]  # numeric addresses; none means every interface
    seeds: tuple[str, ...]  # HOST:PORT
    mdns: bool
    tailscale: bool
    lead: bool
    slots: int | None  # None means one a core
    labels: tuple[tuple[str, str], ...]
    policy: str  # "commands", "skills" or "none"
    skills_dirs: tuple[Path, ...]
    limits: Limits
    json: bool
    handlers: tuple[str, ...] = ()  # MODULE, MODULE:ATTR or TYPE=MODULE:ATTR; FILE.py in place of MODULE
    handlers_path: tuple[
        str, ...
    ] = ()  # folders that they are imported from first; FILE.py is in the first of them
