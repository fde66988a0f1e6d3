"""A worker's memory of tokens: for each task the highest that it has started, returned or sworn off.

Promises: what was fenced does not start again while it is remembered; at most `limit` tasks are remembered,
the oldest go first. Memory is enough, since a token is addressed to one start of the worker (ARCHITECTURE).
"""

from __future__ import annotations

from itertools import islice

from openclaw.ids import TaskId, Token


class Fences:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._highest: dict[TaskId, Token] = {}
        self._same: dict[Token, Token] = {}  # most tasks share one token's value: keep one object

    def __len__(self) -> int:
        return len(self._highest)

    def passes(self, task: TaskId, token: Token) -> bool:
        """Whether `token` is higher than everything seen of `task`."""
        highest = self._highest.get(task)
        return highest is None or token > highest

    def raise_to(self, task: TaskId, token: Token) -> None:
        """Nothing at or below `token` starts from now on."""
        if not self.passes(task, token):
            return
        self._highest[task] = self._same.setdefault(token, token)
        if len(self._highest) > self._limit:
            for oldest in list(islice(self._highest, self._limit // 4 + 1)):
                del self._highest[oldest]
            self._same = {kept: kept for kept in self._highest.values()}
