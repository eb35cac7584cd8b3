"""The lookup state machine, driven by hand: whom it asks, when it ends, what lies do to it."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypatcher.dht.crowd import Near
from pypatcher.dht.lookup import ALPHA, MAX_QUERIES, NEAREST, Lookup
from pypatcher.dht.nodeid import Contact, distance, is_secure, prefix_length, random_id, secure_id

_OWN = b"\xff" * 20
_TARGET = bytes(20)


def _contact(number: int, *, node_id: bytes | None = None) -> Contact:
    return Contact(node_id or number.to_bytes(20, "big"), (f"20.{number >> 8}.{number & 255}.1", 6881))


def _member(number: int, random: Random) -> Contact:
    """A node in a /16 of its own, with an id that BEP 42 allows."""
    host = f"{11 + number % 100}.{number // 100}.6.1"
    return Contact(secure_id(host, random), (host, 6881))


def _lookup(seeds: Iterable[Contact]) -> Lookup:
    return Lookup(_TARGET, seeds, own_id=_OWN)


def _run(lookup: Lookup, world: dict[Contact, list[Contact]], silent: frozenset[Contact] = frozenset()) -> int:
    asked = 0
    while True:
        queries = lookup.next_queries()
        if lookup.finished:
            return asked
        assert queries
        for contact in queries:
            asked += 1
            if contact in silent or contact not in world:
                lookup.failed(contact)
            else:
                lookup.answered(contact, contact.id, world[contact])


def test_it_asks_a_few_at_a_time_the_nearest_first() -> None:
    lookup = _lookup(_contact(number) for number in (9, 3, 7, 1, 5, 8, 2))
    assert lookup.next_queries() == [_contact(number) for number in (1, 2, 3, 5, 7)]
    assert lookup.next_queries() == []
    lookup.answered(_contact(3), _contact(3).id, [])
    assert lookup.next_queries() == [_contact(8)]


def test_a_slow_node_frees_its_place_and_still_counts_when_it_answers() -> None:
    lookup = _lookup(_contact(number) for number in range(1, 8))
    first = lookup.next_queries()
    assert len(first) == ALPHA
    lookup.slow(first[0])
    assert lookup.next_queries() == [_contact(6)]
    for contact in [*first[1:], _contact(6)]:
        lookup.answered(contact, contact.id, [])
    (last,) = lookup.next_queries()
    lookup.answered(last, last.id, [])
    assert not lookup.finished
    lookup.answered(first[0], first[0].id, [])
    assert lookup.finished
    assert lookup.closest()[0] == first[0]


def test_without_anybody_to_ask_it_is_over() -> None:
    lookup = _lookup([])
    assert lookup.next_queries() == []
    assert lookup.finished
    assert lookup.closest() == []


@settings(max_examples=40)
@given(st.integers(0, 1 << 32), st.integers(1, 150), st.floats(0, 0.5))
def test_it_finds_the_nearest_living_nodes_of_a_network(seed: int, size: int, dead: float) -> None:
    random = Random(seed)
    everyone = [_member(number, random) for number in range(size)]
    silent = frozenset(contact for contact in everyone if random.random() < dead)
    ranked = sorted(everyone, key=lambda contact: distance(contact.id, _TARGET))
    living = [contact for contact in ranked if contact not in silent]
    near = 8 + NEAREST
    world = {contact: living[:near] + random.sample(everyone, min(4, size)) for contact in everyone}
    lookup = _lookup(random.sample(everyone, min(8, size)))
    asked = _run(lookup, world, silent)
    assert asked <= MAX_QUERIES
    if set(lookup.closest()):
        assert lookup.closest() == living[:NEAREST]


def test_most_of_the_nearest_are_found_among_5000_with_dead_nodes() -> None:
    random = Random(3)
    everyone = [_member(number, random) for number in range(5000)]
    silent = frozenset(random.sample(everyone, 750))

    def answer(asked: Contact) -> list[Contact]:
        buckets: dict[int, list[Contact]] = {}
        for contact in random.sample(everyone, len(everyone)):
            bucket = buckets.setdefault(prefix_length(asked.id, contact.id), [])
            if len(bucket) < 20:
                bucket.append(contact)
        known = [contact for bucket in buckets.values() for contact in bucket]
        return sorted(known, key=lambda contact: distance(contact.id, _TARGET))[:8]

    lookup = _lookup(random.sample(everyone, 20))
    while queries := lookup.next_queries():
        for contact in queries:
            if contact in silent:
                lookup.failed(contact)
            else:
                lookup.answered(contact, contact.id, answer(contact))
    living = sorted(set(everyone) - silent, key=lambda contact: distance(contact.id, _TARGET))
    assert lookup.finished
    assert lookup.queries <= 60
    assert lookup.closest()[0] == living[0]
    assert set(living[:8]) <= set(lookup.closest())
    assert len(set(lookup.closest()) & set(living[:NEAREST])) >= 12


def test_an_endless_chain_of_ever_nearer_nodes_ends() -> None:
    lookup = _lookup([_contact(60_000)])
    asked = 0
    number = 60_000
    while not lookup.finished:
        for contact in lookup.next_queries():
            asked += 1
            fresh = [_contact(number - step) for step in range(1, 17)]
            number -= 16
            lookup.answered(contact, contact.id, fresh)
        if asked > 2 * MAX_QUERIES:
            break
    assert asked <= MAX_QUERIES


def test_who_names_only_dead_nodes_is_not_believed_for_long() -> None:
    liar, honest = _contact(50_000), [_contact(60_000 + number) for number in range(5)]
    fakes = [_contact(number) for number in range(1, 33)]
    world = {liar: fakes, **dict.fromkeys(honest, honest)}
    lookup = _lookup([liar, *honest])
    asked = _run(lookup, world)
    assert asked < len(honest) + 1 + len(fakes) / 2
    assert set(lookup.closest()) == {liar, *honest}


def test_a_node_that_many_name_is_asked_though_a_liar_named_it_too() -> None:
    liar, honest, good = _contact(50_000), _contact(60_000), _contact(40_000)
    fakes = [_contact(number) for number in range(1, 20)]
    world = {liar: [*fakes, good], honest: [good], good: []}
    lookup = _lookup([liar, honest])
    _run(lookup, world)
    assert good in lookup.closest()


def test_a_crowd_of_ids_on_one_host_or_network_stays_small() -> None:
    random = Random(1)
    same_host = [Contact(random_id(random), ("66.6.6.6", port)) for port in range(1, 30)]
    same_network = [Contact(random_id(random), (f"66.6.7.{host}", 1)) for host in range(1, 30)]
    start = _contact(1)
    world = {start: [*same_host, *same_network], **{contact: [] for contact in same_host + same_network}}
    lookup = _lookup([start])
    assert _run(lookup, world) == 8
    assert sum(contact in same_host for contact in lookup.closest()) <= 2


def test_wrong_names_of_a_host_and_its_network_hide_no_true_one() -> None:
    """The attack: two wrong ports of an honest node, or eight dead hosts beside it, were all that a lookup let in."""
    liar, guide = _contact(1), _contact(2)
    honest = Contact((3).to_bytes(20, "big"), ("30.0.0.7", 6881))
    wrong = [Contact((10 + port).to_bytes(20, "big"), ("30.0.0.7", port)) for port in (1, 2)]
    dead = [Contact((20 + host).to_bytes(20, "big"), (f"30.0.0.{host}", 6881)) for host in range(20, 26)]
    lookup = _lookup([liar, guide])
    assert lookup.next_queries() == [liar, guide]
    lookup.answered(liar, liar.id, [*wrong, *dead])
    for contact in lookup.next_queries():
        lookup.failed(contact)
    lookup.answered(guide, guide.id, [honest])
    assert honest in lookup.next_queries()


def test_a_network_that_is_named_for_a_flood_is_asked_little() -> None:
    world = {
        _contact(number): [
            Contact(bytes([0, number, host]) + bytes(17), (f"30.0.0.{host}", 6881)) for host in range(number, 255, 12)
        ]
        for number in range(1, 13)
    }
    lookup, asked = _lookup(world), 0
    while contacts := lookup.next_queries():
        for contact in contacts:
            if contact in world:
                lookup.answered(contact, contact.id, world[contact])
            else:
                asked += 1
                lookup.failed(contact)
    assert asked <= 16


def test_a_trusted_host_named_for_a_flood_is_asked_little() -> None:
    """An entry point that was given by its address has as many nodes as it likes, and may be named by anybody."""
    world = {
        _contact(number): [
            Contact(bytes([0, number, port]) + bytes(17), ("30.0.0.7", 1000 + 30 * number + port)) for port in range(30)
        ]
        for number in range(1, 13)
    }
    near = Near([("30.0.0.7", 6881)])
    lookup, asked = Lookup(_TARGET, world, own_id=_OWN, near=near), 0
    while contacts := lookup.next_queries():
        for contact in contacts:
            if contact in world:
                lookup.answered(contact, contact.id, world[contact])
            else:
                asked += 1
                lookup.failed(contact)
    assert asked <= 8 + ALPHA


def test_a_node_far_away_sends_nobody_into_the_lan() -> None:
    start = _contact(1)
    inside = [Contact(bytes((9, n)) * 10, (host, 1)) for n, host in enumerate(("127.0.0.1", "192.168.1.1", "10.0.0.1"))]
    lookup = _lookup([start])
    assert _run(lookup, {start: inside}) == 1


def test_a_node_in_the_lan_may_name_its_neighbours() -> None:
    start = Contact(b"\x01" * 20, ("192.168.1.1", 1))
    inside = Contact(b"\x02" * 20, ("192.168.1.2", 1))
    lookup = _lookup([start])
    assert _run(lookup, {start: [inside], inside: []}) == 2


def test_a_node_counts_under_the_id_that_it_answers_with() -> None:
    claimed = _contact(1)
    actual = b"\xee" * 20
    lookup = _lookup([claimed])
    lookup.next_queries()
    lookup.answered(claimed, actual, [])
    assert lookup.closest() == [Contact(actual, claimed.address)]


def test_nodes_that_borrow_the_ids_of_honest_ones_push_none_out() -> None:
    random = Random(1)
    honest = sorted((_member(number, random) for number in range(30)), key=lambda node: distance(node.id, _TARGET))
    borrowed = [
        Contact(contact.id, (f"66.{number // 8}.6.{number % 8 // 2}", 1 + number))
        for number, contact in enumerate(honest[:24])
    ]
    lookup = _lookup(honest)
    while queries := lookup.next_queries():
        for contact in queries:
            if contact in honest:
                lookup.answered(contact, contact.id, borrowed)
            else:
                lookup.answered(contact, b"\xee" * 18 + contact.address[1].to_bytes(2, "big"), [])
    assert lookup.finished
    assert lookup.queries > len(honest[:NEAREST]) + 8
    assert lookup.closest() == honest[:NEAREST]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=30))
def test_every_node_is_found_once_under_the_id_it_answered_with(
    nodes: list[tuple[int, int, int]],
) -> None:
    claimed = {(f"192.168.1.{number}", 1): bytes((claim,)) * 20 for number, claim, _ in nodes}
    actual = {(f"192.168.1.{number}", 1): bytes((answer,)) * 20 for number, _, answer in nodes}
    lookup = _lookup(Contact(node_id, address) for address, node_id in claimed.items())
    while queries := lookup.next_queries():
        for contact in queries:
            lookup.answered(contact, actual[contact.address], [])
    asked = lookup.closest()
    assert len(asked) == min(NEAREST, len(actual)) == len({contact.address for contact in asked})
    assert all(contact.id == actual[contact.address] for contact in asked)
    assert [contact.id for contact in asked] == sorted(contact.id for contact in asked)


def test_we_are_never_among_the_found() -> None:
    ourselves = _contact(1)
    lookup = _lookup([Contact(_OWN, ("20.9.9.9", 1)), ourselves])
    assert lookup.next_queries() == [ourselves]
    lookup.answered(ourselves, _OWN, [])
    assert lookup.finished
    assert lookup.closest() == []


def test_answers_that_nobody_waits_for_change_nothing() -> None:
    lookup = _lookup([_contact(1)])
    lookup.answered(_contact(2), _contact(2).id, [_contact(3)])
    lookup.failed(_contact(2))
    lookup.slow(_contact(2))
    assert lookup.next_queries() == [_contact(1)]
    lookup.failed(_contact(1))
    lookup.answered(_contact(1), _contact(1).id, [_contact(3)])
    assert lookup.finished
    assert lookup.closest() == []


def test_what_it_remembers_is_bounded() -> None:
    seeds = [Contact(random_id(Random(n)), (f"10.0.{n >> 8}.{n & 255}", 1)) for n in range(5000)]
    lookup = _lookup(seeds)
    nearest = min(seeds, key=lambda contact: distance(contact.id, _TARGET))
    assert lookup.next_queries()[0] == nearest


def test_whom_we_avoid_is_not_asked() -> None:
    lookup = Lookup(_TARGET, [_contact(1), _contact(2)], own_id=_OWN, avoid=_contact(1).address.__eq__)
    assert lookup.next_queries() == [_contact(2)]


def _found(seeds: Iterable[Contact]) -> list[Contact]:
    """Who has a place when everybody answers."""
    seeds = list(seeds)
    lookup = _lookup(seeds)
    _run(lookup, {contact: [] for contact in seeds})
    return lookup.closest()


def test_half_of_the_places_are_for_ids_that_bep_42_allows() -> None:
    random = Random(1)
    allowed = [_member(number, random) for number in range(40)]
    others = [Contact(bytes(19) + bytes((number,)), (f"66.{number}.6.6", 1)) for number in range(1, 41)]
    found = _found(allowed + others)
    assert len(found) == NEAREST
    assert sum(not is_secure(contact.id, contact.address[0]) for contact in found) == 10


def test_at_most_three_places_are_in_one_network() -> None:
    random = Random(1)
    for crowd in ("66.6.{}.1", "2a01:db9:{}::1"):
        crowded = [Contact(secure_id(host, random), (host, 1)) for n in range(100, 160) if (host := crowd.format(n))]
        found = _found([*crowded, *(_member(number, random) for number in range(40))])
        assert len(found) == NEAREST
        assert sum(contact in crowded for contact in found) <= 3


@pytest.mark.parametrize("host", ["66.6.{}.1", "2a01:db9:{}::1"])
def test_a_small_public_network_fills_eight_places_anyhow(host: str) -> None:
    everyone = [Contact(random_id(Random(number)), (host.format(100 + number), 1)) for number in range(30)]
    assert _found(everyone) == sorted(everyone, key=lambda contact: distance(contact.id, _TARGET))[:8]


def test_a_private_network_has_all_its_places() -> None:
    everyone = [Contact(random_id(Random(number)), (f"192.168.1.{number}", 1)) for number in range(30)]
    assert _found(everyone) == sorted(everyone, key=lambda contact: distance(contact.id, _TARGET))[:NEAREST]
