"""One start of a node: the process around the core, with the real runtime's contract.

A bounded batch of events at one `now`, strictly later than the last; what may leave early leaves; the stores are
committed as one; then the other effects, in order. The process may end between any two of them, or stand still.
A commit that fails ends it, as `openclaw.runtime.loop` does: nothing that should follow is performed.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openclaw.config import INBOX_BATCH_MAX, INBOX_MAX
from openclaw.effects import (
    Effect,
    Event,
    Extend,
    Fetch,
    Fetched,
    Forget,
    Kill,
    Recall,
    Recalled,
    Received,
    Redial,
    Run,
    Send,
    Stopped,
    Store,
    Tick,
)
from openclaw.messages import EARLY
from openclaw.node import Node
from openclaw.notes import Cloned, Forgotten
from sims.disk import Full

if TYPE_CHECKING:
    from sims.host import Host
    from sims.shared import Shared

TICKS_PER_BATCH_MAX = 8
FETCH_S = 0.02
HAIR_S = 1e-9  # so that rounding cannot make the clock stand just before the deadline


class Runtime:
    def __init__(self, host: Host, node: Node, wall_offset_s: float) -> None:
        self.node = node
        self.wall_offset_s = wall_offset_s
        self.alive = True
        self.fuse: int | None = None
        self.on_fuse: Callable[[], None] | None = None
        self.forgetting = False  # asked to delete something, and has not answered yet
        self._host = host
        self._world = host.world
        self._hooks = host.world.hooks
        self._inbox: deque[Event] = deque()
        self._now = 0.0
        self._due: float | None = None
        self._committing: list[Store] | None = None
        self._standing: Callable[[], None] | None = None
        self._wake_at = math.inf
        self._alarm_at = math.inf  # on the world's heap, for a deadline; that may be later by now

    # --- the inbox -------------------------------------------------------------------------------

    def post(self, event: Event) -> None:
        self._inbox.append(event)
        if self._committing is None:
            self.schedule()

    def offer(self, event: Received) -> bool:
        """`post` what may get lost; it does while too much piles up."""
        if len(self._inbox) >= INBOX_MAX:
            return False
        self.post(event)
        return True

    def schedule(self) -> None:
        """Wake up when there is something to do, unless that is arranged already."""
        host = self._host
        if self._committing is not None or not self.alive or not host.awake:
            return
        now = self._world.now
        if self._inbox:
            at = now
        elif self._due is not None:
            at = max(now, host.clock.when(self._due) + HAIR_S)
        else:
            return
        if host.lag_s:
            at += host.late_s()
        if at < self._wake_at:
            self._wake_at = at
            if at < self._alarm_at:
                self._arm(at, now)

    def _arm(self, at: float, now: float) -> None:
        """A message's wake leaves the alarm as it is: usually the deadline is still the same after it."""
        if at > now:
            self._alarm_at = at
        self._world.at(at, self._wake)

    def go_on(self) -> None:
        """The process runs again: whatever a commit had left to do comes first."""
        self._wake_at = math.inf
        standing, self._standing = self._standing, None
        if standing is not None:
            standing()
        else:
            self.schedule()

    def retime(self) -> None:
        """The clock runs at another rate: deadlines are at other times of the world."""
        self._wake_at = math.inf
        self.schedule()

    def _wake(self) -> None:
        now = self._world.now
        if now == self._alarm_at:
            self._alarm_at = math.inf
        if now != self._wake_at or not self.alive:
            if self.alive and self._wake_at < self._alarm_at:
                self._arm(self._wake_at, now)
            return
        self._wake_at = math.inf
        if self._committing is None and self._host.awake:
            shared = self._world.shared
            if shared is None:
                self._perform_batch(self._handle_all())
                self.schedule()
            elif (free_at := shared.free_at) > now:
                self._wake_at = free_at
                self._arm(free_at, now)
            else:
                self._work(shared)

    # --- one batch -------------------------------------------------------------------------------

    def _work(self, shared: Shared) -> None:
        """A batch whose effects leave when a core has worked on it for as long as it takes."""
        took_s = shared.spend(self._inbox, self._world.now)
        effects = self._handle_all()
        self._committing = []
        self._world.after(took_s, lambda: self._worked(effects))

    def _worked(self, effects: list[Effect]) -> None:
        if not self.alive:
            return
        if not self._host.awake:
            self._standing = lambda: self._worked(effects)
            return
        self._committing = None
        self._perform_batch(effects)
        self.schedule()

    def _perform_batch(self, effects: list[Effect]) -> None:
        stores = [effect for effect in effects if type(effect) is Store]
        if not stores:
            self._perform(effects)
            return
        early: list[Effect] = []
        late: list[Effect] = []
        for effect in effects:
            if type(effect) is Send and isinstance(effect.message, EARLY):
                early.append(effect)
            elif type(effect) is not Store:
                late.append(effect)
        self._committing = stores
        if self._perform(early):
            self._world.after(self._host.fsync_s(), lambda: self._synced(stores, late))

    def _handle_all(self) -> list[Effect]:
        node, inbox = self.node, self._inbox
        now = self._now = max(math.nextafter(self._now, math.inf), self._host.clock.read(self._world.now))
        effects: list[Effect] = []
        for _ in range(min(len(inbox), INBOX_BATCH_MAX)):
            effects += self._handle(inbox.popleft(), now)
        due = node.next_deadline()
        for _ in range(TICKS_PER_BATCH_MAX):
            if due is None or due > now:
                break
            effects += self._handle(Tick(), now)
            due = node.next_deadline()
        self._due = due
        return effects

    def _handle(self, event: Event, now: float) -> list[Effect]:
        effects = self.node.handle(event, now)
        self._hooks.handled(self._host, event, effects)
        return effects

    def _synced(self, stores: list[Store], late: Sequence[Effect]) -> None:
        """The disk has done its part: the process learns of it when it runs."""
        if not self.alive:
            return
        host = self._host
        if host.disk.stalled or not host.awake:
            self._standing = lambda: self._synced(stores, late)
            return
        if self._burnt():
            return
        try:
            host.commit(stores)
        except Full:
            host.crash(how="ends: its disk is full")
            host.start_later()
            return
        self._committing = None
        if self._perform(late):
            self.schedule()

    def _burnt(self) -> bool:
        """Whether the process ends before this effect."""
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0 and self.on_fuse is not None:
                self._committing = None  # that effect has not happened: nothing of it is on the disk
                self.on_fuse()
        return not self.alive

    def _perform(self, effects: Sequence[Effect]) -> bool:
        """False when the process did not live to the end of it."""
        world, host = self._world, self._host
        for effect in effects:
            if self.fuse is not None and self._burnt():
                return False
            world.trace.effect(world.now, host.name, effect)
            self._hooks.performed(host, effect)
            if type(effect) is Send:
                world.network.send(host, effect.to, effect.message)
            else:
                self._one(effect)
                if not self.alive:
                    return False
        return True

    def _one(self, effect: Effect) -> None:
        host = self._host
        match effect:
            case Run():
                host.executor.run(effect)
            case Extend():
                host.executor.extend(effect)
            case Kill():
                host.executor.kill(effect)
            case Redial(peer):
                host.world.network.redial(host, peer)
            case Forget(task, token):
                host.executor.forget(task, token)
            case Fetch():
                self._fetch(effect)
            case Recall(number, tasks):
                self.post(Recalled(number, host.disk.ends(tasks)))
            case Stopped(keep):
                host.stopped(keep)
            case Cloned(boot):
                host.rivals.add(boot)
            case Forgotten():
                self.forgetting = False
            case _:
                pass

    def _fetch(self, fetch: Fetch) -> None:
        """Ask the worker's files; they may be gone, as after a restored backup."""
        world, host = self._world, self._host
        worker = world.network.machine(host, fetch.worker)

        def answer() -> None:
            if not self.alive:
                return
            there = worker is not None and worker.awake and world.network.joined(host, worker)
            kept = there and worker is not None and (fetch.task, fetch.token) in worker.disk.outputs
            self.post(Fetched(fetch.task, fetch.token, kept, gone=there and not kept))

        world.after(FETCH_S + world.network.carry_s(fetch.exit.stdout_size), answer)

    # --- its end ---------------------------------------------------------------------------------

    def end(self) -> list[Store]:
        """The process is no more. What was on its way to the disk may have arrived there, or not."""
        self.alive = False
        self._inbox.clear()
        unsure, self._committing = self._committing, None
        return unsure or []
