"""Lists of tasks are whole, however heavy their rows, and say who is missing in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from openclaw.config import LISTED_BYTES_MAX
from openclaw.effects import Store as Write
from openclaw.errors import Unavailable
from openclaw.ids import NodeId, mint_task_id
from openclaw.records import Batch, Needs, Payload, Progress, State, Submission, Table
from openclaw.runtime.context import Context
from openclaw.runtime.listings import Listings
from openclaw.runtime.queries import ANSWER_BYTES_MAX, Answerer, Args
from openclaw.store import Store

NODES = [NodeId(letter * 16) for letter in "abc"]


class Mesh:
    """Nodes with real stores, whose questions reach each other as bytes. The last one never answers."""

    def __init__(self, folder: Path) -> None:
        self.answers: list[int] = []
        self.answerers: dict[NodeId, dict[str, Answerer]] = {node: {} for node in NODES[:2]}
        self.stores = {node: Store.open(folder / node) for node in NODES[:2]}
        self.listings = [Listings(self._context(node)) for node in NODES[:2]]

    def _context(self, node: NodeId) -> Context:
        return cast(
            "Context",
            SimpleNamespace(
                me=node,
                store=self.stores[node],
                name_of=lambda each: each[:1],
                node=SimpleNamespace(membership=SimpleNamespace(alive=lambda: NODES)),
                queries=SimpleNamespace(answerers=self.answerers[node], ask=self._ask),
            ),
        )

    async def _ask(self, node: NodeId, op: str, args: Args) -> Args:
        if node not in self.answerers:
            raise Unavailable("node c did not answer")
        answer = msgspec.msgpack.encode(await self.answerers[node][op](node, args))
        self.answers.append(len(answer))
        return msgspec.msgpack.decode(answer, type=dict[str, object])

    def add(self, node: NodeId, count: int, weight: int = 10, state: State = State.SUCCEEDED) -> None:
        rows = []
        for number in range(count):
            task = mint_task_id(node, "boot", number)
            payload = msgspec.msgpack.encode(Payload(("x" * weight,)))
            submission = Submission(task, Needs(), payload, Batch(b"", b""), 0, 1000.0 + number)
            rows += [
                Write(Table.TASKS, task, submission),
                Write(Table.PROGRESS, task, Progress(task, state)),
            ]
        self.stores[node].commit(rows)


@pytest.fixture
def mesh(tmp_path: Path) -> Mesh:
    return Mesh(tmp_path)


async def test_heavy_rows_of_another_node_come_in_pages_and_none_is_missing(mesh: Mesh) -> None:
    mesh.add(NODES[1], 40, weight=100_000)
    listing = await mesh.listings[0].listed(everywhere=True, state=None, limit=1000)
    assert [row["id"] for row in listing.rows] == [
        mint_task_id(NODES[1], "boot", n) for n in range(39, -1, -1)
    ]
    assert len(mesh.answers) >= 40 * 100_000 // LISTED_BYTES_MAX
    assert max(mesh.answers) <= ANSWER_BYTES_MAX
    assert (listing.silent, listing.more) == (["c"], False)


async def test_the_newest_of_all_and_that_there_are_more(mesh: Mesh) -> None:
    for node in NODES[:2]:
        mesh.add(node, 10)
    listing = await mesh.listings[0].listed(everywhere=True, state=None, limit=5)
    assert [row["submitted"] for row in listing.rows] == sorted(
        (str(row["submitted"]) for row in listing.rows), reverse=True
    )
    assert len(listing.rows) == 5
    assert listing.more
    alone = await mesh.listings[0].listed(everywhere=False, state=None, limit=10)
    assert (len(alone.rows), alone.silent, alone.more) == (10, [], False)


async def test_a_rare_state_is_found_behind_many_others(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openclaw.runtime.listings.LISTED_LOOK_MAX", 7)
    mesh.add(NODES[1], 50)
    mesh.add(NODES[1], 1, state=State.LOST)
    listing = await mesh.listings[0].listed(everywhere=True, state=State.LOST, limit=3)
    assert [row["id"] for row in listing.rows] == [mint_task_id(NODES[1], "boot", 0)]
    assert len(mesh.answers) == 8


async def test_one_whose_answer_cannot_be_read_is_named_and_the_others_are_listed(mesh: Mesh) -> None:
    async def junk(_peer: NodeId, _args: Args) -> Args:
        return {"tasks": 5}

    mesh.answerers[NODES[1]]["tasks"] = junk
    mesh.add(NODES[0], 2)
    listing = await mesh.listings[0].listed(everywhere=True, state=None, limit=3)
    assert (len(listing.rows), listing.silent) == (2, ["b", "c"])
