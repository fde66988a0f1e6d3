"""What of a worker is taken: by what runs on it, and by what waits there for room.

Promises: nothing is let in beyond what the node has; a GPU belongs to one task at a time; who waits is served in the
order in which they came.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from openclaw.exec.jobs import Job
from openclaw.ids import TaskId
from openclaw.records import Size


class Taken:
    """A sum of sizes."""

    def __init__(self) -> None:
        self.slots = 0
        self.memory_bytes = 0
        self.gpus = 0

    def add(self, size: Size, times: int = 1) -> None:
        self.slots += times * size.slots
        self.memory_bytes += times * size.memory_bytes
        self.gpus += times * size.gpus

    @property
    def size(self) -> Size:
        return Size(self.slots, self.memory_bytes, self.gpus)


class Room:
    def __init__(self) -> None:
        self.running = 0
        self.taken = Taken()
        self._gpus: set[int] = set()

    def fits(self, size: Size, whole: Size) -> bool:
        """Whether a task of `size` may start now on a node that has `whole`."""
        taken = self.taken
        return (
            taken.slots + size.slots <= whole.slots
            and taken.memory_bytes + size.memory_bytes <= whole.memory_bytes
            and taken.gpus + size.gpus <= whole.gpus
        )

    def enter(self, job: Job, whole: Size) -> None:
        """`job` runs from now on. One that ran before we knew of it keeps the GPUs that it has."""
        self.running += 1
        self.taken.add(job.size)
        if job.size.gpus and not job.gpus:
            job.gpus = tuple(gpu for gpu in range(whole.gpus) if gpu not in self._gpus)[: job.size.gpus]
        self._gpus.update(job.gpus)

    def leave(self, job: Job) -> None:
        self.running -= 1
        self.taken.add(job.size, -1)
        self._gpus.difference_update(job.gpus)
        job.gpus = ()


class Line:
    """Who waits, first come, first served."""

    def __init__(self) -> None:
        self.taken = Taken()
        self._jobs: OrderedDict[TaskId, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def __iter__(self) -> Iterator[Job]:
        return iter(self._jobs.values())

    def add(self, job: Job, *, front: bool = False) -> None:
        """A newer attempt of a task takes the place of an older one."""
        older = self._jobs.get(job.task)
        if older is not None:
            self.taken.add(older.size, -1)
        self._jobs[job.task] = job
        self.taken.add(job.size)
        if front:
            self._jobs.move_to_end(job.task, last=False)

    def first(self) -> Job | None:
        return next(iter(self._jobs.values()), None)

    def remove(self, job: Job) -> None:
        del self._jobs[job.task]
        self.taken.add(job.size, -1)
