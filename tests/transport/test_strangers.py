"""Nobody but members gets a word in, whatever they bring; and they do not stop the members."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from mesh_helpers import Book, Keys, Node, running, until

from openclaw.config import MESSAGE_BYTES_MAX, SOCKETS_MAX
from openclaw.transport.sockets import Bounds, Domain, dealer, router
from openclaw.wire import Reason

Raw = zmq.Socket[bytes]


async def still_serves(a: Node, b: Node) -> None:
    """Proof that members talk, and that whatever came before this was dropped and not merely late."""
    a.heard.clear()
    b.knows(a)
    await until(lambda: b.transport.send(a.id, b"still here") and (b.id, b"still here") in a.heard)
    assert {peer for peer, _ in a.heard} == {b.id}


def raw_dealer(context: zmq.Context[Raw], node: Node, keys: Keys, server_key: bytes) -> Raw:
    raw = dealer(context, keys, server_key, Bounds(1 << 30))
    raw.setsockopt(zmq.IMMEDIATE, 0)
    raw.connect(f"tcp://{node.address}")
    return raw


def null_client(context: zmq.Context[Raw], node: Node, _stranger: Keys) -> Raw:
    raw = context.socket(zmq.DEALER)
    raw.setsockopt(zmq.LINGER, 0)
    raw.connect(f"tcp://{node.address}")
    return raw


def unknown_key(context: zmq.Context[Raw], node: Node, stranger: Keys) -> Raw:
    return raw_dealer(context, node, stranger, node.keys.curve_public)


def wrong_server_key(context: zmq.Context[Raw], node: Node, stranger: Keys) -> Raw:
    return raw_dealer(context, node, stranger, Keys.new().curve_public)


@pytest.mark.parametrize("attack", [null_client, unknown_key, wrong_server_key])
def test_strangers_are_not_heard(attack: Callable[[zmq.Context[Raw], Node, Keys], Raw]) -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        context: zmq.Context[Raw] = zmq.Context()
        async with running(a, b):
            raw = attack(context, a, Keys.new())
            raw.send(b"let me in")
            await still_serves(a, b)
            raw.close()
        context.term()

    asyncio.run(scene())


@pytest.mark.parametrize("broken", ["dead handler", "raising roster"])
def test_when_the_judge_fails_nobody_comes_in(broken: str) -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a, b):
            if broken == "dead handler":
                a.zap.close()
            else:
                a.book = book
                a.zap._roster = None  # type: ignore[assignment]
            b.knows(a)
            b.transport.send(a.id, b"hello")
            await asyncio.sleep(0.3)
            assert a.heard == []
            assert b.transport.path(a.id) is None

    asyncio.run(scene())


def test_a_listener_always_has_a_domain_and_enforces_it() -> None:
    context: zmq.Context[Raw] = zmq.Context()
    for domain in Domain:
        listener = router(context, domain, Keys.new().curve_secret, Bounds())
        assert listener.getsockopt_string(zmq.ZAP_DOMAIN).encode() == domain.value != b""
        assert listener.getsockopt(zmq.ZAP_ENFORCE_DOMAIN) == 1
        assert listener.getsockopt(zmq.CURVE_SERVER) == 1
        listener.close()
    context.term()


def test_who_is_certified_later_gets_in_without_a_restart() -> None:
    async def scene() -> None:
        book, wider = Book(), Book()
        a, b = Node("a", book), Node("b", wider)
        wider.by_node[a.id] = a.keys.curve_public
        async with running(a, b):
            b.knows(a)
            b.transport.send(a.id, b"early")
            await until(lambda: a.counters[Reason.NOT_A_MEMBER] > 0)
            book.by_node[b.id] = b.keys.curve_public
            await still_serves(a, b)

    asyncio.run(scene())


def test_a_revoked_member_is_cut_off_on_its_live_connection_both_ways() -> None:
    async def scene() -> None:
        theirs, ours = Book(), Book()
        a, b = Node("a", ours), Node("b", theirs)
        ours.by_node[b.id] = b.keys.curve_public
        theirs.by_node[a.id] = a.keys.curve_public
        async with running(a, b):
            a.knows(b)
            b.knows(a)
            b.transport.send(a.id, b"before")
            a.transport.send(b.id, b"before")
            await until(lambda: bool(a.heard and b.heard))
            ours.revoked.add(b.id)
            assert b.transport.send(a.id, b"after")
            await until(lambda: a.counters[Reason.NOT_A_MEMBER] > 0)
            assert not a.transport.send(b.id, b"after")
            assert a.heard == [(b.id, b"before")]
            assert b.heard == [(a.id, b"before")]

    asyncio.run(scene())


def test_no_member_can_speak_in_anothers_name() -> None:
    async def scene() -> None:
        book = Book()
        a, b, mallory = Node("a", book), Node("b", book), Node("mallory", book)
        context: zmq.Context[Raw] = zmq.Context()
        async with running(a, b):
            b.knows(a)
            b.transport.send(a.id, b"I am b")
            await until(lambda: bool(a.heard))
            route = a.transport._routes[b.id].id
            for claimed in (b"b", route, bytes([1]) + route[1:]):
                raw = dealer(context, mallory.keys, a.keys.curve_public, Bounds())
                raw.setsockopt(zmq.IMMEDIATE, 0)
                try:
                    raw.setsockopt(zmq.ROUTING_ID, claimed)
                except zmq.ZMQError:
                    raw.close()
                    continue
                raw.connect(f"tcp://{a.address}")
                raw.send(b"I am b, believe me")
                await asyncio.sleep(0.05)
                raw.close()
            await until(lambda: a.counters[Reason.FRAMING] == 2)
            assert a.transport._routes[b.id].id == route
            await still_serves(a, b)
        await mallory.close()
        context.term()

    asyncio.run(scene())


@pytest.mark.parametrize("frames", [[b"two", b"frames"], [bytes(MESSAGE_BYTES_MAX + 1)]])
def test_what_no_honest_member_sends_is_dropped(frames: list[bytes]) -> None:
    async def scene() -> None:
        book = Book()
        a, b, odd = Node("a", book), Node("b", book), Node("odd", book)
        context: zmq.Context[Raw] = zmq.Context()
        async with running(a, b):
            raw = raw_dealer(context, a, odd.keys, a.keys.curve_public)
            raw.send_multipart(frames)
            await asyncio.sleep(0.1)
            await still_serves(a, b)
            raw.close()
        await odd.close()
        context.term()

    asyncio.run(scene())


def test_garbage_and_slow_bytes_on_the_port_do_not_stop_members() -> None:
    async def scene() -> None:
        book = Book()
        a, b = Node("a", book), Node("b", book)
        async with running(a, b):
            garbage = [
                os.urandom(4096),
                b"GET / HTTP/1.0\r\n\r\n",
                b"\xff" * 9 + b"\x7f",
                b"\xff\0\0\0\0\0\0\0\x01\x7f\x03",
            ]
            plain = []
            for data in garbage:
                plain.append(socket.create_connection(("127.0.0.1", a.transport.port)))
                plain[-1].sendall(data)
            slow = socket.create_connection(("127.0.0.1", a.transport.port))
            for byte in b"\xff\0\0\0":
                slow.sendall(bytes([byte]))
                await asyncio.sleep(0.01)
            await still_serves(a, b)
            for one in [*plain, slow]:
                one.close()

    asyncio.run(scene())


def test_hundreds_of_idle_connections_do_not_stop_members_even_without_descriptors(tmp_path: Path) -> None:
    """A child with 120 descriptors is given 500 idle connections; two members in it go on talking."""
    story = tmp_path / "child.py"
    story.write_text(
        textwrap.dedent("""
        import asyncio, resource, sys
        from mesh_helpers import Book, Node, running, until

        async def main():
            resource.setrlimit(resource.RLIMIT_NOFILE, (120, 120))
            book = Book()
            a, b = Node("a", book), Node("b", book)
            async with running(a, b):
                b.knows(a)
                b.transport.send(a.id, b"before")
                await until(lambda: bool(a.heard))
                print(a.transport.port, flush=True)
                await until(lambda: len(a.logged) >= 2)
                print(a.logged[0], flush=True)
                print(a.logged[1], flush=True)
                await until(lambda: b.transport.send(a.id, b"after") and a.heard[-1][1] == b"after")
                sys.stdin.readline()

        asyncio.run(main())
        """)
    )
    here = Path(__file__).parent
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parents[1])])}
    with subprocess.Popen(
        [sys.executable, str(story)], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        idle = [socket.socket() for _ in range(500)]
        for one in idle:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        assert "out of file descriptors" in child.stdout.readline()
        assert "accepting again" in child.stdout.readline()
        child.communicate("done\n")
        for one in idle:
            one.close()
        assert child.returncode == 0


def test_limits_are_raised_as_far_as_the_hard_one() -> None:
    story = """
import resource, zmq
from openclaw.transport.sockets import raise_limits
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 500))
with zmq.Context() as context:
    raise_limits(context)
    print(resource.getrlimit(resource.RLIMIT_NOFILE), context.get(zmq.MAX_SOCKETS))
"""
    child = subprocess.run([sys.executable, "-c", story], capture_output=True, text=True, check=True)
    assert child.stdout == f"(500, 500) {SOCKETS_MAX}\n"
