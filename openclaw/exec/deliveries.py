"""A worker's outcomes on their way to their owners.

Promises: an outcome is sent until its owner acknowledges it; not to an owner that is down, and not faster
than the pause between two attempts, which doubles while nothing is acknowledged.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from openclaw import messages as m
from openclaw.config import Settings
from openclaw.effects import Effect, Send
from openclaw.ids import NodeId, TaskId
from openclaw.records import Exit

_OUTCOME_OVERHEAD_BYTES = 256
_FILE_OVERHEAD_BYTES = 96
_RESENT_AT_ONCE_MAX = 512
_PAUSE_DOUBLINGS_MAX = 5


@dataclass(slots=True)
class _Line:
    """One owner's outcomes: `fresh` were never sent; `sent` by when they were, oldest first."""

    fresh: list[m.Outcome] = field(default_factory=list)
    sent: OrderedDict[TaskId, tuple[m.Outcome, float]] = field(default_factory=OrderedDict)
    pause_s: float = 0.0


class Deliveries:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lines: dict[NodeId, _Line] = {}

    def add(self, owner: NodeId, outcome: m.Outcome) -> None:
        line = self._lines.setdefault(owner, _Line(pause_s=self._settings.outcome_resend_s))
        line.fresh.append(outcome)

    def acknowledged(self, owner: NodeId, task: TaskId) -> m.Outcome | None:
        """It is not sent any more. Gives back what that was."""
        line = self._lines.get(owner)
        if line is None:
            return None
        line.pause_s = self._settings.outcome_resend_s
        outcome, _ = line.sent.pop(task, (None, 0.0))
        if outcome is None:
            outcome = next((outcome for outcome in line.fresh if outcome.task == task), None)
            line.fresh = [outcome for outcome in line.fresh if outcome.task != task]
        if not line.sent and not line.fresh:
            del self._lines[owner]
        return outcome

    def back(self, owner: NodeId) -> None:
        """`owner` is alive again: everything that it did not acknowledge is fresh."""
        line = self._lines.get(owner)
        if line is not None:
            line.fresh = [outcome for outcome, _ in line.sent.values()] + line.fresh
            line.sent.clear()
            line.pause_s = self._settings.outcome_resend_s

    def flush(self, now: float, alive: Callable[[NodeId], bool]) -> list[Effect]:
        """What is to be sent now: the fresh, and what has waited its pause."""
        effects: list[Effect] = []
        for owner, line in self._lines.items():
            if alive(owner):
                outcomes = self._overdue(line, now) + line.fresh
                line.fresh = []
                line.sent.update((outcome.task, (outcome, now)) for outcome in outcomes)
                effects.extend(Send(owner, message) for message in self._pack(outcomes))
        return effects

    def next(self, alive: Callable[[NodeId], bool]) -> float | None:
        due = [
            next(iter(line.sent.values()))[1] + line.pause_s
            for owner, line in self._lines.items()
            if line.sent and alive(owner)
        ]
        return min(due, default=None)

    def _overdue(self, line: _Line, now: float) -> list[m.Outcome]:
        overdue: list[m.Outcome] = []
        while line.sent and len(overdue) < _RESENT_AT_ONCE_MAX:
            outcome, sent_s = next(iter(line.sent.values()))
            if sent_s + line.pause_s > now:
                break
            del line.sent[outcome.task]
            overdue.append(outcome)
        if overdue:
            longest_s = self._settings.outcome_resend_s * 2**_PAUSE_DOUBLINGS_MAX
            line.pause_s = min(2 * line.pause_s, longest_s)
        return overdue

    def _pack(self, outcomes: list[m.Outcome]) -> list[m.Outcomes]:
        messages: list[m.Outcomes] = []
        items: list[m.Outcome] = []
        size = 0
        for outcome in outcomes:
            weight = _weight(outcome.exit)
            full = len(items) >= self._settings.outcomes_per_message_max
            if items and (full or size + weight > self._settings.assign_bytes_max):
                messages.append(m.Outcomes(tuple(items)))
                items, size = [], 0
            items.append(outcome)
            size += weight
        if items:
            messages.append(m.Outcomes(tuple(items)))
        return messages


def _weight(exit: Exit) -> int:
    """About how many bytes an outcome is in its message, rather too many."""
    files = sum(_FILE_OVERHEAD_BYTES + len(file.name.encode()) for file in exit.outputs)
    return len(exit.stdout) + len(exit.stderr) + len(exit.result) + files + _OUTCOME_OVERHEAD_BYTES
