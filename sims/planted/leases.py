"""Bugs in the leases of tasks that must not overlap."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from openclaw.exec import leases, ledger
from sims.planted.base import Mutant
from sims.planted.worlds import leased


def forgotten(true: Any) -> Any:  # noqa: ARG001
    return lambda self, entry, now: None  # noqa: ARG005


def long(true: Any) -> Any:
    return lambda self, message, sender: true(self, replace(message, lease_s=100 * message.lease_s), sender)


def from_the_answer(true: Any) -> Any:
    """Whatever was asked a moment ago is taken for asked now."""

    def granted(self: Any, message: Any, sender: Any) -> Any:
        asked_s = self._asked_s.get(message.number)
        if asked_s is not None:
            self._asked_s[message.number] = asked_s + message.lease_s
        return true(self, message, sender)

    return granted


LEASES = (
    Mutant(
        "leases forgotten by their owner",
        "what was leased is started elsewhere only when that lease is over",
        ("no overlap",),
        ledger.Ledger,
        "lease",
        forgotten,
        leased,
    ),
    Mutant(
        "leases that do not end",
        "a worker runs nothing past its lease",
        ("no overlap",),
        leases.Leases,
        "granted",
        long,
        leased,
    ),
    Mutant(
        "leases from the answer on",
        "a lease counts from when it was asked for",
        ("no overlap",),
        leases.Leases,
        "granted",
        from_the_answer,
        leased,
    ),
)
