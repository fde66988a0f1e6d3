"""What an attempt's end means for its task.

Promises: a result is never invented, and only what the command itself did (or its time limit) counts against
`--retries`; an attempt that was ended by the mesh runs again elsewhere, but never under `--once`.
"""

from __future__ import annotations

from openclaw.records import Exit, Progress, State, Submission

INTERRUPTED = frozenset({"stop", "orphaned", "superseded", "lease"})
"""Ended by the mesh and not by itself, its limit or a person."""


def ran(exit: Exit) -> bool:
    """Whether the command came to its own end: what a second final would be."""
    return exit.ended_by in ("", "timeout")


def verdict(submission: Submission, progress: Progress, exit: Exit, *, current: bool) -> State | None:
    """The state that follows: a final, RETRYING or QUEUED.

    None for an attempt that is not the `current` one and has nothing to tell: whatever replaced it goes on.
    """
    cancelling = progress.state is State.CANCELLING
    if exit.ended_by in INTERRUPTED:
        if not current:
            return None
        if cancelling:
            return State.CANCELLED
        return State.LOST if submission.once else State.QUEUED
    if exit.ended_by == "cancel":
        return State.CANCELLED if current else None
    if exit.ended_by == "" and exit.code == 0:
        return State.SUCCEEDED
    final = State.TIMED_OUT if exit.ended_by == "timeout" else State.FAILED
    again = progress.failures < submission.retries and not cancelling and not submission.once and ran(exit)
    if not again:
        return final
    return State.RETRYING if current else None


def explain(exit: Exit) -> str:
    """The end in words, for the story."""
    match exit.ended_by:
        case "timeout":
            return "it took longer than its time limit"
        case "cancel":
            return "cancelled"
        case "stop":
            return "its node was stopped"
        case "orphaned":
            return exit.error or "its node or executor was gone"
        case "lease":
            return exit.error or "its lease was over, and its owner was silent"
        case "superseded":
            return "ended in favour of another attempt"
        case "":
            return "" if exit.code == 0 else f"exit code {exit.code}"
        case _:
            return exit.error or f"it could not be started ({exit.ended_by})"
