"""What a worker does with what others ask it to bring: nothing outside the scratch directory, and always an end."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from openclaw.config import Limits
from openclaw.effects import Event, Fetch, Fetched, ProcessExited, Run
from openclaw.executor.link import RunSpec
from openclaw.executor.paths import RUNS, SCRATCH, run_name
from openclaw.files import Files
from openclaw.ids import NO_EPOCH, NodeId, TaskId, Token
from openclaw.records import REFUSED, Exit, InputFile, Payload
from openclaw.runtime.bringing import Bringing
from openclaw.runtime.context import Context
from openclaw.runtime.pulls import Pulls
from openclaw.runtime.retention import Retention
from openclaw.runtime.sources import Sources
from openclaw.runtime.staging import Staging
from openclaw.store import Store

ME, PEER = NodeId("a" * 16), NodeId("b" * 16)
TASK = TaskId(f"{PEER}-boota")
TOKEN = Token(0, PEER, 1, 1)
DATA = b"input"
SHA256 = hashlib.sha256(DATA).hexdigest()


class World:
    """A node's staging over its real files; its executor and its bulk port are lists."""

    def __init__(self, folder: Path, answer: bytes | None = DATA) -> None:
        self.folder = folder
        self.events: list[Event] = []
        self.started: list[RunSpec] = []
        self.told = asyncio.Event()
        self.answer = answer
        self.pulls = 0
        self.files = Files(folder / "files")
        link = SimpleNamespace(
            life=0,
            run_many=self.started.extend,
            run_dir=lambda task, token: folder / RUNS / run_name(task, token),
        )
        self.room = 1 << 40  # what the disk takes
        context = cast(
            "Context",
            SimpleNamespace(
                store=Store.open(folder / "store"),
                options=SimpleNamespace(limits=Limits()),
                disk_low=lambda more: 1 if more > self.room else 0,
                me=ME,
                state_dir=folder,
                files=self.files,
                link=link,
                bulk=self,
                post=self._post,
                wall=lambda: 1e9,
            ),
        )
        sources = Sources(context)
        pulls = Pulls(context, sources)
        retention = Retention(context, sources)
        self.bringing = Bringing(context, pulls, retention)
        self.staging = Staging(context, sources, pulls, self.bringing, retention)

    def _post(self, event: Event) -> None:
        self.events.append(event)
        self.told.set()

    async def pull(self, _peer: NodeId, _ref: object, sink: object) -> int:
        self.pulls += 1
        if self.answer is None:
            await asyncio.Event().wait()  # a peer that never answers
        assert callable(sink)
        await sink(self.answer)
        return 1

    def run(self, payload: bytes) -> None:
        self.staging.run([Run(TASK, TOKEN, PEER, payload, NO_EPOCH)])

    async def exit(self) -> Exit:
        async with asyncio.timeout(20):
            await self.told.wait()
        (event,) = self.events
        assert isinstance(event, ProcessExited)
        return event.exit


def payload(*inputs: InputFile) -> bytes:
    return msgspec.msgpack.encode(Payload(("true",), inputs=inputs))


@pytest.mark.parametrize("name", ["../../escaped", "/tmp/escaped", "..", "", "a/../../b", "a\0b"])
async def test_a_name_outside_the_scratch_directory_is_an_end_and_no_file(tmp_path: Path, name: str) -> None:
    world = World(tmp_path)
    world.run(payload(InputFile(name, SHA256, len(DATA))))
    assert (await world.exit()).ended_by == "stage"
    assert not list(tmp_path.rglob("*escaped*"))
    assert not world.started


async def test_what_was_meant_for_an_executor_that_is_lost_is_not_started(tmp_path: Path) -> None:
    """The next one has told already that it does not hold it, so it may be on its way to another node."""
    world = World(tmp_path)
    lost, live = (Run(TASK, Token(0, ME, 1, n), PEER, payload(), NO_EPOCH, life=n - 1) for n in (2, 1))
    world.staging.run([lost, live])
    assert [spec.token.attempt for spec in world.started] == [1]


NO_COMMAND = msgspec.msgpack.encode(Payload(()))
NO_NUMBER = msgspec.msgpack.encode(Payload(("true",), timeout_s=float("nan")))


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"\x91\x93\x01", msgspec.msgpack.encode(["true"]), NO_COMMAND, NO_NUMBER]
)
async def test_a_payload_that_cannot_be_read_ends_its_task_and_not_the_node(
    tmp_path: Path, junk: bytes
) -> None:
    world = World(tmp_path)
    world.run(junk)
    assert (await world.exit()).ended_by == "stage"


@pytest.mark.parametrize(
    "file", [InputFile("f", SHA256, 3), InputFile("f", "0" * 64, len(DATA)), InputFile("f", "../x", 1)]
)
async def test_content_that_is_not_what_was_announced_ends_the_attempt(
    tmp_path: Path, file: InputFile
) -> None:
    world = World(tmp_path)
    world.run(payload(file))
    assert (await world.exit()).ended_by == "stage"


async def test_an_input_lies_in_the_scratch_directory_before_the_command_starts(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.run(payload(InputFile("sub/f", SHA256, len(DATA))))
    async with asyncio.timeout(20):
        while not world.started:
            await asyncio.sleep(0.001)
    assert (tmp_path / RUNS / run_name(TASK, TOKEN) / SCRATCH / "sub" / "f").read_bytes() == DATA


async def test_what_was_still_being_staged_when_the_executor_died_never_starts(tmp_path: Path) -> None:
    world = World(tmp_path, answer=None)
    world.run(payload(InputFile("f", SHA256, len(DATA))))
    await asyncio.sleep(0)
    world.staging.abandon()
    assert (await world.exit()).ended_by == "orphaned"
    await world.staging.close()
    assert not world.started


async def test_an_output_that_is_not_what_was_announced_is_told_as_gone(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.staging.fetch(Fetch(TASK, TOKEN, PEER, Exit(0, outputs=(InputFile("o", "0" * 64, len(DATA)),))))
    async with asyncio.timeout(20):
        await world.told.wait()
    assert world.events == [Fetched(TASK, TOKEN, ok=False, gone=True)]


async def test_an_input_for_which_the_disk_has_no_room_sends_its_task_elsewhere(tmp_path: Path) -> None:
    """And what nobody needs is dropped for it first."""
    world = World(tmp_path)
    cached, _ = world.files.put_bytes(b"of somebody")
    os.utime(world.files.path(cached), (0, 0))
    world.room = 2 * len(DATA) - 1
    world.run(payload(InputFile("f", SHA256, len(DATA))))
    exit = await world.exit()
    assert exit.ended_by == REFUSED
    assert "its disk has only" in exit.error
    assert not world.files.has(cached)


async def test_an_output_waits_at_its_worker_until_there_is_room(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.room = len(DATA) - 1
    fetch = Fetch(TASK, TOKEN, PEER, Exit(0, outputs=(InputFile("o", SHA256, len(DATA)),)))
    for ok in (False, True):
        world.staging.fetch(fetch)
        async with asyncio.timeout(20):
            await world.told.wait()
        assert world.events == [Fetched(TASK, TOKEN, ok=ok, gone=False)]
        world.room += 1
        world.events.clear()
        world.told.clear()


async def test_what_many_ask_for_at_once_comes_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    file = InputFile("f", SHA256, len(DATA))
    async with asyncio.timeout(20):
        await asyncio.gather(*(world.bringing.bring(file, PEER, "file", SHA256) for _ in range(5)))
    assert world.pulls == 1
    assert world.files.path(SHA256).read_bytes() == DATA


async def test_who_waits_for_a_transfer_that_is_given_up_brings_it_itself(tmp_path: Path) -> None:
    world = World(tmp_path, answer=None)
    file = InputFile("f", SHA256, len(DATA))
    first, second = (asyncio.create_task(world.bringing.bring(file, PEER, "file", SHA256)) for _ in range(2))
    async with asyncio.timeout(20):
        while not world.pulls:
            await asyncio.sleep(0.001)
        world.answer = DATA
        first.cancel()
        await second
    assert world.pulls == 2
    assert world.files.has(SHA256)
