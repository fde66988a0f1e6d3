"""Errors, for people: what happened, where, what to do next.

A peer's junk never raises past `wire`: it is counted and dropped. What raises is our own misuse
(`IllegalMove`) or something a person can mend (`MeshError` and what derives from it).
"""

from __future__ import annotations


class MeshError(Exception):
    """Something a person can mend. `kind` is stable for scripts, `exit_code` is the command line's."""

    kind = "error"
    exit_code = 1

    def __init__(self, message: str, *, kind: str | None = None, exit_code: int | None = None) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind
        if exit_code is not None:
            self.exit_code = exit_code


class Unavailable(MeshError):
    """The mesh could not do it: nothing eligible, refused, no node running here."""

    kind = "unavailable"
    exit_code = 125


class BadToken(MeshError):
    """An invite token that cannot be used; the message says why and who can make another."""

    kind = "bad_token"
    exit_code = 125


class BadState(MeshError):
    """A state folder that this node must not use; the message has the line that mends it."""

    kind = "bad_state"
    exit_code = 125


class Junk(Exception):
    """Bytes from a peer that mean nothing. Raised by `wire` alone; whoever receives counts and drops."""


class IllegalMove(AssertionError):
    """Our own code moved a task against the table. Carries the task's story."""
