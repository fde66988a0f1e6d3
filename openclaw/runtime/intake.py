"""How much a node takes from the people on its machine: past a limit it says no, before anything is promised.

Promises: each refusal names the limit, where it stands and what to do; nothing that was accepted pays for what comes
after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from openclaw.errors import MeshError, Unavailable
from openclaw.runtime.context import Context
from openclaw.runtime.retention import Retention


class Intake:
    """Raises `Unavailable` (full, disk_full) or `MeshError` (too_large) for what is too much."""

    def __init__(self, context: Context, retention: Retention) -> None:
        self._context, self._retention = context, retention

    async def check_room(self, count: int) -> None:
        """For `count` more tasks: in this node's queue, in everybody's, and on the disk, once what can go is gone."""
        context, limits = self._context, self._context.options.limits
        if context.node.owner.room() < count:
            raise Unavailable(
                f"this node already holds {context.node.owner.queued} waiting tasks and takes no more for now "
                f"(queue_tasks is {limits.queue_tasks}); try again when some have run (openclaw status)",
                kind="full",
            )
        views = context.node.membership.members().values()
        counts = [view.beat.counts for view in views if view.beat is not None]
        queued = sum(each.queued + each.placed for each in counts)
        if queued + count > limits.mesh_queue_tasks:
            raise Unavailable(
                f"{queued} tasks wait in this mesh, and this node adds none from {limits.mesh_queue_tasks} on "
                "(mesh_queue_tasks); try again when some have run (openclaw status)",
                kind="full",
            )
        if context.disk_low():
            await self._retention.make_room(0)
        if free := context.disk_low():
            raise Unavailable(
                f"the disk under {context.state_dir} has only {free >> 20} MiB left; nothing is accepted until "
                f"there are {limits.disk_free_bytes >> 20} (disk_free_bytes), so that nothing accepted can be lost",
                kind="disk_full",
            )

    def check_command(self, argv: Sequence[str], environ: dict[str, str]) -> None:
        limits = self._context.options.limits
        _check_size("arguments", argv, limits.argv_bytes, "argv_bytes")
        _check_size("environment", [*environ, *environ.values()], limits.env_bytes, "env_bytes")

    def check_payload(self, payload: bytes) -> None:
        """All that a task carries itself, encoded."""
        limit = self._context.options.limits.payload_bytes
        if len(payload) > limit:
            raise MeshError(
                f"a task may carry {limit >> 10} KiB of arguments and environment (payload_bytes), this one has "
                f"{len(payload) >> 10}; put the data in a file and use --input",
                kind="too_large",
                exit_code=125,
            )

    async def check_file(self, path: Path) -> None:
        """Room for one more file, made if need be: what open tasks need is never dropped for it."""
        context = self._context
        limit = context.options.limits.files_bytes
        size = path.stat().st_size if path.is_file() else 0
        if context.files.bytes + size > limit:
            needed = await self._retention.make_room(limit - size) if size <= limit else 0
            if needed + size > limit:
                raise Unavailable(
                    f"the input {path} of {size >> 20} MiB does not fit: files of tasks that are not over take "
                    f"{needed >> 20} MiB, and the limit is {limit >> 20} (files_bytes); try again when some have "
                    "ended",
                    kind="full",
                )
        if free := context.disk_low(size):
            raise Unavailable(
                f"the disk under {context.state_dir} has only {free >> 20} MiB left, too little for the input "
                f"{path} of {size >> 20}; make room there",
                kind="disk_full",
            )


def _check_size(what: str, values: Sequence[str], limit: int, name: str) -> None:
    total = sum(len(value.encode()) + 1 for value in values)
    if total > limit:
        raise MeshError(
            f"the {what} come to {total >> 10} KiB, the limit is {limit >> 10} ({name}); put the data in a file and "
            "use --input",
            kind="too_large",
            exit_code=125,
        )
    if any("\0" in value for value in values):
        raise MeshError(
            f"the {what} contain a NUL byte, which no process can be given", kind="usage", exit_code=2
        )
