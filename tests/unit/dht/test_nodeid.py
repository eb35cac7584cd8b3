"""Node ids: distance, and the vectors of BEP 42."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.dht.nodeid import distance, is_secure, prefix_length, secure_id, sibling_id

_IDS = st.binary(min_size=20, max_size=20)


@pytest.mark.parametrize(
    ("host", "node_id"),
    [
        ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
        ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
        ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
        ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
        ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
    ],
)
def test_the_ids_of_bep_42_are_accepted_at_their_address_alone(host: str, node_id: str) -> None:
    assert is_secure(bytes.fromhex(node_id), host)
    assert not is_secure(bytes.fromhex(node_id), "8.8.8.8")


@given(st.integers(1 << 24, (1 << 32) - 1), st.integers(0, 99))
def test_an_id_made_for_an_address_is_allowed_there(number: int, seed: int) -> None:
    host = ".".join(str(byte) for byte in number.to_bytes(4, "big"))
    assert is_secure(secure_id(host, Random(seed)), host)


def test_an_id_made_for_an_ipv6_address_is_allowed_in_its_64() -> None:
    node_id = secure_id("2607:f8b0:4005:80a::1", Random(1))
    assert is_secure(node_id, "2607:f8b0:4005:80a::2")
    assert not is_secure(node_id, "2607:f8b1:4005:80a::1")


def test_nearby_addresses_may_carry_any_id() -> None:
    assert is_secure(bytes(20), "127.0.0.1")
    assert is_secure(bytes(20), "fe80::1%eth0")


@given(_IDS, _IDS)
def test_distance_is_a_metric(a: bytes, b: bytes) -> None:
    assert distance(a, b) == distance(b, a)
    assert (distance(a, b) == 0) == (a == b) == (prefix_length(a, b) == 160)


@given(_IDS, st.integers(0, 159), st.integers(0, 99))
def test_a_sibling_shares_exactly_the_bits_that_it_should(node_id: bytes, shared: int, seed: int) -> None:
    assert prefix_length(node_id, sibling_id(node_id, shared, Random(seed))) == shared
