"""OpenClaw Mesh: run work on whichever of your machines can do it and has the fewest tasks.

Importing this package loads nothing else: the command line has to start in tens of milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openclaw.api.mesh import Mesh
    from openclaw.api.node import Node
    from openclaw.api.results import (
        CommandResult,
        RemoteError,
        RemoteTraceback,
        TaskError,
        TaskLost,
        TaskTimedOut,
    )
    from openclaw.api.tasks import Command, Skill
    from openclaw.errors import MeshError, Unavailable
    from openclaw.handlers.declared import handler
    from openclaw.handlers.task import Cancelled, task

__version__ = "0.1.0"

__all__ = [
    "Cancelled",
    "Command",
    "CommandResult",
    "Mesh",
    "MeshError",
    "Node",
    "RemoteError",
    "RemoteTraceback",
    "Skill",
    "TaskError",
    "TaskLost",
    "TaskTimedOut",
    "Unavailable",
    "handler",
    "task",
]

_PLACES = {
    "openclaw.api.mesh": ("Mesh",),
    "openclaw.api.node": ("Node",),
    "openclaw.api.results": (
        "CommandResult", "RemoteError", "RemoteTraceback", "TaskError", "TaskLost", "TaskTimedOut",
    ),
    "openclaw.api.tasks": ("Command", "Skill"),
    "openclaw.errors": ("MeshError", "Unavailable"),
    "openclaw.handlers.declared": ("handler",),
    "openclaw.handlers.task": ("Cancelled", "task"),
}  # fmt: skip


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for module, names in _PLACES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'openclaw' has no attribute {name!r}")
