"""Addresses of peers are hints from strangers: what is not numeric is passed over, LAN stands first."""

from __future__ import annotations

import asyncio
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mesh_helpers import silent_port

from openclaw.config import ADDRESSES_PER_PEER_MAX
from openclaw.transport.address import Address, Answer, dial, kind_of, parse, usable


def test_lan_stands_before_tailnet_and_order_is_kept_within() -> None:
    told = [
        "100.101.1.1:5",
        "10.0.0.2:5",
        "nas.local:5",
        "[fd7a:115c:a1e0::1]:5",
        "[fe80::1]:5",
        "10.0.0.1:5",
    ]
    assert [str(one) for one in usable(told)] == [
        "10.0.0.2:5", "[fe80::1]:5", "10.0.0.1:5", "100.101.1.1:5", "[fd7a:115c:a1e0::1]:5",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("ip", "kind"), [("100.63.1.1", "lan"), ("100.64.0.1", "tailscale"), ("100.128.0.1", "lan")]
)
def test_the_tailnet_is_what_tailscale_hands_out(ip: str, kind: str) -> None:
    assert kind_of(ip) == kind


@given(st.lists(st.text(max_size=40)))
def test_no_text_breaks_it(told: list[str]) -> None:
    for one in usable(told):
        assert parse(str(one)) == one


def test_how_many_are_tried_is_bounded() -> None:
    assert len(usable(f"10.0.0.{n}:1" for n in range(100))) == ADDRESSES_PER_PEER_MAX


def test_a_dial_tells_open_from_refused_from_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        here = Address("127.0.0.1", server.getsockname()[1])
        assert asyncio.run(dial(here, 5)) is Answer.OPEN
        assert asyncio.run(dial(Address("127.0.0.1", closed.getsockname()[1]), 5)) is Answer.REFUSED
    with silent_port() as port:
        assert asyncio.run(dial(Address("127.0.0.1", port), 0.05)) is Answer.SILENT
