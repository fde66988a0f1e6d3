"""Drives the core: drain, handle, commit, perform. Store precedes Send.

One batch at a time: everything that is in the inbox (bounded) is handled at one `now`, all its `Store`s are
committed as one transaction off the event loop, then the other effects are performed in their order. What arrives
meanwhile waits in the inbox, which is what makes the next commit a group commit. News that nobody waits for
(`PATIENT`) starts no batch for a moment, so that it is handled in company. Only messages in `messages.EARLY` leave
before the commit. A failed commit is a crash: nothing after it may be performed.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from openclaw.config import INBOX_BATCH_MAX, INBOX_MAX, PATIENCE_S
from openclaw.effects import Effect, Event, ProcessExited, ProcessStarted, Received, Send, Store, Tick
from openclaw.messages import EARLY, PATIENT
from openclaw.node import Node

TICKS_PER_BATCH_MAX = 8


class CoreLoop:
    """Owns the node's inbox. `post` from the event loop's thread only.

    `perform` gets the effects of a committed batch, in order; it must not block and must not raise for anything
    that a peer or a full queue can cause.
    """

    def __init__(
        self,
        node: Node,
        clock: Callable[[], float],
        commit: Callable[[Sequence[Store]], None],
        perform: Callable[[Sequence[Effect]], None],
    ) -> None:
        self._node, self._clock, self._commit, self._perform = node, clock, commit, perform
        self._inbox: deque[Event] = deque()
        self._committer = ThreadPoolExecutor(1, "store")
        self._waiter: asyncio.Future[None] | None = None
        self._hurry = False
        self._patience: asyncio.TimerHandle | None = None
        self._stopping = False
        self.now = clock()

    def post(self, event: Event) -> None:
        self._inbox.append(event)
        if not self._patient(event):
            self._wake()
        elif self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(PATIENCE_S, self._wake)

    def offer(self, event: Event) -> bool:
        """`post` what may get lost; it does while a disk that hangs lets too much pile up."""
        if len(self._inbox) >= INBOX_MAX:
            return False
        self.post(event)
        return True

    def _patient(self, event: Event) -> bool:
        """An end waits for company only where others run, of which the next may end as soon."""
        match event:
            case Received(message=message):
                return isinstance(message, PATIENT)
            case ProcessStarted():
                return True
            case ProcessExited():
                return self._node.worker.running > 1
            case _:
                return False

    def stop(self) -> None:
        """End `run` once the current batch has been performed."""
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Until `stop`. Raises what a commit raised; the process must not go on after that."""
        try:
            while not self._stopping:
                if not self._hurry:
                    await self._rest()
                self._hurry = len(self._inbox) > INBOX_BATCH_MAX
                if self._patience is not None:
                    self._patience.cancel()
                    self._patience = None
                await self._turn()
        finally:
            self._committer.shutdown()

    async def _turn(self) -> None:
        effects = self._handle_all()
        stores = [effect for effect in effects if isinstance(effect, Store)]
        if not stores:
            self._perform(effects)
            return
        early = [
            effect for effect in effects if isinstance(effect, Send) and isinstance(effect.message, EARLY)
        ]
        if early:
            self._perform(early)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._committer, self._commit, stores)
        self._perform(
            [
                effect
                for effect in effects
                if not isinstance(effect, Store)
                and not (isinstance(effect, Send) and isinstance(effect.message, EARLY))
            ]
        )

    def _handle_all(self) -> list[Effect]:
        # Strictly later than the last batch: the machines rely on a commit between two different instants.
        now = self.now = max(math.nextafter(self.now, math.inf), self._clock())
        effects: list[Effect] = []
        for _ in range(min(len(self._inbox), INBOX_BATCH_MAX)):
            effects += self._node.handle(self._inbox.popleft(), now)
        for _ in range(TICKS_PER_BATCH_MAX):
            due = self._node.next_deadline()
            if due is None or due > now:
                break
            effects += self._node.handle(Tick(), now)
        return effects

    async def _rest(self) -> None:
        """Until something is posted or the core's next deadline has come."""
        due = self._node.next_deadline()
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = None if due is None else loop.call_later(max(0.0, due - self._clock()), self._wake)
        try:
            await self._waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()

    def _wake(self) -> None:
        self._hurry = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
