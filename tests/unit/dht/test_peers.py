"""Whose word counts when the nodes asked for peers name different ones."""

from __future__ import annotations

from pypatcher.dht.peers import PeerPoll


def peers(first: int, count: int) -> list[tuple[str, int]]:
    return [(f"5.{number >> 8}.{number & 255}.1", 6881) for number in range(first, first + count)]


def test_who_is_named_by_most_nodes_comes_first_whatever_a_liar_adds() -> None:
    poll = PeerPoll()
    poll.add(peers(10_000, 10_000))
    for start in range(3):
        poll.add(peers(start, 3))
    found, confirmed = poll.result()
    assert found[0] == peers(2, 1)[0]
    assert set(found[:3]) == set(peers(1, 3))
    assert confirmed == 3


def test_nodes_that_name_different_peers_take_turns() -> None:
    poll = PeerPoll()
    poll.add(peers(1000, 100))
    poll.add(peers(1, 2))
    assert set(found := poll.result()[0][:4]) >= set(peers(1, 2)), found


def test_a_poll_is_bounded() -> None:
    poll = PeerPoll()
    for liar in range(40):
        poll.add(peers(liar * 1000, 1000))
    assert len(poll.result()[0]) == 2000


def test_an_answer_beyond_500_peers_is_not_read() -> None:
    poll, named = PeerPoll(), iter(peers(1, 1000))
    poll.add(named)
    assert len(poll.result()[0]) == 500
    assert next(named) == peers(501, 1)[0]


def test_a_single_answer_counts_in_full_since_nobody_else_was_there() -> None:
    poll = PeerPoll()
    poll.add(peers(1, 4))
    poll.add([])
    assert poll.result() == (tuple(peers(1, 4)), 4)


def test_a_router_that_shows_every_node_another_port_is_one_peer() -> None:
    poll = PeerPoll()
    for node in range(5):
        poll.add([("20.0.0.1", 1000 + node), ("20.0.0.2", 6881), ("20.0.0.2", 6882), (f"20.0.1.{node}", 1)])
    assert poll.result()[1] == 3


def test_a_thousand_ports_of_one_host_are_no_crowd() -> None:
    poll = PeerPoll()
    for _ in range(3):
        poll.add([("20.0.0.1", port) for port in range(1, 400)] + peers(1, 5))
    assert poll.result()[1] == 13


def test_the_addresses_of_a_64_are_few_peers_in_the_estimate() -> None:
    poll = PeerPoll()
    for _ in range(3):
        poll.add([(f"2a01:db9:1:2::{number:x}", 6881) for number in range(1, 400)])
    assert poll.result()[1] <= 8
