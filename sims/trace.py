"""What happened, in order: a hash over all of it, the last lines for people, and counts.

Two runs of one seed are the same run exactly when their hashes are equal. Whoever wants to see all of it (the
timeline, the marks, the measuring) adds an observer; while there is none, none costs anything.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable

import msgspec

from openclaw.effects import Effect, Send

LINES_KEPT = 60

Observer = Callable[[float, str, object], None]
"""Called with the world's time, the host's name, and an `Effect` or the words of a mark."""

_encode = msgspec.msgpack.Encoder().encode


class Trace:
    def __init__(self) -> None:
        self.observers: list[Observer] = []
        self._hash = hashlib.sha256()
        self._last: deque[tuple[float, str, object]] = deque(maxlen=LINES_KEPT)
        self.counts: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.sent_bytes = 0

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def effect(self, at: float, who: str, effect: Effect) -> None:
        line = _encode((at, who, type(effect).__name__, effect))
        self._hash.update(line)
        self._last.append((at, who, effect))
        self.counts["effects"] += 1
        if type(effect) is Send:
            self.sent[type(effect.message).__name__] += 1
            self.sent_bytes += len(line)
        for observer in self.observers:
            observer(at, who, effect)

    def mark(self, at: float, who: str, what: str) -> None:
        """A fault, a start, an end: what the world did."""
        self._hash.update(f"{at!r} {who} {what}".encode())
        self._last.append((at, who, what))
        for observer in self.observers:
            observer(at, who, what)

    def last(self) -> list[str]:
        """The last lines before now, oldest first."""
        return [f"{at:10.4f} {who:>4} {str(what)[:240]}" for at, who, what in self._last]
