"""Discovery as a whole: real mDNS on this machine, and sources that fail in every way without harm."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable

import pytest
from fake_tailscale import FakeTailscale

from openclaw.discovery import discovery as rooms
from openclaw.discovery.discovery import Discovery, Sources, browse
from openclaw.discovery.source import Found
from openclaw.errors import MeshError

TAG = "deadbeef"
DEADLINE_S = 20.0


class Node:
    """What a node would see of its discovery."""

    def __init__(self, node_id: str, port: int, sources: Sources, tag: str = TAG) -> None:
        self.found: list[Found] = []
        self.moved: list[list[str]] = []
        self.lines: list[str] = []
        self.changed = asyncio.Event()
        self.discovery = Discovery(
            tag,
            node_id,
            port,
            port + 1,
            sources,
            self._note(self.found),
            self._note(self.moved),
            self._note(self.lines),
        )

    def _note(self, kept: list[object]) -> Callable[[object], None]:
        def note(value: object) -> None:
            kept.append(value)
            self.changed.set()

        return note

    async def until(self, fact: Callable[[], object]) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not fact():
                self.changed.clear()
                await self.changed.wait()


MDNS = Sources(tailscale=False)


def test_two_nodes_find_each_other_by_mdns_and_neither_finds_itself_or_another_mesh() -> None:
    async def story() -> None:
        one, two = Node("a" * 16, 7001, MDNS), Node("b" * 16, 7011, MDNS)
        stranger = Node("c" * 16, 7021, MDNS, tag="0badcafe")
        nodes = (one, two, stranger)
        for node in nodes:
            await node.discovery.start()
        try:
            await one.until(lambda: one.found)
            await two.until(lambda: two.found)
            seen = await browse(DEADLINE_S, mesh_tag="0badcafe")
        finally:
            for node in nodes:
                await node.discovery.stop()
        assert {(found.node, found.intro_port) for found in one.found} == {("b" * 8, 7012)}
        assert {(found.node, found.intro_port) for found in two.found} == {("a" * 8, 7002)}
        assert stranger.found == []
        assert ("0badcafe", "c" * 8) in {(found.mesh_tag, found.node) for found in seen}
        assert one.lines == []

    asyncio.run(story())


def test_a_refresh_hears_everybody_again() -> None:
    async def story() -> None:
        one, two = Node("a" * 16, 7001, MDNS), Node("b" * 16, 7011, MDNS)
        await one.discovery.start()
        await two.discovery.start()
        try:
            await one.until(lambda: one.found)
            await two.until(lambda: two.found)
            one.found.clear()
            one.discovery.refresh()
            await one.until(lambda: one.found)
        finally:
            await one.discovery.stop()
            await two.discovery.stop()

    asyncio.run(story())


@pytest.mark.parametrize(
    "error", [ImportError("no zeroconf"), OSError(19, "no such device"), RuntimeError("odd")]
)
def test_mdns_that_cannot_start_is_told_once_and_comes_back(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, failures = rooms.mdns.open_zeroconf, 3

    async def broken(addresses: list[str]) -> object:
        nonlocal failures
        if failures:
            failures -= 1
            raise error
        return await real(addresses)

    monkeypatch.setattr("openclaw.discovery.mdns.open_zeroconf", broken)
    monkeypatch.setattr("openclaw.discovery.discovery.SOURCE_BACKOFF_S_MIN", 0.001)

    async def story() -> None:
        node = Node("a" * 16, 7001, MDNS)
        await node.discovery.start()
        try:
            await node.until(lambda: len(node.lines) == 2)
            assert node.discovery.status == {"mdns": "ok"}
        finally:
            await node.discovery.stop()
        failed, back = node.lines
        assert str(error) in failed
        assert back == "discovery: mdns works again"
        assert failures == 0

    asyncio.run(story())


def test_a_missing_zeroconf_package_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_zeroconf(name: str, *rest: object, **more: object) -> object:
        if name.startswith("zeroconf"):
            raise ImportError("No module named 'zeroconf'")
        return real(name, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_zeroconf)

    async def story() -> None:
        node = Node("a" * 16, 7001, Sources(tailscale=False, seeds=("127.0.0.1:7011",)))
        await node.discovery.start()
        try:
            await node.until(lambda: node.found and node.lines)
        finally:
            await node.discovery.stop()
        assert node.found[0].source == "seed"
        assert "No module named 'zeroconf'" in node.lines[0]
        lines: list[str] = []
        assert await browse(0.01, log=lines.append) == []
        assert len(lines) == 1

    asyncio.run(story())


def test_a_failing_tailscale_is_told_once_and_comes_back(
    tailscale: FakeTailscale, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openclaw.discovery.discovery.SOURCE_BACKOFF_S_MIN", 0.001)
    tailscale.prints({"BackendState": "NeedsLogin", "Self": None, "Peer": None})

    async def story() -> None:
        node = Node("a" * 16, 7001, Sources(mdns=False))
        await node.discovery.start()
        try:
            await node.until(lambda: node.lines)
            tailscale.prints(
                {"BackendState": "Running", "Self": {"TailscaleIPs": ["100.101.1.1"]}, "Peer": {}}
            )
            await node.until(lambda: len(node.lines) == 2)
            assert node.discovery.tailscale_address == "100.101.1.1"
        finally:
            await node.discovery.stop()
        assert "logged out; run `tailscale up`" in node.lines[0]
        assert node.lines[1] == "discovery: tailscale works again"

    asyncio.run(story())


def test_a_change_of_address_is_told_and_makes_every_source_look_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("openclaw.discovery.discovery.INTERFACES_EVERY_S", 0.001)
    now = ["10.0.0.1"]
    monkeypatch.setattr(rooms, "usable", lambda: list(now))

    async def story() -> None:
        node = Node("a" * 16, 7001, Sources(mdns=False, tailscale=False, seeds=("127.0.0.1:7011",)))
        await node.discovery.start()
        try:
            await node.until(lambda: node.found)
            now[0] = "10.0.0.2"
            await node.until(lambda: node.moved and len(node.found) > 1)
        finally:
            await node.discovery.stop()
        assert node.moved == [["10.0.0.2"]]
        assert node.discovery.addresses == ["10.0.0.2"]

    asyncio.run(story())


def test_a_bound_node_announces_only_what_it_listens_on() -> None:
    assert Node(
        "a" * 16, 1, Sources(mdns=False, tailscale=False, bind=("10.9.9.9",))
    ).discovery.addresses == ["10.9.9.9"]
    everywhere = Node("a" * 16, 1, Sources(mdns=False, tailscale=False, bind=("0.0.0.0",)))
    assert everywhere.discovery.addresses == rooms.usable()


def test_a_seed_that_is_ourselves_is_no_hint() -> None:
    async def story() -> None:
        seeds = ("127.0.0.1:7001", "127.0.0.1:7011")
        node = Node("a" * 16, 7001, Sources(mdns=False, tailscale=False, seeds=seeds))
        await node.discovery.start()
        await node.until(lambda: node.found)
        await node.discovery.stop()
        assert {found.addresses for found in node.found} == {("127.0.0.1:7011",)}

    asyncio.run(story())


def test_a_seed_that_is_no_address_is_refused_before_anything_starts() -> None:
    with pytest.raises(MeshError, match="HOST:PORT"):
        Node("a" * 16, 7001, Sources(mdns=False, tailscale=False, seeds=("nas:port",)))
