"""The LAN of the other tests: what it cuts is cut, what it blocks is blocked, and nothing of it stays."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from netns import Host, Lan, sh

SERVE = """
import socket, sys
server = socket.create_server(("0.0.0.0", 7000))
print("up", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
DIAL = """
import socket, sys
try:
    with socket.create_connection((sys.argv[1], 7000), 0.5) as connection:
        print(connection.recv(99).decode())
except OSError:
    print("nobody")
"""


@pytest.fixture
def lan() -> Iterator[Lan]:
    with Lan(3) as lan:
        yield lan


def serve(host: Host) -> subprocess.Popen[bytes]:
    process = host.spawn(sys.executable, "-c", SERVE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    process.stdout.close()
    return process


def dial(source: Host, address: str) -> str:
    return source.run(sys.executable, "-c", DIAL, address).strip()


def test_a_cut_is_silent_and_ends(lan: Lan) -> None:
    one, two, three = lan.hosts
    server = serve(two)
    assert dial(one, two.address) == dial(three, two.address) == "hello"
    two.cut()
    assert dial(one, two.address) == "nobody"
    assert "state UP" in two.run("ip", "link", "show", "eth0")
    two.restore()
    assert dial(one, two.address) == "hello"
    server.kill()
    server.wait()


def test_a_split_leaves_each_part_to_itself(lan: Lan) -> None:
    one, two, three = lan.hosts
    server = serve(two)
    lan.split([one, two])
    assert (dial(one, two.address), dial(three, two.address)) == ("hello", "nobody")
    lan.heal()
    assert dial(three, two.address) == "hello"
    server.kill()
    server.wait()


def test_a_blocked_host_can_dial_and_not_be_dialled(lan: Lan) -> None:
    one, two, _ = lan.hosts
    servers = [serve(one), serve(two)]
    two.block_incoming()
    assert (dial(one, two.address), dial(two, one.address)) == ("nobody", "hello")
    two.unblock()
    assert dial(one, two.address) == "hello"
    for server in servers:
        server.kill()
        server.wait()


def test_a_host_that_moved_is_at_its_new_address_alone(lan: Lan) -> None:
    one, two, _ = lan.hosts
    server = serve(two)
    before = two.address
    two.change_address("10.77.0.99")
    assert (dial(one, "10.77.0.99"), dial(one, before)) == ("hello", "nobody")
    server.kill()
    server.wait()


def test_nothing_stays() -> None:
    with Lan(2) as lan:
        server = serve(lan.hosts[0])
    assert server.wait(10) == -9
    assert lan.prefix not in sh("ip", "netns", "list")
