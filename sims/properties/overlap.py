"""What `--no-overlap` promises: one process at a time, whatever breaks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.effects import Effect, Event, Resumed, Run, Submitted
from openclaw.ids import TaskId
from sims.properties.base import Property

if TYPE_CHECKING:
    from sims.host import Host
    from sims.processes import Start


class NothingOverlaps(Property):
    name = "no overlap"
    sentence = (
        "Of a task that was submitted with --no-overlap at most one process is alive at any instant, and each has the "
        "lease that it began under. A machine that sleeps runs nothing, and wakes to the end of its leases."
    )
    hears = (Submitted, Resumed)
    says = (Run,)

    def __init__(self) -> None:
        self._tasks: set[TaskId] = set()

    def handled(self, host: Host, event: Event, effects: Sequence[Effect]) -> None:
        if isinstance(event, Submitted):
            self._tasks.update(each.task for each in event.tasks if each.no_overlap)
        for effect in effects:
            if isinstance(effect, Run) and effect.task in self._tasks and not effect.until_s:
                self.fail(f"{host.name} starts {effect.task} without a lease")
        if isinstance(event, Resumed):
            for task in self._tasks.intersection(host.executor.running):
                self._alone(host, task)

    def started(self, host: Host, start: Start) -> None:
        if start.task in self._tasks:
            self._alone(host, start.task)

    def _alone(self, host: Host, task: TaskId) -> None:
        awake = [other for other in host.world.hosts.values() if not other.asleep]
        where = [other.name for other in awake for runs in other.executor.running if runs == task]
        if len(where) > 1:
            self.fail(f"{task} starts on {host.name}, and runs on {' and '.join(where)}")
