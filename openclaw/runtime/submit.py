"""From a request to accepted tasks: checks what can be checked at once, takes in the files, signs the batch.

A task id is returned only after the core said `Accepted` and that batch was committed. A need that no node we know
of could ever meet is refused here, with each node's reasons, unless the person asked to wait for one.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from msgspec import Meta as Bound

from openclaw.config import (
    FILES_MAX,
    KEY_CHARS_MAX,
    LOCAL_FILES_MAX,
    NEEDS_MAX,
    PRIORITY_MAX,
    SIGNED_TOGETHER,
    SUBMIT_BATCH_MAX,
)
from openclaw.effects import Submitted
from openclaw.errors import MeshError, Unavailable
from openclaw.exec.eligible import refusals
from openclaw.ids import NOBODY, NodeId, TaskId, keyed_task_id, mint_task_id
from openclaw.notes import Accepted
from openclaw.records import (
    Batch,
    Count,
    InputFile,
    Kind,
    Name,
    Needs,
    Payload,
    Seconds,
    SkillCall,
    Submission,
    Text,
)
from openclaw.runtime.context import Context
from openclaw.runtime.intake import Intake
from openclaw.runtime.locate import Locator
from openclaw.runtime.payloads import checked
from openclaw.trust.batches import leaf, needs_bytes, sign_batch

encode = msgspec.msgpack.encode
KEYS_AT_ONCE = 8  # each is asked of every node
TREE_CHARS = 16  # of a skill's hash, in what a task needs
ACQUAINTED_S = 10.0  # after so long a node has heard of everyone who is there


class NeedsRequest(msgspec.Struct, kw_only=True):
    """Where a task may run, as a person wrote it."""

    node: Name = ""
    labels: Annotated[dict[Name, Name], Bound(max_length=NEEDS_MAX)] = {}
    skills: Annotated[list[Name], Bound(max_length=NEEDS_MAX)] = []
    cpus: Count = 0
    memory_bytes: Count = 0
    gpus: Count = 0


class FileRequest(msgspec.Struct, kw_only=True):
    path: str
    name: Text


class SkillRequest(msgspec.Struct, kw_only=True):
    """A call of a skill, as `openclaw.skills.calls` checked it against the folder with the hash `tree`."""

    name: Name
    tree: Name
    entry: Name = ""
    params: dict[str, object] = {}


class TaskRequest(msgspec.Struct, kw_only=True):
    """One task of the control socket's `submit` and `run`; checked field by field by msgspec.

    What the nouns do not bound to the same would be accepted here, and read by nobody afterwards.
    """

    argv: list[str] = []
    kind: Kind = Kind.COMMAND
    skill: SkillRequest | None = None
    env: dict[str, str] = {}
    cwd: str = ""
    timeout_s: Seconds = 0.0
    retries: Count = 0
    once: bool = False
    no_overlap: bool = False
    key: Annotated[str, Bound(max_length=KEY_CHARS_MAX)] = ""
    replicas: Annotated[int, Bound(ge=0, le=1)] = 1
    needs: NeedsRequest = msgspec.field(default_factory=NeedsRequest)
    name: str = ""
    job: str = ""
    priority: Annotated[int, Bound(ge=-PRIORITY_MAX, le=PRIORITY_MAX)] = 0
    stdin: str | None = None
    take_stdin: bool = False
    inputs: Annotated[list[FileRequest], Bound(max_length=FILES_MAX)] = []
    outputs: Annotated[list[Text], Bound(max_length=FILES_MAX)] = []
    local_files: Annotated[list[Text], Bound(max_length=LOCAL_FILES_MAX)] = []
    title: str = ""
    handler: Name = ""  # a task type; `argv`, `env` and `cwd` are for commands then
    args: bytes = b""  # what the handler is called with, as `handlers.values` has it


class Taken(NamedTuple):
    """Accepted tasks: on our disk, and at those guardians if there are any."""

    ids: list[TaskId]
    guardians: tuple[NodeId, ...]


class Submissions:
    """Turns requests into accepted tasks of this node."""

    def __init__(self, context: Context, intake: Intake) -> None:
        self._context, self._intake = context, intake
        self._sequence = itertools.count(1)
        self._waiting: dict[TaskId, list[asyncio.Future[tuple[NodeId, ...]]]] = {}
        self._locator = Locator(context)
        self._acquainted_at = context.now() + ACQUAINTED_S

    async def submit(
        self,
        requests: Sequence[TaskRequest],
        wait: bool,
        minted: Callable[[list[TaskId]], None] | None = None,
        ids: Sequence[TaskId] = (),
    ) -> Taken:
        """Raises `Unavailable` or `MeshError`; then none of them was accepted.

        `minted` is told the ids before anything can become of the tasks. Where they are given in `ids`, whoever gives
        them sees to it that none of them is known yet.
        """
        if not 0 < len(requests) <= SUBMIT_BATCH_MAX:
            raise MeshError(
                f"a request carries 1 to {SUBMIT_BATCH_MAX} tasks, not {len(requests)}", kind="usage"
            )
        await self._intake.check_room(len(requests))
        needs = self._needs(requests, wait)
        with self._context.files.held(()) as hold:
            payloads = [encode(await self._payload(request, hold)) for request in requests]
            for payload in payloads:
                self._intake.check_payload(payload)
                checked(payload)
            tasks = self._sign(requests, needs, payloads, ids or self._mint(requests))
            taken = await self._accept(tasks, minted)
        for request in requests:
            if request.take_stdin and request.stdin is not None:
                Path(request.stdin).unlink(missing_ok=True)
        return taken

    async def again(self, done: Submission) -> TaskId:
        """A new task that asks for the same as `done`, one of ours. Raises `MeshError` when a file of it is gone."""
        await self._intake.check_room(1)
        context, payload = self._context, checked(done.payload)
        files = [*payload.inputs, *([payload.stdin] if payload.stdin is not None else [])]
        with context.files.held([file.sha256 for file in files]):
            for file in files:
                if not context.files.has(file.sha256):
                    raise MeshError(
                        f"its input {file.name} is not kept here any more; submit it with openclaw run --input",
                        kind="no_input",
                        exit_code=125,
                    )
            task = mint_task_id(context.me, context.boot, next(self._sequence))
            signed = leaf(task, needs_bytes(done.needs), done.payload)
            batch = Batch(sign_batch(context.keys, context.mesh.mesh_id, signed), signed)
            again = msgspec.structs.replace(
                done, task=task, batch=batch, leaf=0, submitted=context.wall(), origin=NOBODY
            )
            return (await self._accept((again,))).ids[0]

    async def _accept(
        self, tasks: tuple[Submission, ...], minted: Callable[[list[TaskId]], None] | None = None
    ) -> Taken:
        """What was submitted under its key before is that task, wherever it is."""
        ids = [task.task for task in tasks]
        if minted is not None:
            minted(ids)
        keyed = [task.task for task in tasks if task.origin]
        known: set[TaskId] = set()
        for start in range(0, len(keyed), KEYS_AT_ONCE):
            asked = keyed[start : start + KEYS_AT_ONCE]
            found = await asyncio.gather(*(self._locator.find(task) for task in asked))
            known.update(task for task, there in zip(asked, found, strict=True) if there is not None)
        new = tuple(each for each in tasks if not (each.origin and self._is_known(each.task, known)))
        if not new:
            return Taken(ids, ())
        future: asyncio.Future[tuple[NodeId, ...]] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(new[0].task, []).append(future)
        self._context.post(Submitted(new))
        return Taken(ids, await future)

    def _is_known(self, task: TaskId, known: set[TaskId]) -> bool:
        """Asked again at the last moment: the same key may have been submitted while we asked the others."""
        return task in known or self._locator.here(task) is not None

    def accepted(self, note: Accepted) -> None:
        """The batch that these tasks are in has been committed."""
        for future in self._waiting.pop(note.tasks[0], ()) if note.tasks else ():
            if not future.done():
                future.set_result(note.guardians)

    def _needs(self, requests: Sequence[TaskRequest], wait: bool) -> list[Needs]:
        """The needs of each, as nouns. Equal ones are checked once."""
        context = self._context
        mine = context.mesh.roster.members().get(context.me)
        known: dict[Needs, None] = {}
        result = []
        for request in requests:
            needs = self.needs(request)
            if needs not in known:
                wanted = "shell" if needs.kind is Kind.COMMAND else "skill"
                if mine is None or wanted not in mine.capabilities:
                    raise Unavailable(
                        f"this node's certificate does not allow {wanted!r}; ask an admin for an invite with it: "
                        f"openclaw node invite --capabilities skill,shell",
                        kind="not_allowed",
                    )
                if not wait:
                    self._refuse_the_impossible(needs)
                known[needs] = None
            result.append(needs)
        return result

    def needs(self, request: TaskRequest) -> Needs:
        """What a request asks of a node, as the core has it. Raises `Unavailable` for a node that nobody knows."""
        return Needs(
            request.kind,
            self._context.node_named(request.needs.node) if request.needs.node else NOBODY,
            tuple(sorted(request.needs.labels.items())),
            tuple(sorted(_skills(request))),
            request.needs.cpus,
            request.needs.memory_bytes,
            request.needs.gpus,
            request.handler,
        )

    def _refuse_the_impossible(self, needs: Needs) -> None:
        context = self._context
        members = context.mesh.roster.members()
        known = context.node.membership.members()
        if context.now() < self._acquainted_at and members.keys() - known.keys():
            return  # just started: a node that was not heard yet may well be able to
        reasons = []
        for node, view in sorted(known.items()):
            if view.meta is None:
                return  # not known yet: it may well be able to
            settled = msgspec.structs.replace(view.meta, draining=False)
            found = refusals(needs, settled, members.get(node), alive=True)
            if not found:
                return
            reasons.append(f"{context.name_of(node)}: {' and '.join(found)}")
        raise Unavailable(
            "no node of this mesh could run it (--wait waits for one that can). " + "; ".join(reasons[:20]),
            kind="not_eligible",
        )

    async def _payload(self, request: TaskRequest, hold: Callable[[str], None]) -> Payload:
        _check_kind(request)
        if request.argv or request.env:
            self._intake.check_command(request.argv, request.env)
        stdin = None
        if request.stdin is not None:
            stdin = await self._take_in(FileRequest(path=request.stdin, name="stdin"), hold)
        inputs = tuple([await self._take_in(file, hold) for file in request.inputs])
        return Payload(
            tuple(request.argv),
            tuple(request.env.items()),
            request.cwd,
            request.timeout_s,
            stdin,
            inputs,
            tuple(request.outputs),
            request.handler,
            request.args,
            _call(request.skill),
            memory_bytes=request.needs.memory_bytes,
            cpus=request.needs.cpus,
            local_files=tuple(request.local_files),
        )

    async def _take_in(self, file: FileRequest, hold: Callable[[str], None]) -> InputFile:
        await self._intake.check_file(Path(file.path))
        try:
            sha256, size = await asyncio.to_thread(self._context.files.put, Path(file.path))
        except OSError as error:
            raise MeshError(
                f"the input {file.path} cannot be read: {error.strerror or error}",
                kind="no_input",
                exit_code=125,
            ) from None
        hold(sha256)
        return InputFile(file.name, sha256, size)

    def _mint(self, requests: Sequence[TaskRequest]) -> list[TaskId]:
        context = self._context
        return [
            keyed_task_id(request.key)
            if request.key
            else mint_task_id(context.me, context.boot, next(self._sequence))
            for request in requests
        ]

    def _sign(
        self,
        requests: Sequence[TaskRequest],
        needs: Sequence[Needs],
        payloads: Sequence[bytes],
        ids: Sequence[TaskId],
    ) -> tuple[Submission, ...]:
        context = self._context
        leaves = [
            leaf(task, needs_bytes(need), payload)
            for task, need, payload in zip(ids, needs, payloads, strict=True)
        ]
        batches = [
            Batch(sign_batch(context.keys, context.mesh.mesh_id, signed), signed)
            for start in range(0, len(leaves), SIGNED_TOGETHER)
            if (signed := b"".join(leaves[start : start + SIGNED_TOGETHER]))
        ]
        now = context.wall()
        return tuple(
            Submission(
                task, need, payload, batches[index // SIGNED_TOGETHER], index % SIGNED_TOGETHER, now,
                title=(request.title or request.handler or " ".join(request.argv))[:200],
                name=request.name[:128], job=request.job[:128], priority=request.priority,
                retries=request.retries, once=request.once, origin=context.me if request.key else NOBODY,
                replicas=request.replicas, no_overlap=request.no_overlap,
            )
            for index, (task, need, payload, request) in enumerate(zip(ids, needs, payloads, requests, strict=True))
        )  # fmt: skip


def _check_kind(request: TaskRequest) -> None:
    if (request.kind is Kind.HANDLER) != bool(request.handler):
        raise MeshError(
            "a task of the kind handler names its handler, and no other does", kind="usage", exit_code=2
        )
    if (request.kind is Kind.SKILL) != (request.skill is not None):
        raise MeshError(
            "a task of the kind skill names its skill, and no other does", kind="usage", exit_code=2
        )
    if not request.handler and not request.argv and not (request.skill and request.skill.entry):
        raise MeshError("there is no command to run", kind="usage", exit_code=2)
    if request.handler and (request.argv or request.env or request.cwd):
        raise MeshError(
            "a handler runs in a process that is there already: it takes no arguments of a command line, no "
            "environment and no directory",
            kind="usage",
            exit_code=2,
        )


def _skills(request: TaskRequest) -> list[str]:
    """What the worker has to have; of a skill that is called, the very one that it was checked against."""
    called = request.skill
    if called is None:
        return request.needs.skills
    return [
        *request.needs.skills,
        f"{called.name}:{called.entry}".rstrip(":") + f"@{called.tree[:TREE_CHARS]}",
    ]


def _call(skill: SkillRequest | None) -> SkillCall | None:
    if skill is None:
        return None
    return SkillCall(skill.name, skill.tree, skill.entry, msgspec.json.encode(skill.params).decode())


def parse_requests(rows: object) -> list[TaskRequest]:
    """Raises `MeshError` that names the field."""
    try:
        return msgspec.convert(rows, list[TaskRequest])
    except msgspec.ValidationError as error:
        raise MeshError(f"that is no task: {error}", kind="usage", exit_code=2) from None
