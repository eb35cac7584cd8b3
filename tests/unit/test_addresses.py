"""Addresses as bytes and text, and the groups that budgets count by."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import (
    family,
    format_address,
    host_of,
    is_lan,
    network_of,
    pack_compact,
    parse_address,
    parse_addresses,
    provider_of,
    unpack_compact,
)
from pypatcher.errors import CodecError, SettingError

hosts = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
addresses = st.tuples(hosts, st.integers(0, 65535))


@given(addresses)
def test_compact_bytes_and_text_round_trip(address: tuple[str, int]) -> None:
    packed = pack_compact(address)
    assert len(packed) == (6 if family(address) == 4 else 18)
    assert pack_compact(unpack_compact(packed)) == packed
    assert parse_address(format_address(address)) == address


@given(st.binary(max_size=20).filter(lambda data: len(data) not in (6, 18)))
def test_other_lengths_are_no_compact_address(data: bytes) -> None:
    with pytest.raises(CodecError):
        unpack_compact(data)


def test_text_may_name_a_host() -> None:
    assert parse_address(" router.example:6881 ") == ("router.example", 6881)
    assert parse_address("[2001:db8::1]:0") == ("2001:db8::1", 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":6881",
        "host:port",
        "host:-1",
        "host:65536",
        "::1:6881",
        "[::1]",
        "host:٦٨٨١",
        "host:" + "9" * 5000,
    ],
)
def test_other_text_is_refused_and_says_how_to_write_it(text: str) -> None:
    with pytest.raises(SettingError, match="write"):
        parse_address(text)


def test_a_list_may_be_empty_and_have_spaces() -> None:
    assert parse_addresses("") == parse_addresses(" , ") == ()
    assert parse_addresses("a:1, [::1]:2,") == (("a", 1), ("::1", 2))


@pytest.mark.parametrize(
    ("host", "near"),
    [
        ("127.0.0.1", True),
        ("127.77.1.2", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("192.168.1.1", True),
        ("169.254.3.4", True),
        ("::1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("8.8.8.8", False),
        ("100.64.0.1", False),
        ("172.32.0.1", False),
        ("2001:4860::1", False),
        ("2001:0:4136:e378:8000:63bf:3fff:fdd2", False),
        ("198.18.0.1", False),
        ("192.0.2.1", False),
        ("203.0.113.7", False),
        ("2001:db8::1", False),
        ("192.0.0.8", False),
        ("240.0.0.1", False),
        ("::ffff:8.8.8.8", False),
    ],
)
def test_only_what_can_only_be_near_is_the_lan(host: str, near: bool) -> None:
    assert is_lan((host, 1)) is near


def test_failures_are_counted_by_24_bits_of_ipv4_and_48_of_ipv6() -> None:
    assert network_of(("8.8.8.8", 1)) == network_of(("8.8.8.200", 2)) != network_of(("8.8.9.8", 1))
    assert network_of(("2001:db8:1::1", 1)) == network_of(("2001:db8:1:ffff::2", 1))
    assert network_of(("2001:db8:1::1", 1)) != network_of(("2001:db8:2::1", 1))


def test_a_host_is_an_address_or_the_64_of_an_ipv6_one() -> None:
    assert host_of(("8.8.8.8", 1)) == host_of(("8.8.8.8", 2)) != host_of(("8.8.8.9", 1))
    assert host_of(("2001:db8:1:2::1", 1)) == host_of(("2001:db8:1:2:ffff::2", 2))
    assert host_of(("2001:db8:1:2::1", 1)) != host_of(("2001:db8:1:3::1", 1))


def test_a_provider_is_a_16_or_a_32() -> None:
    assert provider_of(("8.8.8.8", 1)) == provider_of(("8.8.9.9", 1)) != provider_of(("8.9.8.8", 1))
    assert provider_of(("2001:db8:1::1", 1)) == provider_of(("2001:db8:2::1", 1))
    assert provider_of(("2001:db8:1::1", 1)) != provider_of(("2001:db9:1::1", 1))


@pytest.mark.parametrize("host", ["127.0.0.1", "192.168.1.7", "fe80::1%eth0", "fd00::7"])
def test_in_a_lan_each_port_is_a_host_and_each_host_a_network(host: str) -> None:
    assert host_of((host, 1)) != host_of((host, 2))
    assert network_of((host, 1)) == provider_of((host, 2)) == host
