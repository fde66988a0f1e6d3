"""Which of a machine's addresses are offered, and in which order."""

from __future__ import annotations

import ipaddress

import pytest

from openclaw.discovery.interfaces import Path, best_first, classify, tailscale_address, usable


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("192.168.1.5", Path.LAN),
        ("8.8.8.8", Path.LAN),
        ("100.64.0.1", Path.TAILSCALE),
        ("100.127.255.254", Path.TAILSCALE),
        ("100.128.0.1", Path.LAN),
        ("169.254.3.4", Path.LINK_LOCAL),
        ("127.0.0.1", Path.LOOPBACK),
    ],
)
def test_an_address_says_what_network_it_is_on(address: str, path: Path) -> None:
    assert classify(address) is path


def test_lan_comes_before_the_tailnet_and_the_rest_is_left_out() -> None:
    assert best_first(
        {
            "lo": ["127.0.0.1"],
            "tailscale0": ["100.101.102.103"],
            "eth0": ["192.168.1.5", "169.254.1.1"],
        }
    ) == ["192.168.1.5", "100.101.102.103"]


def test_container_bridges_are_left_out_but_veth_and_plain_bridges_are_not() -> None:
    assert best_first(
        {
            "docker0": ["172.17.0.1"],
            "br-0123456789ab": ["172.18.0.1"],
            "virbr0": ["192.168.122.1"],
            "cni0": ["10.42.0.1"],
            "br0": ["192.168.1.9"],
            "veth12": ["10.77.0.2"],
        }
    ) == ["10.77.0.2", "192.168.1.9"]


def test_loopback_is_the_last_resort() -> None:
    assert best_first({"lo": ["127.0.0.1"]}) == ["127.0.0.1"]
    assert best_first({"lo": ["127.0.0.1"], "eth0": ["169.254.9.9"]}) == ["169.254.9.9"]
    assert best_first({}) == ["127.0.0.1"]
    assert best_first({"docker0": ["172.17.0.1"]}) == ["127.0.0.1"]


def test_this_machine_has_at_least_one_numeric_address() -> None:
    assert [ipaddress.IPv4Address(address) for address in usable()]


def test_the_tailnet_address_is_found_among_others() -> None:
    assert tailscale_address(["192.168.1.5", "100.100.1.2"]) == "100.100.1.2"
    assert tailscale_address(["192.168.1.5"]) == ""
