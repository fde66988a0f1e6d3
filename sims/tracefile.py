"""Trace files (`openclaw.trace`) read for the timeline: several nodes' files become one sequence of rows.

Real nodes write the time of their own machines. Where that makes a message arrive before it was sent, the clocks
are brought together as NTP would: half the difference of the fastest way there and the fastest way back.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from openclaw.trace import AnyRow, ReceiveRow, SendRow, TraceRow, decode

Ways = dict[tuple[str, str], float]
"""The fastest message from one node to another, by their own clocks."""


def read(path: Path) -> list[AnyRow]:
    """The rows of one file in the order of their time. Raises `ValueError` for what is no trace."""
    with path.open("rb") as file:
        rows = [row for line in file if (row := decode(line)) is not None]
    if not rows or not isinstance(rows[0], TraceRow):
        raise ValueError(f'{path} is no trace: its first line is not a row with "do": "trace"')
    return sorted(rows, key=lambda row: row.at)


def merge(files: Sequence[list[AnyRow]]) -> Iterable[AnyRow]:
    """One sequence in the order of time, on the clock of the first file's node."""
    ahead = _ahead(_ways(row for rows in files for row in rows), files[0][0].node)
    shifted = [
        [
            msgspec.structs.replace(row, at=row.at - ahead[row.node]) if ahead.get(row.node) else row
            for row in rows
        ]
        for rows in files
    ]
    return heapq.merge(*shifted, key=lambda row: row.at)


def _ways(rows: Iterable[AnyRow]) -> Ways:
    sent: dict[tuple[str, str, str], deque[float]] = defaultdict(deque)
    came: list[ReceiveRow] = []
    for row in rows:
        if isinstance(row, SendRow):
            sent[row.node, row.to, row.id].append(row.at)
        elif isinstance(row, ReceiveRow):
            came.append(row)
    ways: Ways = {}
    for row in sorted(came, key=lambda row: row.at):
        if times := sent.get((row.sender, row.node, row.id)):
            took = row.at - times.popleft()
            way = (row.sender, row.node)
            ways[way] = min(took, ways.get(way, took))
    return ways


def _ahead(ways: Ways, first: str) -> dict[str, float]:
    """How far each clock is ahead of the first node's; nothing when no message went back in time."""
    if all(took >= 0 for took in ways.values()):
        return {}
    ahead, known = {first: 0.0}, deque([first])
    while known:
        near = known.popleft()
        for a, far in sorted(ways):
            if a == near and far not in ahead and (far, near) in ways:
                ahead[far] = ahead[near] + (ways[near, far] - ways[far, near]) / 2
                known.append(far)
    return ahead
