"""What an mDNS packet may say, and that nothing in one can hurt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zeroconf.asyncio import AsyncServiceInfo

from openclaw.config import SERVICE_TYPE, TXT_BYTES_MAX
from openclaw.discovery.mdns import Mdns, multicast, read_info, read_txt, write_txt
from openclaw.discovery.source import Found

GOOD = {b"v": b"1", b"m": b"deadbeef", b"n": b"abcd2345", b"i": b"27461"}


def info(properties: dict[str, str], addresses: list[str], port: int = 27460) -> AsyncServiceInfo:
    return AsyncServiceInfo(
        SERVICE_TYPE, f"x.{SERVICE_TYPE}", port=port, properties=properties, parsed_addresses=addresses
    )


def test_what_is_written_is_read_back_and_is_small() -> None:
    written = info(write_txt("deadbeef", "abcd2345", 27461), ["10.0.0.1", "10.0.0.2"])
    assert len(written.text) <= TXT_BYTES_MAX
    assert read_info(written) == Found(
        ("10.0.0.1:27460", "10.0.0.2:27460"), 27461, "mdns", mesh_tag="deadbeef", node="abcd2345"
    )


def test_the_packet_names_neither_the_node_nor_the_machine() -> None:
    mdns = Mdns("deadbeef", "abcd2345", 27460, 27461, lambda _: None)
    written = mdns._info(["10.0.0.1"])
    assert set(written.properties) == {b"v", b"m", b"n", b"i"}
    assert written.name != Mdns("deadbeef", "abcd2345", 27460, 27461, lambda _: None)._info([]).name


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"v", b"2"),
        (b"v", None),
        (b"m", b""),
        (b"m", b"short"),
        (b"n", b"a" * 17),
        (b"n", b"../../etc"),
        (b"i", b"0"),
        (b"i", b"65536"),
        (b"i", b"1" * 201),
        (b"i", "²".encode()),
        (b"m", b"\xff" * 8),
    ],
)
def test_a_field_that_we_would_not_write_makes_the_packet_junk(key: bytes, value: bytes | None) -> None:
    assert read_txt(GOOD) == ("deadbeef", "abcd2345", 27461)
    assert read_txt({**GOOD, key: value}) is None


def test_addresses_that_nobody_can_dial_are_dropped() -> None:
    txt = write_txt("deadbeef", "abcd2345", 27461)
    assert read_info(info(txt, ["224.0.0.1", "0.0.0.0", "fe80::1"])) is None
    assert read_info(info(txt, [])) is None
    assert read_info(info(txt, ["10.0.0.1"], port=0)) is None
    many = read_info(info(txt, [f"10.0.0.{n}" for n in range(1, 200)]))
    assert many is not None
    assert len(many.addresses) == 8


def test_a_tailnet_is_not_asked_for_multicast() -> None:
    assert multicast(["10.0.0.1", "100.64.0.1"]) == ["10.0.0.1"]
    assert multicast(["100.64.0.1"]) == ["127.0.0.1"]


@given(st.dictionaries(st.sampled_from([b"v", b"m", b"n", b"i", b"z"]), st.none() | st.binary(max_size=300)))
def test_no_properties_raise(properties: dict[bytes, bytes | None]) -> None:
    txt = read_txt(properties)
    assert txt is None or 0 < txt[2] < 65536


@given(
    st.binary(max_size=600),
    st.lists(st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16), max_size=20),
    st.integers(0, 65535),
)
def test_no_packet_raises(text: bytes, addresses: list[bytes], port: int) -> None:
    packet = AsyncServiceInfo(
        SERVICE_TYPE, f"x.{SERVICE_TYPE}", port=port, properties=text, addresses=addresses
    )
    found = read_info(packet)
    assert found is None or found.addresses
