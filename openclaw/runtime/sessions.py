"""A program's tasks: many of them submitted together on one connection, their ends streamed back on another.

A session is opened by the connection on which results go out and lives as long as that does. Every task has the
program's own number (`tag`) beside its id, so that a result may come before its acceptance does. The id comes of the
program's key and that number: a program that lost its connection, or whose node was restarted, opens a session again,
names what it still waits for, and is told which of the tasks that had no answer were taken.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from openclaw.config import SESSION_ROWS_MAX, SESSIONS_MAX
from openclaw.errors import MeshError, Unavailable
from openclaw.handlers.values import RESULT_FILE
from openclaw.ids import TaskId, mint_task_id, owner_of
from openclaw.records import Progress, State
from openclaw.runtime.context import Context
from openclaw.runtime.control import Emit, Frame, Operation
from openclaw.runtime.sources import Sources
from openclaw.runtime.submit import Submissions, TaskRequest, parse_requests
from openclaw.runtime.tasks import Tasks, outcome_row

DONE, FILED, RAISED, TASK, GONE = "done", "filed", "raised", "task", "gone"
"""How a row tells an end: a result, where its file is, an exception, a whole task, or that nobody knows the task."""

KEY = re.compile(
    r"[a-z2-7]{16}"
)  # longer than the name of any start of a node, which stands there in other ids

Row = tuple[int, str, object]


@dataclass(slots=True, eq=False)
class Session:
    tags: dict[TaskId, int] = field(default_factory=dict)
    moved: list[TaskId] = field(default_factory=list)  # may have ended, and nobody has looked yet
    woken: asyncio.Event = field(default_factory=asyncio.Event)

    def look(self, task: TaskId) -> None:
        self.moved.append(task)
        self.woken.set()


class Sessions:
    """`table()` is what the control socket serves of this."""

    def __init__(self, context: Context, submissions: Submissions, tasks: Tasks, sources: Sources) -> None:
        self._context, self._submissions, self._tasks, self._sources = context, submissions, tasks, sources
        self._open: dict[str, Session] = {}

    def table(self) -> dict[str, Operation]:
        return {
            "session_open": self._serve,
            "session_resume": self._resume,
            "session_submit": self._submit,
        }

    async def _submit(self, request: Frame, _emit: Emit) -> Frame:
        """`commons` are tasks without their arguments, `rows` which of them, with what and under which tag."""
        session = self._session(request)
        tasks, tags = _requests(request["commons"], request["rows"])
        ids = self._ids(request, tags)

        def minted(ids: Sequence[TaskId]) -> None:
            session.tags.update(zip(ids, tags, strict=True))
            self._context.moves.claim(ids, session.look)

        return {"ids": (await self._submissions.submit(tasks, bool(request.get("wait")), minted, ids)).ids}

    def _ids(self, request: Frame, tags: Sequence[int]) -> list[TaskId]:
        """The same for the same program and tag, at this node, for ever."""
        key = str(request["key"])
        if KEY.fullmatch(key) is None:
            raise MeshError("the key of a session is 16 characters of base32", kind="usage", exit_code=2)
        return [mint_task_id(self._context.me, key, tag) for tag in tags]

    async def _resume(self, request: Frame, _emit: Emit) -> Frame:
        """`tasks` are [id, tag] of what the program waits for from before, `unsure` tags that had no answer."""
        session, tasks, unsure = self._session(request), request["tasks"], request["unsure"]
        assert isinstance(tasks, list)
        assert isinstance(unsure, list)
        here = self._tasks.locator.here
        ids = zip(self._ids(request, unsure), unsure, strict=True)
        took = [(task, tag) for task, tag in ids if here(task) is not None]
        for task, tag in (*tasks, *took):
            session.tags[TaskId(task)] = int(tag)
            session.look(TaskId(task))
        self._context.moves.claim([TaskId(task) for task, _ in (*tasks, *took)], session.look)
        return {"took": [(tag, task) for task, tag in took]}

    def _session(self, request: Frame) -> Session:
        session = self._open.get(str(request["session"]))
        if session is None:
            raise Unavailable("this session is not open (any more)", kind="no_session")
        return session

    async def _serve(self, request: Frame, emit: Emit) -> Frame:
        """Streams ends until the program goes away."""
        name = str(request["session"])
        if name in self._open or len(self._open) >= SESSIONS_MAX:
            raise Unavailable(
                f"there are {len(self._open)} sessions, or this one is open already", kind="busy"
            )
        session = self._open[name] = Session()
        try:
            await emit({"event": "open"})
            while True:
                await session.woken.wait()
                session.woken.clear()
                await self._tell(session, emit)
        finally:
            del self._open[name]
            self._context.moves.disclaim(session.tags, session.look)

    async def _tell(self, session: Session, emit: Emit) -> None:
        moved, session.moved = session.moved, []
        for start in range(0, len(moved), SESSION_ROWS_MAX):
            some = [task for task in moved[start : start + SESSION_ROWS_MAX] if task in session.tags]
            rows: list[Row] = []
            for task, progress in zip(some, self._context.store.progress(some), strict=True):
                row = self._row(task, session.tags[task], progress)
                if row is not None:
                    rows.append(row)
                    del session.tags[task]
                    self._context.moves.disclaim((task,), session.look)
            if rows:
                await emit({"event": "ended", "rows": rows})

    def _row(self, task: TaskId, tag: int, progress: Progress | None) -> Row | None:
        """None while it has not ended, or its outputs are not here yet."""
        if progress is None:  # it has another owner, or there is no such task
            copy = self._context.store.copy(task)
            if copy is None:
                mine = owner_of(task) == self._context.me
                name = self._context.name_of(self._context.me)
                return (tag, GONE, f"node {name} has no such task") if mine else None
            progress = copy.progress
        exit = progress.exit
        if not (progress.state.final and progress.fetched):
            return None
        if exit is not None and exit.result:
            return (tag, DONE if progress.state is State.SUCCEEDED else RAISED, exit.result)
        for output in exit.outputs if exit is not None else ():
            if output.name == RESULT_FILE:
                return (tag, FILED, str(self._context.files.path(output.sha256)))
        return (tag, TASK, self._document(task, progress))

    def _document(self, task: TaskId, progress: Progress) -> dict[str, object]:
        """All of a task, and where what is too large for a record is kept."""
        snapshot = self._tasks.locator.here(task)
        assert snapshot is not None
        document = outcome_row(self._tasks, snapshot)
        exit = progress.exit
        files = {
            output.name: str(self._context.files.path(output.sha256))
            for output in (exit.outputs if exit is not None else ())
        }
        logs = {stream: str(self._sources.kept(task, stream)) for stream in ("stdout", "stderr")}
        document.pop("story")
        return document | {"files": files, "logs": logs}


def _requests(commons: object, rows: object) -> tuple[list[TaskRequest], list[int]]:
    templates = parse_requests(commons)
    if not isinstance(rows, list):
        raise MeshError(
            "rows is a list of [number of the common part, arguments, tag]", kind="usage", exit_code=2
        )
    tasks = [
        msgspec.structs.replace(templates[number], args=args) if args else templates[number]
        for number, args, _ in rows
    ]
    return tasks, [tag for _, _, tag in rows]
