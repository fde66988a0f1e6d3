"""The Tailscale source against a stand-in on PATH: what it prints, and every way in which it can fail."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from pathlib import Path

import pytest
from fake_tailscale import STATUS, FakeTailscale
from hypothesis import given
from hypothesis import strategies as st

from openclaw.discovery.source import Found, SourceError
from openclaw.discovery.tailscale import Peer, Tailnet, Tailscale, answers, ask_tool, read_status

RECORDED = STATUS.read_bytes()


def test_online_unexpired_peers_of_the_same_person_are_chosen() -> None:
    assert read_status(RECORDED) == Tailnet(
        "100.101.1.1", (Peer("100.101.1.2", "nas"), Peer("100.101.1.11", ""))
    )


def test_a_configured_tag_adds_its_machines() -> None:
    names = [peer.name for peer in read_status(RECORDED, frozenset({"tag:mesh"})).peers]
    assert names == ["nas", "gpu", ""]


def test_a_tagged_machine_does_not_take_all_tagged_ones_for_its_own() -> None:
    status = json.loads(RECORDED)
    status["Self"].update(UserID=9, Tags=["tag:server"])
    assert read_status(json.dumps(status).encode()).peers == ()


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("NeedsLogin", "logged out; run `tailscale up`"),
        ("Stopped", "stopped; run `tailscale up`"),
        ("NeedsMachineAuth", "approval"),
        ("SomethingNew", "'SomethingNew'"),
        (None, "''"),
    ],
)
def test_a_tailnet_that_is_not_up_says_why(state: str | None, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        read_status(json.dumps({"BackendState": state, "Self": None, "Peer": None}).encode())


def test_nulls_everywhere_are_an_empty_tailnet() -> None:
    assert read_status(b'{"BackendState":"Running","Self":null,"Peer":null}') == Tailnet("", ())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
peer_like = st.dictionaries(
    st.sampled_from(["Online", "Expired", "UserID", "Tags", "TailscaleIPs", "HostName", "ShareeNode"]),
    json_values,
)


@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_but_a_reason(data: bytes) -> None:
    with pytest.raises(SourceError):
        read_status(data)


@given(json_values | peer_like, json_values | st.dictionaries(st.text(max_size=4), json_values | peer_like))
def test_no_json_of_a_running_tailnet_raises(me: object, peers: object) -> None:
    status = {"BackendState": "Running", "Self": me, "Peer": peers}
    assert read_status(json.dumps(status).encode(), frozenset({"tag:a"})) is not None


def test_deep_nesting_is_nonsense_and_not_a_crash() -> None:
    with pytest.raises(SourceError, match="not JSON"):
        read_status(b'{"Peer":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


def test_the_tool_is_asked_for_json(tailscale: FakeTailscale) -> None:
    assert asyncio.run(ask_tool()) == RECORDED
    assert tailscale.calls == ["status --json"]


def test_a_missing_tool_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="not installed"):
        asyncio.run(ask_tool())


def test_a_failing_tool_is_a_reason(tailscale: FakeTailscale) -> None:
    tailscale.set(RC="1")
    with pytest.raises(SourceError, match="exit code 1"):
        asyncio.run(ask_tool())


def test_a_hanging_tool_is_ended(tailscale: FakeTailscale) -> None:
    tailscale.set(DELAY="3600")
    with pytest.raises(SourceError, match="no answer"):
        asyncio.run(ask_tool(timeout_s=0.2))


def test_a_flooding_tool_is_ended(tailscale: FakeTailscale) -> None:
    tailscale.set(FLOOD="1")
    with pytest.raises(SourceError, match="printed over"):
        asyncio.run(ask_tool(timeout_s=60))


def test_nonsense_is_a_reason(tailscale: FakeTailscale) -> None:
    tailscale.prints(b"\xff\x00 hello")
    source = Tailscale(27461, frozenset(), lambda _: None)
    with pytest.raises(SourceError, match="not JSON"):
        asyncio.run(source.round([], fresh=False))


@pytest.fixture
def loopback_tailnet(tailscale: FakeTailscale, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tailnet whose machines are addresses of this one: of two peers, one listens."""
    monkeypatch.setattr("openclaw.discovery.tailscale.TAILNET", ipaddress.IPv4Network("127.0.0.0/8"))
    peer = {"Online": True, "UserID": 1}
    tailscale.prints(
        {
            "BackendState": "Running",
            "Self": {"UserID": 1, "TailscaleIPs": ["127.0.0.9"]},
            "Peer": {
                "up": {**peer, "HostName": "up", "TailscaleIPs": ["127.0.0.2"]},
                "down": {**peer, "HostName": "down", "TailscaleIPs": ["127.0.0.3"]},
            },
        }
    )


@pytest.mark.usefixtures("loopback_tailnet")
def test_only_peers_whose_intro_port_answers_are_found_and_not_asked_again_at_once() -> None:
    async def rounds() -> list[int]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0)
        port = server.sockets[0].getsockname()[1]
        found: list[Found] = []
        source = Tailscale(port, frozenset(), found.append)
        counts = []
        async with server:
            for fresh in (False, False, True):
                await source.round([], fresh)
                counts.append(len(found))
        assert set(found) == {Found((f"127.0.0.2:{port - 1}",), port, "tailscale", name="up")}
        assert source.address == "127.0.0.9"
        return counts

    assert asyncio.run(rounds()) == [1, 1, 2]


def test_a_port_that_answers_is_told_from_one_that_does_not() -> None:
    async def both() -> tuple[bool, bool]:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server:
            up = await answers("127.0.0.1", port)
        return up, await answers("127.0.0.1", port)

    assert asyncio.run(both()) == (True, False)
