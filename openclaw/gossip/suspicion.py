"""How long a suspect has to speak up.

Lifeguard's arithmetic: one accuser may itself be ill, so its suspicion starts at the longest timeout and
falls, by the logarithm of independent accusers, to the shortest. Where nobody else is left who could accuse,
as in a mesh of two, waiting for them is pointless and the shortest holds from the start.

Evidence (a refused dial, another's verdict) sets a short confirmation instead, which a fresh ping must fail:
evidence alone is no verdict. Nor is silence to which no question of ours belongs: hearsay that we could not ask
about yet, or a suspect that answered and was asked nothing since, is a question first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import log

from openclaw.config import Settings
from openclaw.ids import NodeId


@dataclass(slots=True)
class Suspicion:
    """An open accusation of one member. Any answer of the suspect to a ping made since reopens the wait."""

    started: float  # of the wait
    since: float  # of the doubt: an answer to what was asked earlier says nothing
    accusers: set[NodeId] = field(default_factory=set)
    confirm_at: float | None = None
    asked: bool = False  # by us, since it last spoke or evidence came in
    not_before: float = float("-inf")  # what it is asked has time to be answered
    call_at: float = float("inf")  # when it is called next, beside the questions
    calls: dict[int, float] = field(default_factory=dict)  # when it was called, by number; the latest few

    def deadline(self, witnesses: int, settings: Settings) -> float:
        """When the suspect is down unless it spoke; `witnesses` others could still accuse it."""
        needed = min(settings.indirect_probes, witnesses)
        timed = self.started + timeout_s(len(self.accusers) - 1, needed, settings)
        return max(self.not_before, timed if self.confirm_at is None else min(timed, self.confirm_at))

    def ask(self, now: float, settings: Settings) -> None:
        """A question of ours is open from here on."""
        if not self.asked:
            self.asked = True
            self.wait(now, settings)

    def wait(self, now: float, settings: Settings) -> None:
        """No verdict before an answer to what is asked now could be here."""
        at = self.confirm_at
        self.not_before = now + (settings.suspect_s_min if at is None else at - self.started)

    def called(self, seq: int, now: float, settings: Settings) -> None:
        """Beside the questions: a lack of an answer accuses nobody, an answer in its time counts like another's."""
        self.call_at = now + settings.probe_timeout_s
        patience_s = settings.probe_timeout_s + settings.indirect_timeout_s
        self.calls = {n: at for n, at in self.calls.items() if now - at < patience_s} | {seq: now}

    def confirm(self, now: float, wait_s: float) -> None:
        """Evidence came in: only an answer to what is asked from now on counts against it."""
        self.started = self.since = now
        self.confirm_at = now + wait_s
        self.asked = False

    def reopen(self, now: float) -> None:
        """The suspect answered us: what was said before is void, until it is said again."""
        self.started = self.since = now
        self.accusers.clear()
        self.confirm_at = None
        self.asked = False

    def shift(self, gap_s: float) -> None:
        """Time in which this node did not run is not time in which the suspect was silent."""
        self.started += gap_s
        self.not_before += gap_s
        if self.confirm_at is not None:
            self.confirm_at += gap_s


def timeout_s(confirmations: int, needed: int, settings: Settings) -> float:
    """From the longest timeout at no confirmation down to the shortest at `needed` of them."""
    shortest, longest = settings.suspect_s_min, settings.suspect_s_max
    if needed <= 0:
        return shortest
    share = log(max(confirmations, 0) + 1) / log(needed + 1)
    return max(shortest, longest - (longest - shortest) * share)
