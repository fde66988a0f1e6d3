"""Copies of tasks as they travel: cut to what one message may carry, each signature once a message.

Promises: a message stays under the limits of `Settings`; what was packed is unpacked to equal submissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.records import Batch, Progress, Submission

ITEMS_MAX = 1024
_ITEM_OVERHEAD_BYTES = 400
_MOVE_OVERHEAD_BYTES = 48
_FILE_OVERHEAD_BYTES = 96
_NO_BATCH = Batch(b"", b"")


def pack(tasks: Iterable[tuple[Submission | None, Progress]], settings: Settings) -> Iterator[m.Guard]:
    """`tasks` as messages; a task without its submission has only moved."""
    items: list[m.Kept] = []
    batches: dict[bytes, int] = {}
    kept: list[Batch] = []
    size = 0
    for submission, progress in tasks:
        batch = None if submission is None else submission.batch
        index = 0 if batch is None else batches.get(batch.signature, -1)
        weight = weigh(submission, progress)
        if batch is not None and index < 0:
            weight += len(batch.leaves) + len(batch.signature)
        full = len(items) >= settings.guard_tasks_max or size + weight > settings.assign_bytes_max
        if items and full:
            yield m.Guard(tuple(kept), tuple(items))
            items, batches, kept, size = [], {}, [], 0
            index = -1
        if batch is not None and index < 0:
            index = batches[batch.signature] = len(kept)
            kept.append(batch)
        size += weight
        bare = None if submission is None else replace(submission, batch=_NO_BATCH)
        items.append(m.Kept(progress, bare, max(index, 0)))
    if items:
        yield m.Guard(tuple(kept), tuple(items))


def unpack(item: m.Kept, batches: tuple[Batch, ...]) -> Submission | None:
    """The submission of one item, whole again; None when it has none, or names no batch of the message."""
    if item.submission is None or item.batch >= len(batches):
        return None
    return replace(item.submission, batch=batches[item.batch])


def weigh(submission: Submission | None, progress: Progress) -> int:
    """About how many bytes a task is in its message, rather too many."""
    size = _ITEM_OVERHEAD_BYTES
    if submission is not None:
        size += len(submission.payload) + len(submission.title.encode())
    exit = progress.exit
    if exit is not None:
        size += len(exit.stdout) + len(exit.stderr) + len(exit.error.encode())
        size += sum(_FILE_OVERHEAD_BYTES + len(file.name.encode()) for file in exit.outputs)
    size += sum(_MOVE_OVERHEAD_BYTES + len(move.reason.encode()) for move in progress.story)
    return size + len(progress.error.encode()) + sum(len(text.encode()) for text in progress.rivals)


def bundles(items: list[m.Kept], settings: Settings) -> Iterator[tuple[m.Kept, ...]]:
    """`items` without submissions, in parts that one message may carry; one empty part when there are none."""
    part: list[m.Kept] = []
    size = 0
    for item in items:
        weight = weigh(item.submission, item.progress)
        if part and (len(part) >= settings.guard_tasks_max or size + weight > settings.assign_bytes_max):
            yield tuple(part)
            part, size = [], 0
        part.append(item)
        size += weight
    yield tuple(part)
