"""What may run only until a time that its node puts off again and again.

Promises: what is not put off is told to end when a sixth of its time is left, GRACE_S at most, and is killed at the
time itself, also when the node is dead. The clock counts the time that the machine sleeps, which no timer here does:
as long as there is a lease, somebody looks every LOOK_S.
"""

from __future__ import annotations

from openclaw.executor.process import TokenRow

GRACE_S = 5.0
LOOK_S = 0.25
FOREVER = float("inf")

Key = tuple[str, TokenRow]


class Leases:
    def __init__(self) -> None:
        self._until_s: dict[Key, float] = {}
        self._tell_at_s: dict[Key, float] = {}

    def __bool__(self) -> bool:
        return bool(self._until_s)

    def begin(self, task: str, token: TokenRow, until_s: float, clock_s: float) -> None:
        if until_s:
            self._put_off(_key(task, token), until_s, clock_s)

    def extend(self, task: str, token: TokenRow, until_s: float, clock_s: float) -> None:
        """Of what began with one; it never ends sooner than it was said before."""
        key = _key(task, token)
        if until_s > self._until_s.get(key, FOREVER):
            self._put_off(key, until_s, clock_s)

    def drop(self, task: str, token: TokenRow) -> None:
        self._until_s.pop(_key(task, token), None)
        self._tell_at_s.pop(_key(task, token), None)

    def ending(self, clock_s: float) -> list[tuple[str, TokenRow, float]]:
        """What has to end, and how many seconds it has left for it; told once."""
        due = [key for key, at_s in self._tell_at_s.items() if at_s <= clock_s]
        for key in due:
            del self._tell_at_s[key]
        return [(*key, max(0.0, self._until_s.pop(key) - clock_s)) for key in due]

    def _put_off(self, key: Key, until_s: float, clock_s: float) -> None:
        self._until_s[key] = until_s
        self._tell_at_s[key] = until_s - min(GRACE_S, (until_s - clock_s) / 6)


def _key(task: str, token: TokenRow) -> Key:
    takeover, owner, incarnation, attempt = token
    return task, (takeover, owner, incarnation, attempt)
