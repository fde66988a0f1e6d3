"""One simulated machine: its disk and its executor, and the node that runs on it, or not.

It keeps the runtime's contract: a bounded batch of events at one `now`, strictly later than the last; what may leave
early leaves; the stores are committed as one; then the other effects, in order. A crash may come between any two.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from openclaw.config import INBOX_BATCH_MAX
from openclaw.effects import (
    Effect,
    Event,
    Fetch,
    Fetched,
    Forget,
    Kill,
    PeerFound,
    RosterChanged,
    Run,
    Send,
    Started,
    Stopped,
    Store,
    Tick,
)
from openclaw.ids import NodeId
from openclaw.messages import EARLY
from openclaw.node import Node
from openclaw.records import Meta
from sims.disk import Disk
from sims.processes import Executor

if TYPE_CHECKING:
    from sims.world import World

TICKS_PER_BATCH_MAX = 8
EXECUTOR_ANSWERS_S = 0.01
FETCH_S = 0.02
CALM_S = 2.0


class Host:
    def __init__(self, world: World, name: str, node: NodeId, meta: Meta) -> None:
        self.world = world
        self.name = name
        self.id = node
        self.meta = meta
        self.disk = Disk()
        self.executor = Executor(world, self)
        self.node: Node | None = None
        self.starts = 0
        self._rng = world.rng(f"{name}:disk")
        self._clock_offset_s = world.rng(f"{name}:clock").random() * 1e5
        self._inbox: deque[Event] = deque()
        self._now = 0.0
        self._busy = False
        self._paused = False
        self._fuse: int | None = None
        self._down_s = 0.0
        self._wake_at = math.inf

    @property
    def running(self) -> bool:
        return self.node is not None

    @property
    def awake(self) -> bool:
        return self.running and not self._paused

    # --- what may happen to it -------------------------------------------------------------------

    def start(self) -> None:
        """Start the node's process on whatever the disk holds."""
        if self.running:
            return
        world = self.world
        self.starts += 1
        boot = f"{self.name}.{self.starts}"
        world.trace.mark(world.now, self.name, "starts")
        self.node = Node(
            self.id, boot, world.settings, lambda stream: world.rng(f"{boot}:{stream}"), self.disk.restored()
        )
        self._busy = self._paused = False
        self.post(Started(self.meta, world.wall - self._clock()))
        self.post(RosterChanged(world.roster(), world.roster_digest))
        for peer in sorted(world.hosts):
            if peer != self.id:
                self.post(PeerFound(peer))
        world.network.started(self)
        start = self.starts
        world.after(EXECUTOR_ANSWERS_S, lambda: self.executor.attach() if self.is_start(start) else None)

    def crash(self, machine: bool = False, how: str = "crashes") -> None:
        """The process ends here and now; with `machine` the executor and all that it runs end too."""
        if self.running:
            self.world.trace.mark(self.world.now, self.name, f"{how}{' with its machine' * machine}")
            self.node = None
            self._fuse = None
            self._inbox.clear()
            self.world.network.ended(self, machine)
        if machine:
            self.executor.die()
            self.executor = Executor(self.world, self)

    def crash_after(self, effects: int, down_s: float) -> None:
        """Crash when so many more effects have been performed, in the middle of whatever that is."""
        self._fuse = effects
        self._down_s = down_s

    def calm(self) -> None:
        """Whatever was still to happen to this host does not; it runs, or starts again soon."""
        self._fuse = None
        self.resume()
        self.world.after(CALM_S, self.start)

    def pause(self) -> None:
        self.world.trace.mark(self.world.now, self.name, "is paused")
        self._paused = True

    def resume(self) -> None:
        if self._paused:
            self.world.trace.mark(self.world.now, self.name, "goes on")
            self._paused = False
            self._schedule()

    def is_start(self, start: int) -> bool:
        return self.running and self.starts == start

    # --- the runtime's part ----------------------------------------------------------------------

    def post(self, event: Event) -> None:
        self._inbox.append(event)
        self._schedule()

    def post_if_running(self, event: Event) -> None:
        if self.running:
            self.post(event)

    def _clock(self) -> float:
        return self.world.now + self._clock_offset_s

    def _schedule(self) -> None:
        if not self.awake or self._busy or self.node is None:
            return
        due = self.world.now if self._inbox else self.node.next_deadline()
        if due is None:
            return
        # A hair late, so that rounding cannot make the clock stand just before the deadline.
        at = due if self._inbox else max(self.world.now, due - self._clock_offset_s + 1e-9)
        if at < self._wake_at:
            self._wake_at = at
            self.world.at(at, lambda: self._wake(at))

    def _wake(self, at: float) -> None:
        if at == self._wake_at:
            self._wake_at = math.inf
            if self.awake and not self._busy:
                self._turn()
            self._schedule()

    def _turn(self) -> None:
        effects = self._handle_all()
        stores = [effect for effect in effects if isinstance(effect, Store)]
        if not stores:
            self._perform(effects)
            return
        early = [e for e in effects if isinstance(e, Send) and isinstance(e.message, EARLY)]
        late = [
            e
            for e in effects
            if not isinstance(e, Store) and not (isinstance(e, Send) and isinstance(e.message, EARLY))
        ]
        self._busy = True
        start = self.starts
        if self._perform(early):
            fsync_s = 0.0003 + 0.004 * self._rng.random() ** 4
            self.world.after(fsync_s, lambda: self._committed(start, stores, late))

    def _handle_all(self) -> list[Effect]:
        assert self.node is not None
        now = self._now = max(math.nextafter(self._now, math.inf), self._clock())
        effects: list[Effect] = []
        for _ in range(min(len(self._inbox), INBOX_BATCH_MAX)):
            effects += self.node.handle(self._inbox.popleft(), now)
        for _ in range(TICKS_PER_BATCH_MAX):
            due = self.node.next_deadline()
            if due is None or due > now:
                break
            effects += self.node.handle(Tick(), now)
        return effects

    def _committed(self, start: int, stores: list[Store], late: Sequence[Effect]) -> None:
        if not self.is_start(start) or self._burnt():
            return
        for prop in self.world.properties:
            prop.committing(self, stores)
        for store in stores:
            self.world.trace.effect(self.world.now, self.name, store)
        self.disk.commit(stores)
        self._busy = False
        if self._perform(late):
            self._schedule()

    def _burnt(self) -> bool:
        """Whether the node ends before this effect."""
        if self._fuse is not None:
            self._fuse -= 1
            if self._fuse < 0:
                self.crash(how="crashes between two effects")
                self.world.after(self._down_s, self.start)
        return not self.running

    def _perform(self, effects: Sequence[Effect]) -> bool:
        """False when the node did not live to the end of it."""
        for effect in effects:
            if self._burnt():
                return False
            self.world.trace.effect(self.world.now, self.name, effect)
            for prop in self.world.properties:
                prop.performed(self, effect)
            match effect:
                case Send(to, message):
                    self.world.network.send(self, to, message)
                case Run():
                    self.executor.run(effect)
                case Kill():
                    self.executor.kill(effect)
                case Forget(task, token):
                    self.executor.forget(task, token)
                case Fetch():
                    self._fetch(effect)
                case Stopped():
                    self.crash(machine=not effect.keep, how="stops")
                    return False
                case _:
                    pass
        return True

    def _fetch(self, fetch: Fetch) -> None:
        worker = self.world.hosts[fetch.worker]
        start = self.starts

        def answer() -> None:
            if self.is_start(start):
                ok = worker.awake and self.world.network.clear(worker.id, self.id)
                self.post(Fetched(fetch.task, fetch.token, ok))

        self.world.after(FETCH_S, answer)
