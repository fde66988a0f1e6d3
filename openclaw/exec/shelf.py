"""What a guardian has on its disk: copies of other owners' tasks, and ends whose outputs are on their way here.

Promises: what is acknowledged is stored in the same batch; a final only together with its outputs, from whoever has
them, or after a few tries without; once it is over, it leaves memory and stays on the disk for whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from openclaw import effects as e
from openclaw import notes as n
from openclaw.config import Settings
from openclaw.exec.replies import Replies
from openclaw.exec.timers import Timers
from openclaw.ids import Claim, NodeId, TaskId
from openclaw.messages import Status
from openclaw.records import Copy, Number, Progress, Restored, Table

_FETCH_TRIES_MAX = 5
_CLOSED_MAX = 16_384


@dataclass(slots=True)
class _Closing:
    """A final copy whose outputs are on their way here."""

    copy: Copy
    tries: int = 0
    fetching: bool = False


class Shelf:
    """The copies, by owner. `Guardian` decides what is put here, and what becomes of it."""

    def __init__(self, me: NodeId, settings: Settings, restored: Restored) -> None:
        self.me = me
        self.settings = settings
        self._copies: dict[NodeId, dict[TaskId, Copy]] = {}
        self._holder: dict[TaskId, NodeId] = {}
        self._closing: dict[TaskId, _Closing] = {}
        self._closed: dict[TaskId, tuple[Claim, int]] = {}  # lately over: what comes late is older
        self._status: dict[NodeId, Status] = {me: Status.ALIVE}
        self._heard = dict(restored.heard)
        self._replies = Replies()
        self._timers = Timers()
        self._wall_offset_s = 0.0
        self._out: list[e.Effect] = []
        for copy in restored.copies:
            self._remember(copy)

    def copy(self, task: TaskId) -> Copy | None:
        """The copy of a task that is not over, as of what its owner told last."""
        holder = self._holder.get(task)
        return None if holder is None else self._copies[holder][task]

    def _is_of(self, task: TaskId, owner: NodeId) -> bool:
        held = self.copy(task)
        return held is not None and held.progress.claim.owner == owner

    def _keep(self, copy: Copy, now: float) -> None:
        """Onto our disk, and an acknowledgement when it is whole."""
        progress = copy.progress
        task = progress.task
        closing = self._closing.get(task)
        if closing is not None and closing.copy.progress == progress:
            return  # its outputs are on their way
        self._remember(copy)
        if progress.claim.owner not in self._heard:
            self._hear(progress.claim.owner, now)
        self._out.append(e.Store(Table.COPIES, task, copy))
        closing = self._closing.get(task)
        if closing is not None:
            self._fetch(closing)
        elif progress.state.final:
            self._close(copy)
        elif copy.told:
            self._replies.guarded(progress.claim.owner, task, progress.claim, progress.moves)

    def _remember(self, copy: Copy) -> None:
        progress = copy.progress
        task, owner = progress.task, progress.claim.owner
        self._forget(task)
        self._copies.setdefault(owner, {})[task] = copy
        self._holder[task] = owner
        if progress.state.final and self._wants_outputs(progress):
            self._closing[task] = _Closing(copy)

    def _forget(self, task: TaskId) -> None:
        holder = self._holder.pop(task, None)
        self._closing.pop(task, None)
        if holder is not None:
            there = self._copies[holder]
            del there[task]
            if not there:
                del self._copies[holder]

    def _close(self, copy: Copy) -> None:
        """It is over, and on two disks now: the copy leaves memory, and stays here for whoever asks."""
        progress = replace(copy.progress, provisional=False)
        self._forget(progress.task)
        self._closed[progress.task] = progress.claim, progress.moves
        if len(self._closed) > _CLOSED_MAX:
            del self._closed[next(iter(self._closed))]
        self._out.append(e.Store(Table.COPIES, progress.task, None))
        self._out.append(e.Store(Table.RESULTS, progress.task, replace(copy, progress=progress)))
        self._out.append(n.TaskFetched(progress.task))
        self._replies.guarded(progress.claim.owner, progress.task, progress.claim, progress.moves)

    def _hear(self, owner: NodeId, now: float) -> None:
        """An owner lives: its copies are good for a while. To be asked again before that is over."""
        self._heard[owner] = now + self._wall_offset_s
        self._out.append(e.Store(Table.META, f"heard:{owner}", Number(int(self._heard[owner]))))
        self._timers.set(now + self.settings.keeping_every_s, "keeping", owner)

    # --- outputs ---------------------------------------------------------------------------------

    def _wants_outputs(self, progress: Progress) -> bool:
        exit = progress.exit
        if exit is None or exit.inline or progress.token is None:
            return False
        logs = exit.stdout_size + exit.stderr_size - exit.stdout_cut - exit.stderr_cut
        return logs + sum(file.size for file in exit.outputs) <= self.settings.guard_output_bytes_max

    def _fetch(self, closing: _Closing) -> None:
        """From the owner, who has them already; from the worker while the owner is away."""
        progress = closing.copy.progress
        owner = progress.claim.owner
        kept = self._status.get(owner, Status.ALIVE) < Status.DOWN
        if not closing.fetching and progress.token is not None and progress.exit is not None:
            closing.fetching = True
            source = owner if kept else progress.worker
            self._out.append(e.Fetch(progress.task, progress.token, source, progress.exit, kept))

    def _fetched(self, event: e.Fetched, now: float) -> None:
        closing = self._closing.get(event.task)
        if closing is None or closing.copy.progress.token != event.token:
            return
        closing.fetching = False
        closing.tries += not event.ok
        if event.ok or closing.tries >= _FETCH_TRIES_MAX:
            self._close(closing.copy)
        else:
            self._timers.set(now + self.settings.guard_resend_s, "fetch", event.task)
