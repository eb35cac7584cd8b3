"""How many nodes one host may have: few, but for the LAN and for the hosts of entry points that somebody named."""

from __future__ import annotations

from pypatcher.dht.crowd import Crowd, Near
from pypatcher.settings import PUBLIC_BOOTSTRAP


def room_at(host: str, near: Near) -> int:
    crowd = Crowd(near)
    for port in range(1, 101):
        if crowd.has_room((host, port)):
            crowd.add((host, port))
    return sum(crowd._hosts.values()) or 100


def test_a_private_dht_has_many_nodes_on_its_host_and_no_other() -> None:
    near = Near([("100.64.7.1", 6881), ("2001:DB8:0::1", 6881), ("dht.example.com", 6881)])
    assert room_at("100.64.7.1", near) == 100
    assert room_at("2001:db8::1", near) == 100
    assert room_at("100.64.7.2", near) == 2
    assert room_at("192.168.7.1", near) == 100
    assert near.host_of(("100.64.7.1", 1)) != near.host_of(("100.64.7.1", 2))
    assert near.host_of(("100.64.7.2", 1)) == near.host_of(("100.64.7.2", 2))


def test_public_entry_points_are_trusted_with_no_crowd() -> None:
    near = Near(PUBLIC_BOOTSTRAP)
    assert not near._hosts
    assert room_at("8.8.4.1", near) == 2
