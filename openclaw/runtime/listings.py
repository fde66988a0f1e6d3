"""Lists of tasks, newest first, of this node or of every live one: in pages, so that nothing is cut off in silence.

A page ends when it is as heavy as an answer between nodes may be, or when so many rows were looked at that others
should have their turn; the place where it ended goes back with it, and whoever wants more asks from there.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import msgspec

from openclaw.config import LISTED_BYTES_MAX, LISTED_LOOK_MAX, LISTED_MAX
from openclaw.errors import MeshError
from openclaw.ids import NodeId
from openclaw.records import Progress, State, Submission
from openclaw.runtime.context import Context
from openclaw.runtime.docs import Doc, task_doc
from openclaw.runtime.queries import Args

GIVEN_AWAY_MAX = 200

_encode = msgspec.msgpack.encode


@dataclass(frozen=True, slots=True)
class Listing:
    """`silent` are the names of live nodes that gave no answer to be read; `more`: there are older ones than these."""

    rows: list[Doc]
    silent: list[str]
    more: bool


class Listings:
    """At most `LISTED_MAX` rows at a time, whatever is asked for."""

    def __init__(self, context: Context) -> None:
        self._context = context
        context.queries.answerers["tasks"] = self._answer

    async def listed(self, everywhere: bool, state: State | None, limit: int) -> Listing:
        context = self._context
        limit = min(limit, LISTED_MAX)
        nodes = [context.me]
        if everywhere:
            nodes += [node for node in context.node.membership.alive() if node != context.me]
        answers = await asyncio.gather(
            *(self._of(node, state, limit) for node in nodes), return_exceptions=True
        )
        rows: list[Doc] = []
        silent, more = [], False
        for node, answer in zip(nodes, answers, strict=True):
            if isinstance(answer, MeshError) and node != context.me:
                silent.append(context.name_of(node))
            elif isinstance(answer, BaseException):
                raise answer
            else:
                rows += answer[0]
                more = more or answer[1]
        rows = _each_once(rows)
        rows.sort(key=lambda row: str(row["submitted"]), reverse=True)
        return Listing(rows[:limit], silent, more or len(rows) > limit)

    async def _of(self, node: NodeId, state: State | None, limit: int) -> tuple[list[Doc], bool]:
        """Up to `limit` rows of one node, page by page, and whether it has more."""
        rows: list[Doc] = []
        place = b""
        while True:
            args: Args = {"state": state, "limit": limit - len(rows), "place": place}
            answer = (
                await self._answer(node, args)
                if node == self._context.me
                else await self._context.queries.ask(node, "tasks", args)
            )
            found, end = answer.get("tasks"), answer.get("place", b"")
            if not isinstance(found, list) or not isinstance(end, bytes):
                raise MeshError(f"{self._context.name_of(node)} answered what cannot be read")
            rows, place = rows + found, end
            if not place or len(rows) >= limit:
                return rows, bool(place)

    async def _answer(self, _peer: NodeId, args: Args) -> Args:
        state = State(str(args["state"])) if args.get("state") else None
        limit = min(int(str(args.get("limit", LISTED_MAX))), LISTED_MAX)
        place = args.get("place", b"")
        if not isinstance(place, bytes):
            raise MeshError("a place is bytes", kind="usage")
        rows, place = await asyncio.to_thread(self._page, state, limit, place)
        return {"tasks": rows, "place": place}

    def _page(self, state: State | None, limit: int, place: bytes) -> tuple[list[Doc], bytes]:
        context = self._context
        found, end = context.store.page(place, state, limit, LISTED_LOOK_MAX)
        rows = [] if place else self._given_away(state)
        left = LISTED_BYTES_MAX
        for at, submission, progress in found:
            doc = self._row(submission, progress)
            left -= len(_encode(doc))
            if left < 0 and rows:
                return rows, at
            rows.append(doc)
        return rows, end

    def _given_away(self, state: State | None) -> list[Doc]:
        """Tasks that were submitted here and have another owner now, as far as they fit into a page."""
        me = self._context.me
        return [
            self._row(copy.submission, copy.progress)
            for copy in self._context.store.copies(LISTED_LOOK_MAX)
            if copy.submission.submitter == me and state in (None, copy.progress.state)
        ][:GIVEN_AWAY_MAX]

    def _row(self, submission: Submission, progress: Progress) -> Doc:
        doc = task_doc(submission, progress, self._context.name_of)
        doc.pop("story")
        return doc


def _each_once(rows: list[Doc]) -> list[Doc]:
    """Of what several nodes say of one task, what its owner says: a copy is named with another owner's claim."""
    best: dict[str, Doc] = {}
    for row in rows:
        known = best.setdefault(str(row["id"]), row)
        if (bool(row["finished"]), row["takeover"]) > (bool(known["finished"]), known["takeover"]):
            best[str(row["id"])] = row
    return list(best.values())
