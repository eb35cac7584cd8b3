"""The routing table: who enters, who is told to others, who is forgotten."""

from __future__ import annotations

from collections import Counter
from random import Random
from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import Address
from pypatcher.dht import routing
from pypatcher.dht.nodeid import Contact, distance, prefix_length, random_id, sibling_id
from pypatcher.dht.routing import BUCKET_SIZE, RoutingTable

_OWN = bytes(20)


def _contact(number: int, node_id: bytes | None = None) -> Contact:
    return Contact(node_id or random_id(Random(number)), (f"20.{number >> 8}.{number & 255}.1", 6881))


def _far(number: int) -> Contact:
    return _contact(number, sibling_id(_OWN, 0, Random(number)))


@given(st.integers(0, 1 << 32), st.integers(1, 200), st.integers(1, 30))
def test_the_nearest_are_the_nearest_of_those_that_it_knows(seed: int, known: int, count: int) -> None:
    table = RoutingTable(_OWN)
    random = Random(seed)
    for number in range(known):
        table.answered(_contact(number, random_id(random)), 0.0)
    target = random_id(random)
    expected = sorted(table, key=lambda contact: distance(contact.id, target))[:count]
    assert table.nearest(target, count) == expected


def test_it_never_holds_itself() -> None:
    table = RoutingTable(_OWN)
    table.answered(Contact(_OWN, ("20.0.0.1", 1)), 0.0)
    assert len(table) == 0
    assert not table.wants(Contact(_OWN, ("20.0.0.1", 1)))


def test_a_full_bucket_keeps_its_old_nodes_while_they_live() -> None:
    table = RoutingTable(_OWN)
    for number in range(100):
        table.answered(_far(number), float(number))
    assert set(table) == {_far(number) for number in range(BUCKET_SIZE)}
    assert not table.wants(_far(200))


def test_a_silent_node_gives_way_to_one_that_waits() -> None:
    table = RoutingTable(_OWN)
    for number in range(BUCKET_SIZE + 1):
        table.answered(_far(number), float(number))
    table.failed(_far(0).address)
    assert _far(0) in table
    table.failed(_far(0).address)
    assert _far(0) not in table
    assert _far(BUCKET_SIZE) in table


def test_a_silent_node_is_told_to_nobody_and_in_the_end_forgotten() -> None:
    table = RoutingTable(_OWN)
    table.answered(_far(1), 0.0)
    for _ in range(2):
        table.failed(_far(1).address)
    assert table.nearest(_OWN, 8, good=True) == []
    assert table.nearest(_OWN, 8) == [_far(1)]
    assert table.good() == []
    table.answered(_far(1), 1.0)
    assert table.nearest(_OWN, 8, good=True) == [_far(1)]
    for _ in range(3):
        table.failed(_far(1).address)
    assert len(table) == 0


def test_nobody_takes_the_place_of_a_living_node_by_its_id() -> None:
    table = RoutingTable(_OWN)
    honest = _far(1)
    table.answered(honest, 0.0)
    thief = Contact(honest.id, ("66.6.6.6", 6))
    assert not table.wants(thief)
    table.answered(thief, 1.0)
    assert list(table) == [honest]


def test_a_node_that_waits_under_another_id_does_not_enter_twice() -> None:
    table = RoutingTable(_OWN)
    for number in range(BUCKET_SIZE + 1):
        table.answered(_far(number), float(number))
    evil = ("66.6.6.6", 1)
    table.answered(Contact(sibling_id(_OWN, 0, Random(1000)), evil), 100.0)
    second = Contact(sibling_id(_OWN, 1, Random(1001)), evil)
    table.answered(second, 101.0)
    for _ in range(2):
        table.failed(_far(0).address)
    assert set(table) == {_far(number) for number in range(1, BUCKET_SIZE + 1)} | {second}
    for _ in range(3):
        table.failed(evil)
    assert evil not in {contact.address for contact in table}
    thief = Contact(second.id, ("77.7.7.7", 1))
    table.answered(thief, 102.0)
    assert thief in table


_IDS = [sibling_id(_OWN, shared, Random(n)) for shared in range(2) for n in range(3)]
_ADDRESSES = [(f"66.6.6.{1 + number % 3}", 1 + number) for number in range(4)]
_STEP = st.tuples(st.sampled_from([*_IDS, None]), st.sampled_from(_ADDRESSES))


@given(st.integers(1, 2), st.sampled_from(_IDS), st.lists(_STEP, min_size=40, max_size=80))
def test_failures_in_whatever_order_leave_buckets_and_table_alike(
    size: int, next_own: bytes, steps: list[tuple[bytes | None, Address]]
) -> None:
    with patch.object(routing, "BUCKET_SIZE", size):
        table = RoutingTable(_OWN)
        for now, (node_id, address) in enumerate(steps):
            if node_id is not None:
                table.answered(Contact(node_id, address), float(now))
            else:
                table.failed(address)
                table.failed(address)
            if now == 60:
                table.rebase(next_own)
            contacts = list(table)
            buckets = Counter(prefix_length(table.own_id, contact.id) for contact in contacts)
            assert len(table) == len({contact.address for contact in contacts})
            assert all(table.room(index) == (buckets[index] < size) for index in range(161))
            assert all(count <= size for count in buckets.values())


def test_a_node_that_started_again_is_known_by_its_new_id() -> None:
    table = RoutingTable(_OWN)
    table.answered(_far(1), 0.0)
    renewed = Contact(_far(2).id, _far(1).address)
    table.answered(renewed, 1.0)
    assert list(table) == [renewed]


def test_one_host_has_two_nodes_and_one_network_eight() -> None:
    table = RoutingTable(_OWN)
    random = Random(1)
    for port in range(1, 50):
        table.answered(Contact(random_id(random), ("66.6.6.6", port)), 0.0)
    assert len(table) == 2
    for host in range(1, 50):
        table.answered(Contact(random_id(random), (f"66.6.6.{host}", 1)), 0.0)
    assert len(table) == 8


def test_nodes_on_one_machine_all_enter() -> None:
    table = RoutingTable(_OWN)
    for port in range(1, 19):
        table.answered(Contact(random_id(Random(port)), ("127.0.0.1", port)), 0.0)
    assert len(table) == 18


def test_it_stays_bounded_whatever_ids_come() -> None:
    table = RoutingTable(_OWN)
    random = Random(1)
    for number in range(3000):
        address = (f"10.{number >> 8}.{number & 255}.1", 1)
        table.answered(Contact(sibling_id(_OWN, number % 160, random), address), 0.0)
    assert len(table) <= 640


def test_a_new_own_id_puts_every_node_into_its_new_bucket() -> None:
    table = RoutingTable(_OWN)
    for number in range(60):
        table.answered(_contact(number), 0.0)
    before = set(table)
    table.rebase(b"\xff" * 20)
    assert table.own_id == b"\xff" * 20
    assert len(table) >= BUCKET_SIZE
    assert set(table) <= before
    far = sum(prefix_length(table.own_id, contact.id) == 0 for contact in before)
    assert sum(prefix_length(table.own_id, contact.id) == 0 for contact in table) == min(far, BUCKET_SIZE)


def test_the_quietest_node_is_the_next_to_be_checked() -> None:
    table = RoutingTable(_OWN)
    for number in range(5):
        table.answered(_far(number), 100.0 - number)
    assert table.stalest(97.0) == _far(4)
    assert table.stalest(96.0) is None
