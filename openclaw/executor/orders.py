"""What a node may ask of its executor, checked before anything is done about it.

Every function raises ValueError or TypeError for what is no order; whoever reads then drops the connection.
"""

from __future__ import annotations

from typing import Any

from openclaw.executor.process import Limits, Spec
from openclaw.handlers.pool import Offer

SECONDS_MAX = 1e12
ROWS_BYTES = 1 << 20  # a frame of rows is closed at this size


def spec_of(row: list[Any]) -> Spec:
    """A row of a `start` frame. What would only fail once the command runs is refused here."""
    spec = Spec(*row[: len(Spec._fields)])
    words = [*spec.argv, *spec.outputs, *spec.local_files, *(word for pair in spec.env for word in pair)]
    words += [spec.task, spec.cwd, spec.stdin_path, spec.handler]
    if not all(isinstance(word, str) for word in words) or not isinstance(spec.args, bytes):
        raise ValueError(f"no command: {str(row)[:80]}")
    if not all(isinstance(size, int) for size in (spec.memory_bytes, spec.cpus, spec.slots, *spec.gpus)):
        raise ValueError(f"no sizes: {spec.memory_bytes!r}, {spec.cpus!r}, {spec.slots!r}, {spec.gpus!r}")
    seconds_of(spec.until_s)
    return spec._replace(timeout_s=seconds_of(spec.timeout_s), grace_s=seconds_of(spec.grace_s))


def offer_of(references: list[Any], folders: list[Any], slots: object) -> Offer:
    if not all(isinstance(word, str) for word in (*references, *folders)) or not isinstance(slots, int):
        raise ValueError(f"no offer of handlers: {str(references)[:80]}")
    return Offer(references, folders, slots)


def limits_of(orphan_s: object, sizes: list[Any]) -> Limits:
    """A frame must hold what we close one at, and the row that went over it."""
    limits = Limits(seconds_of(orphan_s), *sizes)
    if not all(isinstance(size, int) and size > 0 for size in sizes) or limits.frame_bytes < 2 * ROWS_BYTES:
        raise ValueError(f"limits of {limits}")
    return limits


def seconds_of(value: object) -> float:
    if isinstance(value, int | float) and 0 <= value < SECONDS_MAX:
        return value
    raise ValueError(f"a span of {value!r} seconds")
