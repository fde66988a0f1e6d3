"""Ends process groups when the executor that started them dies, by whatever death: a small shell that hears of it last.

Promises: what is watched and not released is killed as soon as this process is gone; the shell itself is started when
it is first needed, in a session of its own, and goes with us. A death between a start and `watch` is not covered.
"""

from __future__ import annotations

import os

_SHELL = "/bin/sh"
_SCRIPT = """
all=
while read -r word group; do
    if [ "$word" = + ]; then all="$all $group"; continue; fi
    left=
    for one in $all; do [ "$one" = "$group" ] || left="$left $one"; done
    all=$left
done
for group in $all; do kill -KILL "-$group"; done
"""


class Warden:
    def __init__(self) -> None:
        self._pipe = -1
        self._watched: set[int] = set()

    def prepare(self) -> None:
        """So that `watch` takes no time. Raises OSError where there can be no shell."""
        if self._pipe < 0:
            self._start()

    def watch(self, group: int) -> None:
        """Raises OSError where there can be no shell."""
        self._watched.add(group)
        if self._pipe < 0 or not self._say("+", group):
            self._start()

    def release(self, group: int) -> None:
        """Before its number can be another's: while its leader is not waited for."""
        if group in self._watched:
            self._watched.remove(group)
            self._say("-", group)

    def _start(self) -> None:
        """One that hears of all that is watched; another, if somebody ended the one before."""
        reading, self._pipe = os.pipe()
        actions = ((os.POSIX_SPAWN_DUP2, reading, 0),)
        try:
            os.posix_spawn(_SHELL, [_SHELL, "-c", _SCRIPT], {}, file_actions=actions, setsid=True)
        finally:
            os.close(reading)
        for group in self._watched:
            self._say("+", group)

    def _say(self, word: str, group: int) -> bool:
        try:
            os.write(self._pipe, f"{word} {group}\n".encode())
        except BrokenPipeError:
            return False
        return True
