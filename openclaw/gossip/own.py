"""What this node says of itself, and the promise that none of it is said before it is on disk.

Pings and acks may leave before the commit of the batch that they were made in, so a head may only carry what
an earlier batch stored. All events of a batch have the same `now`, and a commit lies between two different
ones: a `Staged` value is therefore spoken only at a later instant than the one that set it. Until a node's
first incarnation can be spoken it sends nothing at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from openclaw.effects import Effect, Store
from openclaw.ids import NO_EPOCH, Epoch, Incarnation, NodeId
from openclaw.messages import Rumour, Status
from openclaw.notes import Cloned, IncarnationRaised
from openclaw.records import Meta, Number, Table

T = TypeVar("T")

RIVALS_MAX = 16


@dataclass(slots=True)
class Staged(Generic[T]):
    """A value that is stored in the batch that sets it, and spoken from the next instant on."""

    latest: T
    spoken_before: T
    staged_at: float | None = None

    def set(self, value: T, now: float) -> None:
        if self.staged_at != now:
            self.spoken_before = self.latest
        self.latest = value
        self.staged_at = now

    def spoken(self, now: float) -> T:
        if self.staged_at is None or now > self.staged_at:
            return self.latest
        return self.spoken_before


class Own:
    """Our incarnation, metadata version and epoch. Counters only rise, and are stored as they do."""

    def __init__(self, me: NodeId, boot: str, incarnation_stored: int, meta_version_stored: int) -> None:
        self.me = me
        self.boot = boot
        self.meta = Meta()
        self.leaving = False
        self.back_soon = False
        self._said: Rumour | None = None
        self.epoch: Staged[Epoch] = Staged(NO_EPOCH, NO_EPOCH)
        self._counter = incarnation_stored
        self._version = meta_version_stored
        self._staged: Staged[tuple[Incarnation, int] | None] = Staged(None, None)
        self._rivals: dict[str, int] = {}

    @property
    def incarnation(self) -> Incarnation:
        return Incarnation(self._counter, self.boot)

    @property
    def version(self) -> int:
        return self._version

    def start(self, meta: Meta, now: float, out: list[Effect]) -> None:
        """A new start is a new incarnation, and whatever is published now is news."""
        self._raise_version(self._version + 1, out)
        self.meta = meta
        self.raise_over(self._counter, now, out)

    def publish(self, meta: Meta, now: float, out: list[Effect]) -> None:
        self.meta = meta
        self._raise_version(self._version + 1, out)
        self._stage(now)

    def raise_over(self, counter: int, now: float, out: list[Effect]) -> None:
        self._counter = max(counter, self._counter) + 1
        out.append(Store(Table.META, "incarnation", Number(self._counter)))
        out.append(IncarnationRaised(self.incarnation))
        self._stage(now)

    def spoken(self, now: float) -> Rumour | None:
        """What we may say of ourselves at this instant; None until the first incarnation is on disk."""
        may_say = self._staged.spoken(now)
        if may_say is None:
            return None
        incarnation, version = may_say
        said = self._said
        if said is None or said.incarnation is not incarnation or said.meta_version != version:
            status = Status.LEFT if self.leaving and not self.back_soon else Status.ALIVE
            said = self._said = Rumour(self.me, incarnation, status, version, back_soon=self.back_soon)
        return said

    def leave(self, *, back_soon: bool) -> None:
        self.leaving, self.back_soon = True, back_soon
        self._said = None

    def all_spoken(self, now: float) -> bool:
        """Whether the newest that there is to say of ourselves can be said at this instant."""
        return self._staged.spoken(now) == self._staged.latest

    def answer(self, rumour: Rumour, now: float, out: list[Effect]) -> bool:
        """Outbid what others hold on us: our own past from before a restored backup, or an accusation.

        A boot that is not ours and comes back higher after it was outbid is alive: our key is on two machines.
        """
        theirs = rumour.incarnation
        news = False
        if rumour.meta_version > self._version:
            self._raise_version(rumour.meta_version + 1, out)
            self._stage(now)
            news = True
        if theirs.counter < self._counter or self.leaving:
            return news
        if theirs.boot != self.boot:
            if theirs.counter > self._rivals.get(theirs.boot, theirs.counter):
                out.append(Cloned(theirs.boot))
            self._remember_rival(theirs)
        elif theirs.counter == self._counter and rumour.status is Status.ALIVE:
            return news
        self.raise_over(theirs.counter, now, out)
        return True

    def _remember_rival(self, theirs: Incarnation) -> None:
        self._rivals[theirs.boot] = theirs.counter
        while len(self._rivals) > RIVALS_MAX:
            self._rivals.pop(next(iter(self._rivals)))

    def _raise_version(self, version: int, out: list[Effect]) -> None:
        self._version = version
        out.append(Store(Table.META, "meta_version", Number(version)))

    def _stage(self, now: float) -> None:
        self._staged.set((self.incarnation, self._version), now)
