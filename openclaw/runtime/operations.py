"""What the control socket can be asked: each operation in a few lines over the services that do the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from openclaw.errors import MeshError
from openclaw.exec.eligible import submitter_refusal
from openclaw.ids import NodeId, TaskId
from openclaw.records import State
from openclaw.runtime.attach import Attachment
from openclaw.runtime.bringing import Bringing
from openclaw.runtime.context import Context
from openclaw.runtime.control import Emit, Frame, Operation
from openclaw.runtime.docs import exit_code, node_ref
from openclaw.runtime.explain import Explain
from openclaw.runtime.listings import Listings
from openclaw.runtime.payloads import check_inside
from openclaw.runtime.peers import Peers
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.queries import Args
from openclaw.runtime.sources import FILE
from openclaw.runtime.submit import Submissions, parse_requests
from openclaw.runtime.tasks import Tasks, outcome_row
from openclaw.runtime.views import Views

WAITED_MAX = 1000
LISTED_DEFAULT = 50
WATCH_EVERY_S = 1.0


class Operations:
    """`table()` is what `Control` serves. `stop(keep, grace_s, leave)` begins a clean stop of the node."""

    def __init__(
        self,
        context: Context,
        submissions: Submissions,
        tasks: Tasks,
        pulls: Pulls,
        bringing: Bringing,
        peers: Peers,
        stop: Callable[[bool, float | None, bool], None],
        drain: Callable[[bool], None],
    ) -> None:
        self._context, self._submissions, self._tasks = context, submissions, tasks
        self._pulls, self._bringing, self._peers = pulls, bringing, peers
        self._views = Views(context)
        self._listings = Listings(context)
        self._explain = Explain(context, tasks)
        context.queries.answerers["retry"] = self._retried
        self._stop, self._set_draining = stop, drain

    def table(self) -> dict[str, Operation]:
        return {
            "hello": self._hello,
            "nodes": self._nodes,
            "status": self._status,
            "leader": self._leader,
            "events": self._events,
            "submit": self._submit,
            "run": self._run,
            "attach": self._attach,
            "task_logs": self._logs,
            "wait": self._wait,
            "tasks": self._list,
            "task_show": self._show,
            "cancel": self._cancel,
            "outputs": self._outputs,
            "retry": self._retry,
            "explain": self._explained,
            "node_invite": self._invite,
            "node_status": self._node_status,
            "node_drain": self._drain,
            "node_resume": self._resume,
            "node_stop": self._node_stop,
            "node_leave": self._leave,
            "node_backup": self._backup,
        }

    # --- the mesh --------------------------------------------------------------------------------

    async def _hello(self, _request: Frame, _emit: Emit) -> Frame:
        return self._views.hello()

    async def _nodes(self, request: Frame, emit: Emit) -> Frame:
        if request.get("watch"):
            await self._watch(lambda: {"event": "nodes", "nodes": self._views.nodes()}, emit)
        return {"nodes": self._views.nodes()}

    async def _status(self, _request: Frame, _emit: Emit) -> Frame:
        return self._views.status()

    async def _leader(self, request: Frame, emit: Emit) -> Frame:
        if request.get("watch"):
            await self._watch(lambda: {"event": "leader", "leader": self._views.leader()}, emit)
        return {"leader": self._views.leader()}

    async def _events(self, request: Frame, emit: Emit) -> Frame:
        follow = self._context.feed.follow() if request.get("follow") else None
        try:
            for line in self._context.feed.lines():
                await emit({"event": "line", "line": line})
            while follow is not None:
                await emit({"event": "line", "line": (await follow.get())()})
        finally:
            if follow is not None:
                self._context.feed.unfollow(follow)
        return {}

    async def _watch(self, frame: Callable[[], Frame], emit: Emit) -> None:
        """Emits now and whenever it differs, until the client goes away."""
        shown: Frame | None = None
        follow = self._context.feed.follow()
        try:
            while True:
                latest = frame()
                if latest != shown:
                    await emit(latest)
                    shown = latest
                try:
                    async with asyncio.timeout(WATCH_EVERY_S):
                        await follow.get()
                except TimeoutError:
                    pass
        finally:
            self._context.feed.unfollow(follow)

    # --- tasks -----------------------------------------------------------------------------------

    async def _submit(self, request: Frame, _emit: Emit) -> Frame:
        ids, guardians = await self._submissions.submit(
            parse_requests(request["tasks"]), bool(request.get("wait"))
        )
        return {"ids": ids, "guardians": [node_ref(each, self._context.name_of) for each in guardians]}

    async def _run(self, request: Frame, emit: Emit) -> Frame:
        requests = parse_requests([request["task"]])
        (task,) = (await self._submissions.submit(requests, bool(request.get("wait")))).ids
        await emit({"event": "accepted", "id": task})
        return {"task": self._tasks.doc(await self._attachment(emit).follow(task))}

    async def _attach(self, request: Frame, emit: Emit) -> Frame:
        task = await self._tasks.resolve(str(request["id"]))
        offsets = request.get("offsets") or [0, 0]
        assert isinstance(offsets, list)
        attachment = self._attachment(emit, (int(offsets[0]), int(offsets[1])))
        return {"task": self._tasks.doc(await attachment.follow(task))}

    async def _logs(self, request: Frame, emit: Emit) -> Frame:
        task = await self._tasks.resolve(str(request["id"]))
        offset = int(str(request.get("offset", 0)))
        stream = int(str(request.get("stream", 1)))
        if stream not in (1, 2):
            raise MeshError("stream is 1 (stdout) or 2 (stderr)", kind="usage", exit_code=2)
        attachment = self._attachment(emit, (offset, None) if stream == 1 else (None, offset))
        follow = attachment.follow if request.get("follow") else attachment.so_far
        return {"task": self._tasks.doc(await follow(task))}

    def _attachment(self, emit: Emit, offsets: tuple[int | None, int | None] = (0, 0)) -> Attachment:
        return Attachment(self._context, self._tasks, self._pulls, emit, offsets)

    async def _wait(self, request: Frame, emit: Emit) -> Frame:
        """Each task as it finishes, in that order."""
        ids = request["ids"]
        if not isinstance(ids, list) or len(ids) > WAITED_MAX:
            raise MeshError(f"wait for at most {WAITED_MAX} tasks a request", kind="usage", exit_code=2)
        resolved = [await self._resolved(str(each)) for each in ids]
        async for snapshot in self._tasks.as_finished(resolved):
            await emit({"event": "done", "task": outcome_row(self._tasks, snapshot)})
        return {}

    async def _resolved(self, text: str) -> TaskId:
        """Full ids of our own are taken as they are: `map` waits for thousands."""
        if self._context.store.task(TaskId(text)) is not None:
            return TaskId(text)
        return await self._tasks.resolve(text)

    async def _list(self, request: Frame, emit: Emit) -> Frame:
        state = State(str(request["state"])) if request.get("state") else None
        limit = int(str(request.get("limit") or LISTED_DEFAULT))
        listing = await self._listings.listed(bool(request.get("all")), state, limit)
        for row in listing.rows:
            await emit({"event": "task", "task": row})
        return {"silent": listing.silent, "more": listing.more}

    async def _show(self, request: Frame, _emit: Emit) -> Frame:
        snapshot = await self._tasks.read(await self._tasks.resolve(str(request["id"])))
        doc = self._tasks.doc(snapshot) | {"progress": await self._tasks.progress(snapshot)}
        return {"task": doc, "exit_code": exit_code(snapshot.progress)}

    async def _cancel(self, request: Frame, _emit: Emit) -> Frame:
        ids = request["ids"]
        assert isinstance(ids, list)
        tasks = [await self._resolved(str(each)) for each in ids]
        await self._tasks.cancel(tasks)
        return {"cancelled": tasks}

    async def _outputs(self, request: Frame, emit: Emit) -> Frame:
        """Each output of a task that has ended, once it is in this node's cache."""
        task = await self._tasks.resolve(str(request["id"]))
        snapshot = await self._tasks.read(task)
        if not snapshot.done:
            raise MeshError(
                f"task {task} is {snapshot.progress.state} and its outputs are not here yet; wait for it: "
                f"openclaw task wait {task}",
                kind="not_ended",
            )
        files, exit = self._context.files, snapshot.progress.exit
        outputs = exit.outputs if exit is not None else ()
        with files.held(output.sha256 for output in outputs):
            for output in outputs:
                check_inside(output.name)  # a worker may call it what it likes
                if not files.has(output.sha256):
                    await emit({"event": "fetching", "name": output.name, "size": output.size})
                await self._bringing.bring(output, snapshot.holder, FILE, output.sha256)
                await emit({"event": "output", "name": output.name, "path": str(files.path(output.sha256))})
        return {}

    async def _retry(self, request: Frame, _emit: Emit) -> Frame:
        """A new task like one that has ended, submitted where that one is owned: there are its files."""
        snapshot = await self._tasks.read(await self._tasks.resolve(str(request["id"])))
        if snapshot.owner == self._context.me:
            return await self._retried(self._context.me, {"id": snapshot.submission.task})
        return await self._context.queries.ask(snapshot.owner, "retry", {"id": snapshot.submission.task})

    async def _retried(self, peer: NodeId, args: Args) -> Args:
        """Whoever asks must be allowed to submit such a task itself."""
        snapshot = await self._tasks.read(TaskId(str(args["id"])))
        members = self._context.mesh.roster.members()
        if refusal := submitter_refusal(snapshot.submission.needs.kind, members.get(peer)):
            raise MeshError(refusal, kind="not_allowed", exit_code=125)
        if not snapshot.progress.state.final:
            raise MeshError(f"the task is {snapshot.progress.state}: it has not ended", kind="not_ended")
        return {"id": await self._submissions.again(snapshot.submission)}

    async def _explained(self, request: Frame, _emit: Emit) -> Frame:
        """About the task with that `id`, or about what `task` asks for, without submitting it."""
        if "id" in request:
            return await self._explain.task(await self._tasks.resolve(str(request["id"])))
        (asked,) = parse_requests([request["task"]])
        return self._explain.needs(self._submissions.needs(asked))

    # --- this node -------------------------------------------------------------------------------

    async def _invite(self, request: Frame, _emit: Emit) -> Frame:
        capabilities = request.get("capabilities") or ["skill", "shell"]
        assert isinstance(capabilities, list)
        token, expires = self._peers.invite(
            expires_s=float(str(request.get("expires_s") or 0)),
            uses=int(str(request.get("uses") or 1)),
            capabilities=frozenset(str(each) for each in capabilities),
            addresses=bool(request.get("addresses", True)),
        )
        return {"token": token, "expires": expires}

    async def _node_status(self, _request: Frame, _emit: Emit) -> Frame:
        hello = self._views.hello()
        return {**hello, "self": self._views.node(self._context.me), "leader": self._views.leader()}

    async def _drain(self, _request: Frame, _emit: Emit) -> Frame:
        self._set_draining(True)
        return {}

    async def _resume(self, _request: Frame, _emit: Emit) -> Frame:
        self._set_draining(False)
        return {}

    async def _node_stop(self, request: Frame, _emit: Emit) -> Frame:
        grace = request.get("grace_s")
        self._stop(bool(request.get("keep")), float(str(grace)) if grace is not None else None, False)
        return {}

    async def _leave(self, _request: Frame, _emit: Emit) -> Frame:
        self._stop(False, None, True)
        return {}

    async def _backup(self, request: Frame, _emit: Emit) -> Frame:
        folder = Path(str(request["folder"]))
        return {"bytes": await asyncio.to_thread(self._context.store.copy_to, folder)}
