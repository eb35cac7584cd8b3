"""Findings about a network are told in words that a person can act on."""

from __future__ import annotations

import pytest

from pypatcher.netcheck.advice import Remark, judge, router_kind, works
from pypatcher.netcheck.probe import Findings

HOME = Findings(
    local=("192.168.1.2:6881",),
    dht_nodes={4: 12},
    outside=("5.6.7.8:6881",),
    port_varies=False,
    router="192.168.1.1",
    refusals={"PCP": "192.168.1.1 does not answer"},
    multicast=True,
)


def about(topic: str, **changed: object) -> Remark:
    values = {name: getattr(HOME, name) for name in Findings.__slots__} | changed
    return next(verdict for verdict in judge(Findings(**values)) if verdict.topic == topic)


def test_a_home_network_is_fine() -> None:
    assert works(HOME)
    assert router_kind(HOME) == "easy"
    assert all(verdict.good is not False for verdict in judge(HOME))


def test_multicast_is_told_with_the_neighbours_or_why_it_is_not_used() -> None:
    assert "2 of this fleet are there" in about("multicast", neighbours=2).text
    assert "not used" in about("multicast", multicast=None).text
    assert "firewall" in about("multicast", multicast=False).advice


def test_what_the_router_does_for_ipv6_is_told() -> None:
    seen = {"outside": ("[2a01::1]:6881",), "dht_nodes": {6: 3}}
    assert "lets strangers in" in about("IPv6", **seen, opened="[2a01::1]:6881").text
    assert "fe80::1%eth0 does not answer" in about("IPv6", **seen, opened_refusal="fe80::1%eth0 does not answer").text


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        ({"outside": ("192.168.1.2:6881",)}, "public"),
        ({"port_varies": True}, "hard"),
        ({"port_varies": None}, "unknown"),
        ({"outside": (), "dht_nodes": {4: 1}}, "unknown"),
        ({"outside": ("[2a01::1]:6881",), "dht_nodes": {4: 0, 6: 3}}, "none"),
    ],
)
def test_the_router_is_named_by_what_others_see(changed: dict[str, object], kind: str) -> None:
    values = {name: getattr(HOME, name) for name in Findings.__slots__} | changed
    assert router_kind(Findings(**values)) == kind


def test_blocked_udp_and_missing_dns_are_told_apart() -> None:
    assert "UDP" in about("DHT", dht_nodes={4: 0}).advice
    assert "DNS" in about("DHT", dht_nodes={4: 0}, names=False).advice
    assert about("DHT", dht_nodes={4: 0}).good is False


def test_a_hard_router_comes_with_what_to_do_unless_it_opens_a_port() -> None:
    assert "PYPATCHER_BIND" in about("router", port_varies=True).advice
    opened = about("router", port_varies=True, mapped="5.6.7.8:6881", mapped_by="PCP")
    assert opened.good is True
    assert not opened.advice


def test_a_port_opened_behind_another_router_is_no_open_port() -> None:
    assert about("open port", mapped="100.64.1.1:6881", mapped_by="PCP").good is None
    assert about("open port", mapped="5.6.7.8:6881", mapped_by="PCP").good is True


def test_the_fleet_is_spoken_of_only_when_asked_for() -> None:
    assert "fleet" not in {verdict.topic for verdict in judge(HOME)}
    assert about("fleet", heard=3, reached=2).good is True
    assert about("fleet", heard=3, reached=0).good is False
    assert about("fleet", heard=0, reached=0).advice
