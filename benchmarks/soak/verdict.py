"""What a soak found: what was lost, changed or started twice, in numbers and in words."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.local_mesh import Doc, Failed, wait_until
from benchmarks.soak.book import Book, Checker
from benchmarks.soak.weigh import Growth
from benchmarks.starts import Ledger, Start, account, duplicates

SHOWN_MAX = 20
FLAT_FROM_MINUTES = 30.0  # nodes look every ten minutes what they may forget: before that it says little
FLAT_RATIO_MAX = 1.25
NAMED = re.compile(r"\b(node |owner )[a-z2-7]{8}|\b\d+\b")


@dataclass(slots=True)
class Verdict:
    """`failures` are what may not be; the rest is counted and shown."""

    minutes: float
    seed: int
    accepted: dict[str, int] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)
    starts: int = 0
    without_guardian: int = 0
    unanswered: int = 0
    taken_over: int = 0
    duplicate_starts: int = 0
    duplicate_reasons: dict[str, int] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)
    growths: list[Growth] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def document(self) -> Doc:
        return asdict(self)

    def lines(self) -> list[str]:
        killed = ", ".join(f"{count} × {what}" for what, count in sorted(self.deaths.items()))
        return [
            f"{self.minutes:g} minutes, seed {self.seed}: {sum(self.accepted.values())} tasks accepted "
            f"({self.without_guardian} before they had a guardian), {sum(self.ended.values())} ended, the same from "
            f"every node: {self.ended}",
            f"kinds: {self.accepted}",
            f"killed with -9: {killed or 'nothing'}; {self.unanswered} tasks were submitted to a node that died "
            f"before it answered; {self.taken_over} had another owner in the end",
            f"{self.starts} starts, {self.duplicate_starts} of them duplicates; "
            f"of so many tasks each because: {self.duplicate_reasons}",
            *self.accounts[:SHOWN_MAX],
            *(
                f"{each.what}: {each.before_mb} MB in the second quarter, {each.after_mb} MB in the last, "
                f"{each.ratio:.2f}× (worst node {each.worst}×)"
                for each in self.growths
            ),
            *(f"FAILED: {text}" for text in self.failures),
            "nothing lost" if not self.failures else f"{len(self.failures)} failures",
        ]


def judge(verdict: Verdict, book: Book, checker: Checker, ledger: Ledger, errors: Path) -> None:
    """Once every node is up, and whatever could end has ended."""
    verdict.accepted = dict(sorted(book.accepted.items()))
    verdict.ended = dict(sorted(Counter(end[0] for _, end, _ in book.ends.values()).items()))
    verdict.without_guardian, verdict.unanswered = book.without_guardian, book.unanswered
    verdict.taken_over = sum(doc["takeover"] > 0 for _, _, doc in book.ends.values())
    fails = verdict.failures
    fails += [f"{t.kind} {t.id} has no end: {checker.doubts.get(t.id)}" for t in book.open.values()]
    fails += book.problems
    fails += [f"changed: {text}" for text in checker.changed()]
    fails += [f"refused {count} tasks: {text}" for text, count in book.refused.items()]
    starts = ledger.starts()
    verdict.starts = sum(map(len, starts.values()))
    _judge_starts(verdict, book, starts)
    try:
        wait_until(lambda: not running(starts), "every command to be gone")
    except Failed:
        fails += [f"{start.task} still runs as process {start.pid}: {start}" for start in running(starts)]
    traces = [text for text in (tracebacks(path) for path in sorted(errors.glob("*.log"))) if text]
    fails += traces
    if verdict.minutes >= FLAT_FROM_MINUTES:
        fails += [f"not flat: {each}" for each in verdict.growths if each.ratio > FLAT_RATIO_MAX]


def _judge_starts(verdict: Verdict, book: Book, starts: dict[str, list[Start]]) -> None:
    reasons: Counter[str] = Counter()
    for task, attempts in starts.items():
        if attempts[0].tag == "once" and len(attempts) > 1:
            verdict.failures.append(f"--once {task} started {len(attempts)} times")
        count = duplicates(attempts)
        if not count:
            continue
        verdict.duplicate_starts += count
        if task not in book.ends:
            reasons["of a task whose acceptance nobody heard"] += count
            continue
        doc = book.ends[task][2]
        reasons.update(why(doc))
        verdict.accounts.append(account(doc, attempts))
    for task, end, _ in book.ends.values():
        if end[0] == "succeeded" and task.wanted.ledger and task.id not in starts:
            verdict.failures.append(f"{task.kind} {task.id} succeeded and never started")
    verdict.duplicate_reasons = dict(reasons.most_common())


def why(doc: Doc) -> set[str]:
    """The moves that led to another start, without names."""
    again = [
        str(move["reason"])
        for move in doc["story"][1:]
        if move["state"] in ("queued", "retrying") and move["reason"]
    ]
    plain = {NAMED.sub(lambda found: f"{found[1] or ''}N", reason) for reason in again}
    return plain or {"another owner gave it out as well"}


def running(starts: dict[str, list[Start]]) -> list[Start]:
    """Commands of ours that are still there, by what stands in their environment."""
    found = []
    for attempts in starts.values():
        for start in attempts:
            if start.code is None and start.run.encode() in environ(start.pid):
                found.append(start)
    return found


def environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def tracebacks(path: Path) -> str:
    """The last traceback that a node wrote to its standard error, if there is one."""
    _, found, rest = path.read_text(errors="replace").rpartition("Traceback (most recent call last)")
    return f"{path.name}: {found}{rest[:2000]}" if found else ""
