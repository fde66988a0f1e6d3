"""Members reach each other over every path they have; what happens to a peer is told as it is."""

from __future__ import annotations

import asyncio

import pytest
from mesh_helpers import Book, Node, running, until

from openclaw.errors import Unavailable


def test_messages_go_both_ways() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a, b):
            a.knows(b)
            b.knows(a)
            assert a.transport.send(b.id, b"to b")
            assert b.transport.send(a.id, b"to a")
            await until(lambda: bool(a.heard and b.heard))
            assert b.heard == [(a.id, b"to b")]
            assert a.heard == [(b.id, b"to a")]
            await until(lambda: a.transport.path(b.id) == ("lan", b.address))
            assert a.links == [(b.id, True, False)]

    asyncio.run(scene())


def test_one_who_cannot_be_dialled_is_answered_over_its_own_connection() -> None:
    async def scene() -> None:
        book = Book()
        a, hidden = Node("a", book), Node("hidden", book)
        async with running(a, hidden):
            hidden.knows(a)
            assert not a.transport.send(hidden.id, b"who?")
            hidden.transport.send(a.id, b"hello")
            await until(lambda: bool(a.heard))
            assert a.transport.send(hidden.id, b"answer")
            await until(lambda: bool(hidden.heard))
            assert hidden.heard == [(a.id, b"answer")]
            assert a.transport.path(hidden.id) == ("lan", "127.0.0.1")

    asyncio.run(scene())


def test_a_restarted_peer_is_told_as_refused_and_then_as_up() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a):
            await b.transport.start()
            a.knows(b)
            a.transport.send(b.id, b"1")
            await until(lambda: a.links == [(b.id, True, False)])
            await b.close()
            await until(lambda: a.links[1:] == [(b.id, False, True)])
            again = Node("b", book, b.transport.port, b.keys)
            async with running(again):
                await until(lambda: a.links[2:] == [(b.id, True, False)])
                a.transport.send(b.id, b"2")
                await until(lambda: again.heard == [(a.id, b"2")])

    asyncio.run(scene())


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    async def scene() -> None:
        book = Book()
        a = Node("a", book)
        async with running(a):
            b = Node("b", book, a.transport.port)
            with pytest.raises(Unavailable, match=rf"port {a.transport.port} .* in use.*--port"):
                await b.transport.start()
            await b.close()

    asyncio.run(scene())
