"""Seeds: what a person may write, and that one bad name holds up no other."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openclaw.config import PORT, SEEDS_EVERY_S_MIN
from openclaw.discovery.seeds import Seeds, parse_seed, resolve
from openclaw.discovery.source import Found, SourceError
from openclaw.errors import MeshError


def test_a_seed_is_a_host_with_or_without_a_port() -> None:
    assert parse_seed("10.0.0.7:4000") == ("10.0.0.7", 4000)
    assert parse_seed(" nas.local:27460 ") == ("nas.local", 27460)
    assert parse_seed("nas") == ("nas", PORT)


@pytest.mark.parametrize(
    "text", ["", ":1", "nas:", "nas:0", "nas:65536", "nas:x", "nas:²", "fe80::1", "a:1:2"]
)
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(MeshError, match="HOST:PORT"):
        parse_seed(text)


@given(st.text(max_size=300))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        host, port = parse_seed(text)
    except MeshError:
        return
    assert host
    assert 0 < port < 65535


def test_a_name_resolves_to_numeric_addresses() -> None:
    assert asyncio.run(resolve("127.0.0.1", 77)) == ("127.0.0.1:77",)
    assert asyncio.run(resolve("localhost", 77)) == ("127.0.0.1:77",)
    assert asyncio.run(resolve("no-such-name.invalid", 77)) == ()
    assert asyncio.run(resolve("a" * 64 + ".x", 77)) == ()


def test_a_seed_that_resolves_is_said_even_if_another_does_not() -> None:
    found: list[Found] = []
    seeds = Seeds(("no-such-name.invalid:1", "127.0.0.1:7000"), found.append)
    with pytest.raises(SourceError, match=r"cannot resolve no-such-name\.invalid"):
        asyncio.run(seeds.round([], fresh=False))
    assert found == [Found(("127.0.0.1:7000",), 7001, "seed", name="127.0.0.1")]


def test_seeds_are_said_ever_less_often_until_the_network_changes() -> None:
    seeds = Seeds(("127.0.0.1:7000",), lambda _: None)

    async def waits() -> list[float]:
        return [await seeds.round([], fresh) for fresh in (False, False, False, True)]

    first, second, third, fresh = asyncio.run(waits())
    assert first < second < third
    assert fresh == first == SEEDS_EVERY_S_MIN
