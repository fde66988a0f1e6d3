"""Reads, waits for and cancels tasks from any node, whoever owns them now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import msgspec

from openclaw.effects import CancelAsked
from openclaw.errors import MeshError
from openclaw.ids import NodeId, TaskId, Token, owner_of, short
from openclaw.messages import Cancel
from openclaw.records import Kind, Progress, State
from openclaw.runtime.context import Context
from openclaw.runtime.docs import Doc, exit_code, task_doc
from openclaw.runtime.feed import Signal
from openclaw.runtime.locate import Locator, Snapshot, answer, read, seen_progress
from openclaw.runtime.queries import LONG_POLL_S, Args

PREFIX_CHARS_MIN = 4
PROGRESS_S = 2.0
AWAY_S = 1.0  # between two looks at a task whose owner is away
CANCELLED_AT_ONCE_MAX = 1024
DAY_S = 86400.0

_encode = msgspec.msgpack.encode


class Tasks:
    """`read`, `changed` and `cancel` work from any node; unknown ids raise `MeshError` (kind no_such_task)."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.locator = Locator(context)
        context.queries.answerers |= {
            "task": self._answer_task,
            "find": self._answer_find,
            "progress": self._answer_progress,
        }

    def doc(self, snapshot: Snapshot) -> Doc:
        return task_doc(snapshot.submission, snapshot.progress, self._context.name_of)

    async def read(self, task: TaskId) -> Snapshot:
        found = await self.locator.find(task)
        if found is None:
            owner = owner_of(task)
            away = "" if owner in self._context.node.membership.alive() else "; its owner may be away"
            raise MeshError(
                f"there is no task {task}{away}; {self._keeping()}; see: openclaw tasks --all",
                kind="no_such_task",
            )
        return found

    async def changed(self, seen: Snapshot, timeout_s: float = LONG_POLL_S) -> Snapshot:
        """The next snapshot that differs from `seen`, or the same again after `timeout_s`.

        While its owner is away that is the best copy, and once it was taken over what the next owner says.
        """
        task, owner = seen.submission.task, seen.owner
        if owner == self._context.me and self._context.store.has(task):
            return await self._local_change(task, seen.progress, timeout_s)
        if owner != self._context.me and owner in self._context.node.membership.alive():
            args: Args = {"id": task, "seen": _encode(seen.progress), "timeout_s": timeout_s}
            try:
                return read(owner, await self._context.queries.ask(owner, "task", args, timeout_s + 5.0))
            except MeshError:
                pass  # it went meanwhile
        await asyncio.sleep(AWAY_S)
        return await self.read(task)

    async def progress(self, snapshot: Snapshot) -> Doc | None:
        """How far the handler of a running task says it has come: whoever runs it is asked, nobody else knows."""
        progress = snapshot.progress
        if snapshot.submission.needs.kind is not Kind.HANDLER or progress.state is not State.RUNNING:
            return None
        args: Args = {"id": snapshot.submission.task, "token": progress.token}
        if progress.worker == self._context.me:
            return self._reported(args)
        try:
            answer = await self._context.queries.ask(progress.worker, "progress", args, PROGRESS_S)
        except MeshError:
            return None
        reported = answer.get("progress")
        return reported if isinstance(reported, dict) else None

    def _reported(self, args: Args) -> Doc | None:
        task, token = TaskId(str(args["id"])), msgspec.convert(args["token"], Token)
        report = self._context.link.reports.get((task, token))
        return None if report is None else report._asdict()

    async def finished(self, task: TaskId) -> Snapshot:
        """Once the task is final and its outputs are at the owner. Survives an owner that is away for a while."""
        snapshot = await self.read(task)
        while not snapshot.done:
            try:
                snapshot = await self.changed(snapshot)
            except MeshError:
                await asyncio.sleep(1.0)
        return snapshot

    async def as_finished(self, tasks: Sequence[TaskId]) -> AsyncIterator[Snapshot]:
        """Each of `tasks` once it is done, in that order. One watcher for all of ours, a task for each other."""
        mine = {task for task in tasks if self._context.store.has(task)}
        queue: asyncio.Queue[TaskId | Snapshot | MeshError] = asyncio.Queue()

        async def elsewhere(task: TaskId) -> None:
            try:
                queue.put_nowait(await self.finished(task))
            except MeshError as error:
                queue.put_nowait(error)

        others = {task: asyncio.create_task(elsewhere(task)) for task in tasks if task not in mine}
        try:
            self._context.moves.watch(mine, queue.put_nowait)
            for task in sorted(mine):
                queue.put_nowait(task)
            left = set(tasks)
            while left:
                found = await queue.get()
                if isinstance(found, MeshError):
                    raise found
                if not isinstance(found, Snapshot):
                    snapshot = self.locator.here(found)
                    if snapshot is None or not (snapshot.done or self._context.store.has(found)):
                        if found not in others:  # it has another owner since
                            others[found] = asyncio.create_task(elsewhere(found))
                        continue
                    found = snapshot
                if found.done and found.submission.task in left:
                    left.discard(found.submission.task)
                    yield found
        finally:
            self._context.moves.unwatch(mine, queue.put_nowait)
            for other in others.values():
                other.cancel()
            await asyncio.gather(*others.values(), return_exceptions=True)

    async def cancel(self, tasks: Sequence[TaskId]) -> None:
        """Asks each task's owner; what came of it shows in the task."""
        theirs: dict[NodeId, list[TaskId]] = {}
        for task in tasks:
            here = self._context.node.owner.claim_of(task) is not None
            owner = self._context.me if here else (await self.read(task)).owner
            theirs.setdefault(owner, []).append(task)
        for owner, asked in theirs.items():
            for start in range(0, len(asked), CANCELLED_AT_ONCE_MAX):
                part = tuple(asked[start : start + CANCELLED_AT_ONCE_MAX])
                if owner == self._context.me:
                    self._context.post(CancelAsked(part))
                else:
                    self._context.send(owner, Cancel(part))

    async def resolve(self, prefix: str) -> TaskId:
        """The one task whose id is or begins with `prefix`, here or at any live node."""
        if len(prefix) < PREFIX_CHARS_MIN:
            raise MeshError(
                f"{prefix!r} is too short for a task id; give at least {PREFIX_CHARS_MIN} characters"
            )
        found = set(self._context.store.find(prefix))
        if not _named(found, prefix):  # we keep some of another's tasks: there may be more that begin so
            answers = await asyncio.gather(
                *(
                    self._context.queries.ask(node, "find", {"prefix": prefix})
                    for node in self._context.node.membership.alive()
                    if node != self._context.me
                ),
                return_exceptions=True,
            )
            for said in answers:
                if isinstance(said, dict):
                    ids = said.get("ids")
                    found |= {TaskId(str(each)) for each in ids} if isinstance(ids, list) else set()
        match sorted(_named(found, prefix) or found):
            case [task]:
                return task
            case []:
                owner = owner_of(TaskId(prefix))
                away = "" if owner in self._context.node.membership.alive() else "; its owner may be away"
                raise MeshError(
                    f"there is no task {prefix}{away}; {self._keeping()}; see: openclaw tasks --all",
                    kind="no_such_task",
                )
            case many:
                raise MeshError(f"{prefix} could be {', '.join(many[:5])}", kind="ambiguous")

    # --- at the owner ----------------------------------------------------------------------------

    def _local(self, task: TaskId) -> Snapshot:
        found = self.locator.here(task)
        if found is None:
            raise MeshError(
                f"there is no task {task}; {self._keeping()}; see: openclaw tasks", kind="no_such_task"
            )
        return found

    def _keeping(self) -> str:
        """Why a task may be gone that somebody remembers."""
        limits = self._context.options.limits
        return (
            f"what has ended is kept for {limits.keep_s / DAY_S:g} days and {limits.keep_bytes >> 20} MiB "
            "(openclaw config: keep_s, keep_bytes)"
        )

    async def _local_change(self, task: TaskId, seen: Progress, timeout_s: float) -> Snapshot:
        signal = Signal()
        self._context.moves.watch((task,), signal.fire)
        try:
            snapshot = self._local(task)
            if snapshot.progress == seen:
                await signal.wait(timeout_s)
                snapshot = self._local(task)
            return snapshot
        finally:
            self._context.moves.unwatch((task,), signal.fire)

    async def _answer_task(self, _peer: NodeId, args: Args) -> Args:
        task = TaskId(str(args["id"]))
        if "seen" in args:
            timeout_s = min(LONG_POLL_S, float(str(args.get("timeout_s", LONG_POLL_S))))
            snapshot = await self._local_change(task, seen_progress(args), timeout_s)
        else:
            snapshot = self._local(task)
        return answer(snapshot)

    async def _answer_progress(self, _peer: NodeId, args: Args) -> Args:
        return {"progress": self._reported(args)}

    async def _answer_find(self, _peer: NodeId, args: Args) -> Args:
        return {"ids": list(self._context.store.find(str(args["prefix"])))}


def _named(found: set[TaskId], text: str) -> set[TaskId]:
    """Those whose whole id, or its short form, is `text`."""
    return {task for task in found if text in (task, short(task))}


def outcome_row(tasks: Tasks, snapshot: Snapshot) -> Doc:
    """What `map` and `wait` print of a finished task: its document and its small outputs."""
    exit = snapshot.progress.exit
    return {
        **tasks.doc(snapshot),
        "exit_code": exit_code(snapshot.progress),
        "stdout": exit.stdout if exit is not None else b"",
        "stderr": exit.stderr if exit is not None else b"",
        "stdout_size": exit.stdout_size if exit is not None else 0,
        "stderr_size": exit.stderr_size if exit is not None else 0,
    }
