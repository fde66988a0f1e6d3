"""What a task carries, read with care: by its submitter before it is promised, by its worker before it is touched.

A payload was signed by its owner, who may still be wrong, of another version, or not allowed all that this node is.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from openclaw.errors import MeshError
from openclaw.records import Payload
from openclaw.runtime.docs import decode_payload


def checked(data: bytes) -> Payload:
    """Raises MeshError unless it can be read and started, with all files inside the task's scratch directory."""
    try:
        payload = decode_payload(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MeshError(f"what the task carries cannot be read: {error}", kind="usage", exit_code=2) from None
    if not payload.argv and not payload.handler and not (payload.skill and payload.skill.entry):
        raise MeshError("there is no command to run", kind="usage", exit_code=2)
    for name in (*(file.name for file in payload.inputs), *payload.outputs):
        check_inside(name)
    return payload


def check_inside(name: str) -> None:
    """Raises MeshError for a name that could lead out of the folder that it is meant for."""
    path = Path(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in name:
        raise MeshError(
            f"{name!r} is not a file name inside the task's scratch directory", kind="usage", exit_code=2
        )
