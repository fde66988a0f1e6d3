"""Everybody reads the same end of a task, whoever keeps copies of it, also after two owners have met."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from openclaw.config import Limits
from openclaw.effects import Store as Write
from openclaw.errors import Unavailable
from openclaw.ids import NodeId, TaskId, mint_task_id
from openclaw.records import Batch, Copy, Needs, Payload, Progress, State, Submission, Table
from openclaw.runtime.context import Context
from openclaw.runtime.locate import Snapshot
from openclaw.runtime.queries import Answerer, Args
from openclaw.runtime.tasks import Tasks
from openclaw.store import Store

OWNER, HEIR, GUARDIAN = (NodeId(letter * 16) for letter in "abc")
TASK = mint_task_id(OWNER, "boot", 1)
SUBMISSION = Submission(TASK, Needs(), msgspec.msgpack.encode(Payload(("x",))), Batch(b"", b""), 0, 1000.0)
FIRST = Progress(TASK, State.SUCCEEDED, owner=OWNER, worker=OWNER)
SECOND = Progress(TASK, State.FAILED, owner=HEIR, takeover=1, worker=HEIR)


class Mesh:
    """Nodes with real stores, whose questions reach each other as bytes. `away` are those that are down."""

    def __init__(self, folder: Path) -> None:
        self.away: set[NodeId] = set()
        self.answerers: dict[NodeId, dict[str, Answerer]] = {node: {} for node in (OWNER, HEIR, GUARDIAN)}
        self.stores = {node: Store.open(folder / node) for node in self.answerers}
        self.tasks = {node: Tasks(self._context(node)) for node in self.answerers}

    def _context(self, node: NodeId) -> Context:
        def alive() -> list[NodeId]:
            return [each for each in self.answerers if each not in self.away]

        async def ask(peer: NodeId, op: str, args: Args, _timeout_s: float = 0.0) -> Args:
            if peer in self.away:
                raise Unavailable("it is away")
            answer = await self.answerers[peer][op](node, args)
            return msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=dict[str, object])

        return cast(
            "Context",
            SimpleNamespace(
                me=node,
                options=SimpleNamespace(limits=Limits()),
                store=self.stores[node],
                node=SimpleNamespace(membership=SimpleNamespace(alive=alive)),
                queries=SimpleNamespace(answerers=self.answerers[node], ask=ask),
            ),
        )

    def owns(self, node: NodeId, progress: Progress) -> None:
        rows = [Write(Table.TASKS, TASK, SUBMISSION), Write(Table.PROGRESS, TASK, progress)]
        self.stores[node].commit(rows)

    def keeps(self, node: NodeId, progress: Progress) -> None:
        self.stores[node].commit([Write(Table.RESULTS, TASK, Copy(SUBMISSION, progress))])

    async def read(self, node: NodeId, task: TaskId = TASK) -> Snapshot:
        return await self.tasks[node].read(task)


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Mesh]:
    mesh = Mesh(tmp_path)
    yield mesh
    for store in mesh.stores.values():
        store.close()


async def test_a_copy_of_an_end_that_gave_way_is_not_shown(mesh: Mesh) -> None:
    """Its owner was cut off together with its guardian, and has learnt since what the end is."""
    mesh.keeps(GUARDIAN, FIRST)
    mesh.keeps(OWNER, SECOND)
    mesh.owns(HEIR, SECOND)
    for node in (OWNER, HEIR, GUARDIAN):
        assert (await mesh.read(node)).progress == SECOND


async def test_what_the_owner_added_to_an_end_is_shown_where_a_copy_is(mesh: Mesh) -> None:
    known = msgspec.structs.replace(FIRST, rivals=("it ended elsewhere too",))
    mesh.keeps(GUARDIAN, FIRST)
    mesh.owns(OWNER, known)
    assert (await mesh.read(GUARDIAN)).progress == known


async def test_while_the_owner_is_away_its_guardian_reads_its_copy(mesh: Mesh) -> None:
    mesh.keeps(GUARDIAN, FIRST)
    mesh.owns(OWNER, FIRST)
    mesh.away.add(OWNER)
    for node in (HEIR, GUARDIAN):
        assert await mesh.read(node) == Snapshot(GUARDIAN, SUBMISSION, FIRST)
