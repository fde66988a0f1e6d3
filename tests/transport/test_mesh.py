"""Members reach each other over every path they have; what happens to a peer is told as it is."""

from __future__ import annotations

import asyncio

import pytest
from mesh_helpers import Book, Keys, Node, running, silent_port, until

from openclaw.errors import Unavailable
from openclaw.ids import NodeId
from openclaw.transport import mesh


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


def test_a_connection_that_may_be_dead_is_replaced_and_told_as_up_again() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a, b):
            a.knows(b)
            a.transport.send(b.id, b"1")
            await until(lambda: bool(b.heard) and a.links == [(b.id, True, False)])
            a.transport.redial(b.id)
            await until(lambda: a.links[1:] == [(b.id, True, False)])
            a.transport.send(b.id, b"2")
            await until(lambda: b.heard == [(a.id, b"1"), (a.id, b"2")])

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


def test_a_changed_address_replaces_the_connection() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        moved = Node("b", book, keys=b.keys)
        async with running(a, b, moved):
            a.knows(b)
            await until(lambda: a.transport.send(b.id, b"old") and bool(b.heard))
            a.transport.set_addresses(b.id, [moved.address])
            await until(lambda: a.transport.send(b.id, b"new") and bool(moved.heard))
            assert a.transport.path(b.id) == ("lan", moved.address)
            assert (a.id, b"new") in moved.heard

    asyncio.run(scene())


def test_every_address_is_tried_and_strangers_there_are_passed_over() -> None:
    async def scene() -> None:
        book = Book()
        a, b, other = Node("a", book), Node("b", book), Node("other", book)
        async with running(a, b, other):
            name, closed = "localhost:27460", "127.0.0.1:1"
            a.transport.set_addresses(b.id, [name, closed, other.address, b.address])
            await until(lambda: a.transport.send(b.id, b"found") and bool(b.heard))
            assert a.transport.path(b.id) == ("lan", b.address)
            assert other.heard == []

    asyncio.run(scene())


def test_a_dead_peer_is_refused_and_nothing_queued_for_it_is_delivered_later() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a):
            await b.transport.start()
            a.knows(b)
            await b.close()
            a.transport.send(b.id, b"lost")
            await until(lambda: a.links == [(b.id, False, True)])
            await until(lambda: not a.transport.send(b.id, b"dropped"))
            again = Node("b", book, b.transport.port, b.keys)
            async with running(again):
                await until(lambda: a.links[1:] == [(b.id, True, False)])
                await until(lambda: a.transport.send(b.id, b"fresh") and bool(again.heard))
                assert {data for _, data in again.heard} == {b"fresh"}

    asyncio.run(scene())


def test_one_who_dials_us_and_refuses_to_be_dialled_is_not_called_down() -> None:
    async def scene() -> None:
        book = Book()
        a, hidden = Node("a", book), Node("hidden", book)
        async with running(a, hidden):
            a.transport.set_addresses(hidden.id, ["127.0.0.1:1"])
            hidden.knows(a)
            hidden.transport.send(a.id, b"hello")
            await until(lambda: bool(a.heard))
            await until(lambda: a.transport.send(hidden.id, b"x") and len(hidden.heard) > 50)
            assert a.links == [(hidden.id, True, False)]

    asyncio.run(scene())


def test_the_links_used_longest_ago_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "PEERS_MAX", 2)

    async def scene() -> None:
        book = Book()
        a = Node("a", book)
        others = [Node(name, book) for name in ("b", "c", "d")]
        async with running(a, *others):
            a.knows(*others)
            for other in others:
                await until(
                    lambda other=other: a.transport.send(other.id, b"x") and (a.id, b"x") in other.heard
                )
            assert [a.transport.path(other.id) is None for other in others] == [True, False, False]

    asyncio.run(scene())


def test_what_nobody_uses_is_closed_without_an_accusation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "LINK_IDLE_S", 0.0)
    monkeypatch.setattr(mesh, "SWEEP_S", 0.05)

    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a, b):
            a.knows(b)
            a.transport.send(b.id, b"x")
            await until(lambda: bool(b.heard))
            await until(lambda: a.transport.path(b.id) is None)
            assert all(up for _, up, _ in a.links)
            await until(lambda: a.transport.send(b.id, b"again") and (a.id, b"again") in b.heard)

    asyncio.run(scene())


def test_close_does_not_wait_for_the_dead() -> None:
    async def scene() -> None:
        book = Book()
        a = Node("a", book)
        await a.transport.start()
        with silent_port() as silent:
            for n in range(50):
                ghost = NodeId(f"ghost{n}")
                book.by_node[ghost] = Keys.new().curve_public
                a.transport.set_addresses(ghost, [f"127.0.0.1:{silent if n % 2 else 1}"])
                a.transport.send(ghost, b"boo")
            await until(lambda: len(a.links) == 25)
            async with asyncio.timeout(3):
                await a.close()

    asyncio.run(scene())
