"""Bulk bytes: whole, resumable, paced by the puller, over whichever side could dial."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st
from mesh_helpers import LOOPBACK, Book, Keys, until

from openclaw.config import BULK_CHUNK_BYTES, BULK_CREDIT_CHUNKS
from openclaw.ids import NodeId
from openclaw.transport import bulk as bulk_module
from openclaw.transport.bulk import Bulk, PullError, Why
from openclaw.transport.frames import Frame, Ref, decode
from openclaw.transport.serving import FileSource, Source
from openclaw.transport.zap import Zap
from openclaw.wire import Counters, Rejected


class Shelf:
    """A node with a bulk port that serves the files of a folder and the sources it is given."""

    def __init__(self, name: str, book: Book, folder: Path) -> None:
        self.id = NodeId(name)
        keys = Keys.new()
        book.by_node[self.id] = keys.curve_public
        self.folder = folder
        self.sources: dict[str, Source] = {}
        self.addresses: dict[NodeId, Sequence[str]] = {}
        self.asked_to_dial: list[NodeId] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        counters = Counters()
        self.zap = Zap(self.context, book, counters)
        self.bulk = Bulk(
            self.context, keys, self.id, book, LOOPBACK, 0, self.serve,
            lambda peer: self.addresses.get(peer, ()), self.asked_to_dial.append,
            counters=counters, log=lambda _line: None,
        )  # fmt: skip

    def serve(self, _peer: NodeId, ref: Ref) -> Source | None:
        if ref.kind == "source":
            return self.sources.get(ref.name)
        return FileSource(self.folder / ref.name)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.bulk.port}"

    async def __aenter__(self) -> Shelf:
        await self.bulk.start()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.bulk.close()
        self.zap.close()
        self.context.term()


class Stream:
    """A source that notes how far it was read, and whether it was closed; it never ends by itself."""

    def __init__(self) -> None:
        self.read_to = 0
        self.closed = False

    async def read(self, offset: int, size: int, /) -> bytes | None:
        self.read_to = offset + size
        return bytes(size)

    def close(self) -> None:
        self.closed = True


class Log:
    """A log that grows when the test says so."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self, _offset: int, _size: int, /) -> bytes | None:
        return await self.lines.get()

    def close(self) -> None:
        pass


def test_a_file_arrives_whole_and_resumes_at_an_offset(tmp_path: Path) -> None:
    content = os.urandom(5 * BULK_CHUNK_BYTES * BULK_CREDIT_CHUNKS + 12_345)
    (tmp_path / "big").write_bytes(content)

    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("b", book, tmp_path) as b:
            a.addresses[b.id] = [b.address]
            got = bytearray()
            assert await a.bulk.pull(b.id, Ref("file", "big"), got.extend) == len(content)
            assert hashlib.sha256(got).digest() == hashlib.sha256(content).digest()
            tail = bytearray()
            half = len(content) // 2
            assert await a.bulk.pull(b.id, Ref("file", "big", half), tail.extend) == len(content) - half
            assert tail == content[half:]
            back = bytearray()
            await b.bulk.pull(a.id, Ref("file", "big"), back.extend)
            assert back == content
            await until(lambda: a.bulk.serving == b.bulk.serving == 0)

    asyncio.run(scene())


def test_a_large_file_costs_little_memory_and_leaves_the_loop_its_turns(tmp_path: Path) -> None:
    size = 256 << 20
    with (tmp_path / "large").open("wb") as sparse:
        sparse.truncate(size)

    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("b", book, tmp_path) as b:
            a.addresses[b.id] = [b.address]
            await a.bulk.pull(b.id, Ref("file", "large", size - 1), lambda _data: None)
            before = psutil.Process().memory_info().rss
            turns_at: list[int] = []
            most = received = 0

            def count(data: bytes) -> None:
                nonlocal received
                received += len(data)

            pull = asyncio.create_task(a.bulk.pull(b.id, Ref("file", "large"), count))
            while not pull.done():
                await asyncio.sleep(0)
                turns_at.append(received)
                most = max(most, psutil.Process().memory_info().rss)
            assert await pull == received == size
            assert most - before < 64 << 20
            gaps = [late - early for early, late in itertools.pairwise(turns_at)]
            assert max(gaps) <= 2 * BULK_CREDIT_CHUNKS * BULK_CHUNK_BYTES

    asyncio.run(scene())


def test_a_slow_reader_slows_its_source_and_cancelling_closes_it(tmp_path: Path) -> None:
    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("b", book, tmp_path) as b:
            a.addresses[b.id] = [b.address]
            stream = b.sources["endless"] = Stream()
            taken = asyncio.Semaphore(0)
            got: list[int] = []

            async def slow(data: bytes) -> None:
                await taken.acquire()
                got.append(len(data))

            pull = asyncio.create_task(a.bulk.pull(b.id, Ref("source", "endless"), slow))
            for _ in range(BULK_CREDIT_CHUNKS // 2):
                taken.release()
            in_credit = (BULK_CREDIT_CHUNKS // 2 + BULK_CREDIT_CHUNKS) * BULK_CHUNK_BYTES
            await until(lambda: stream.read_to >= in_credit)
            await asyncio.sleep(0.05)
            assert stream.read_to == in_credit
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
            await until(lambda: stream.closed and b.bulk.serving == 0, 5)  # silence would take longer

    asyncio.run(scene())


def test_a_growing_log_is_followed_until_it_ends(tmp_path: Path) -> None:
    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("b", book, tmp_path) as b:
            a.addresses[b.id] = [b.address]
            log = b.sources["log"] = Log()
            got: list[bytes] = []
            pull = asyncio.create_task(a.bulk.pull(b.id, Ref("source", "log", follow=True), got.append))
            for line in (b"one\n", b"two\n"):
                log.lines.put_nowait(line)
                await until(lambda line=line: got[-1:] == [line])
            log.lines.put_nowait(None)
            assert await pull == 8

    asyncio.run(scene())


def test_one_who_cannot_be_dialled_is_asked_to_dial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "DIAL_S", 0.1)
    (tmp_path / "f").write_bytes(b"hidden treasure")

    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("hidden", book, tmp_path) as hidden:
            got = bytearray()
            pull = asyncio.create_task(a.bulk.pull(hidden.id, Ref("file", "f"), got.extend))
            await until(lambda: a.asked_to_dial == [hidden.id])
            hidden.bulk.dial(a.id, [a.address])
            assert await pull == 15
            assert got == b"hidden treasure"

    asyncio.run(scene())


def test_a_pull_says_why_it_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk_module, "DIAL_S", 0.1)
    monkeypatch.setattr(bulk_module, "DIAL_BACK_S", 0.1)

    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a:
            async with Shelf("b", book, tmp_path) as b:
                with pytest.raises(PullError) as unreachable:
                    await a.bulk.pull(b.id, Ref("file", "f"), lambda _data: None)
                assert unreachable.value.why is Why.UNREACHABLE
                a.addresses[b.id] = [b.address]
                for ref in (Ref("file", "absent"), Ref("source", "absent")):
                    with pytest.raises(PullError) as refused:
                        await a.bulk.pull(b.id, ref, lambda _data: None)
                    assert refused.value.why is Why.REFUSED
                b.sources["endless"] = Stream()
                got = bytearray()
                pull = asyncio.create_task(a.bulk.pull(b.id, Ref("source", "endless"), got.extend))
                await until(lambda: bool(got))
            with pytest.raises(PullError) as broken:
                await pull
            assert broken.value.why is Why.BROKEN
            assert broken.value.received == len(got)

    asyncio.run(scene())


def test_a_revoked_puller_gets_nothing_more(tmp_path: Path) -> None:
    async def scene() -> None:
        book = Book()
        async with Shelf("a", book, tmp_path) as a, Shelf("b", book, tmp_path) as b:
            a.addresses[b.id] = [b.address]
            log = b.sources["log"] = Log()
            got: list[bytes] = []
            pull = asyncio.create_task(a.bulk.pull(b.id, Ref("source", "log", follow=True), got.append))
            log.lines.put_nowait(b"before")
            await until(lambda: got == [b"before"])
            book.revoked.add(a.id)
            log.lines.put_nowait(b"after")
            await asyncio.sleep(0.1)
            assert got == [b"before"]
            pull.cancel()
            await asyncio.gather(pull, return_exceptions=True)

    asyncio.run(scene())


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_a_frame_or_junk(data: bytes) -> None:
    try:
        assert isinstance(decode(data), Frame)
    except Rejected:
        pass
