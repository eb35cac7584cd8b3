"""Tokens, stores, limits and votes: small pure parts, each bounded."""

from __future__ import annotations

from random import Random

import pytest

from pypatcher.addresses import Address
from pypatcher.dht import MutableItem
from pypatcher.dht.crowd import Crowd, Silence
from pypatcher.dht.external import ExternalVotes
from pypatcher.dht.storage import ITEM_LIFETIME, PEER_LIFETIME, ItemStore, PeerStore
from pypatcher.dht.tokens import TOKEN_ROTATION, Tokens
from pypatcher.keys import KeyPair

_HASH, _OTHER = b"\x01" * 20, b"\x02" * 20
_PAIR = KeyPair.from_seed(bytes(32))
_US = ("8.8.8.8", 6881)


def _item(number: int, seq: int = 1) -> MutableItem:
    return MutableItem(_PAIR.public, b"%d" % number, seq, b"", bytes(64))


def test_a_token_holds_for_its_host_and_target_alone() -> None:
    tokens = Tokens(Random(1), 0.0)
    token = tokens.make("192.0.2.1", _HASH, 0.0)
    assert tokens.check(token, "192.0.2.1", _HASH, 1.0)
    assert not tokens.check(token, "192.0.2.2", _HASH, 1.0)
    assert not tokens.check(token, "192.0.2.1", _OTHER, 1.0)
    assert not any(tokens.check(wrong, "192.0.2.1", _HASH, 1.0) for wrong in (b"", b"x" * 8, None, 7, [token]))


def test_a_token_lives_between_one_and_two_rotations() -> None:
    for made_at in (0.0, TOKEN_ROTATION - 1):
        tokens = Tokens(Random(1), 0.0)
        token = tokens.make("192.0.2.1", _HASH, made_at)
        assert tokens.check(token, "192.0.2.1", _HASH, TOKEN_ROTATION + 1)
        assert not tokens.check(token, "192.0.2.1", _HASH, 2 * TOKEN_ROTATION + 2)


def test_a_token_does_not_outlive_a_long_silence() -> None:
    tokens = Tokens(Random(1), 0.0)
    token = tokens.make("192.0.2.1", _HASH, 0.0)
    assert not tokens.check(token, "192.0.2.1", _HASH, 10 * TOKEN_ROTATION)


def test_peers_are_kept_for_their_time_and_no_longer() -> None:
    store = PeerStore()
    store.add(_HASH, _US, 0.0)
    assert store.get(_HASH, PEER_LIFETIME, 10, Random(1)) == [_US]
    assert store.get(_HASH, PEER_LIFETIME + 1, 10, Random(1)) == []
    store.add(_OTHER, _US, PEER_LIFETIME + 1)
    assert len(store) == 1


def test_a_peer_that_announces_again_is_one_peer_and_fresh() -> None:
    store = PeerStore()
    for now in (0.0, PEER_LIFETIME):
        store.add(_HASH, _US, now)
    assert store.get(_HASH, 2 * PEER_LIFETIME, 10, Random(1)) == [_US]


def test_many_peers_give_a_choice_of_them() -> None:
    store = PeerStore()
    for port in range(1, 101):
        store.add(_HASH, ("192.0.2.1", port), 0.0)
    assert len(set(store.get(_HASH, 0.0, 30, Random(1)))) == 30


def test_the_peer_store_is_bounded_an_info_hash_and_in_all() -> None:
    store = PeerStore(limit=50, each=7)
    for number in range(50):
        for port in range(1, 20):
            store.add(number.to_bytes(20, "big"), (f"20.0.{number}.1", port), 0.0)
        assert len(store.get(number.to_bytes(20, "big"), 0.0, 100, Random(1))) <= 7
    assert len(store) == 50
    assert sum(len(store.get(number.to_bytes(20, "big"), 0.0, 100, Random(1))) for number in range(50)) == 50


def test_who_announces_junk_evicts_its_own_peers_first() -> None:
    store = PeerStore(limit=100)
    for number in range(20):
        store.add(_HASH, (f"20.0.{number}.1", 1), 0.0)
    for number in range(3000):
        store.add(number.to_bytes(20, "big"), ("66.6.6.6", 1 + number), 1.0)
    assert len(store.get(_HASH, 2.0, 100, Random(1))) == 20
    assert len(store) == 100


def test_one_host_with_many_ports_pushes_nobody_else_out() -> None:
    store = PeerStore(each=20)
    honest = [(f"9.{number}.1.1", 6881) for number in range(15)]
    for peer in honest:
        store.add(_HASH, peer, 0.0)
    for port in range(1, 100):
        store.add(_HASH, ("6.6.6.6", port), 1.0)
    kept = store.get(_HASH, 2.0, 100, Random(1))
    assert set(honest) <= set(kept)
    assert len(kept) == len(store) == 20
    assert ("6.6.6.6", 99) in kept


@pytest.mark.parametrize(
    "crowd",
    ["2a01:db9:1:2::{:x}", "2a01:db9:1:{:x}::1", "2a01:db9:{:x}::1", "66.6.{}.1", "66.6.6.{}"],
    ids=["of one /64", "of one /48", "of one /32", "of one /16", "of one /24"],
)
def test_one_writers_addresses_push_nobody_else_out(crowd: str) -> None:
    """The attack: 504 announcements from one /64 emptied an info-hash; 0 of 30 honest ones were left."""
    store, honest = PeerStore(), [(f"2a02:{number:x}:1:1::7", 6881) for number in range(1, 31)]
    for peer in honest:
        store.add(_HASH, peer, 0.0)
    for number in range(2000):
        store.add(_HASH, (crowd.format(number % 250), 1 + number), 1.0)
    assert set(honest) <= set(store.get(_HASH, 2.0, 500, Random(1)))


def test_a_providers_addresses_leave_others_items_alone() -> None:
    store = ItemStore(limit=50)
    for number in range(10):
        store.put(_item(number), (f"20.0.0.{number}", 1), 0.0)
    for number in range(1000, 3000):
        store.put(_item(number), (f"2a01:db9:{number:x}::1", 1), 1.0)
    assert all(store.get(_item(number).target, 2.0) for number in range(10))


def test_an_item_is_kept_for_its_time_and_replaced_by_the_next() -> None:
    store = ItemStore()
    store.put(_item(1), _US, 0.0)
    store.put(_item(1, seq=2), _US, 10.0)
    assert store.get(_item(1).target, ITEM_LIFETIME) == _item(1, seq=2)
    assert store.get(_item(1).target, ITEM_LIFETIME + 11) is None
    assert len(store) == 1


def test_a_writer_of_junk_evicts_itself_first() -> None:
    store = ItemStore(limit=50)
    for number in range(10):
        store.put(_item(number), (f"20.0.{number}.1", 1), 0.0)
    for number in range(1000, 3000):
        store.put(_item(number), (f"66.6.6.{number % 250}", 1), 1.0)
    assert len(store) == 50
    assert all(store.get(_item(number).target, 2.0) for number in range(10))


def test_dead_items_leave_when_others_come() -> None:
    store = ItemStore()
    for number in range(100):
        store.put(_item(number), _US, 0.0)
    store.put(_item(100), _US, ITEM_LIFETIME + 1)
    assert len(store) == 1


def test_a_place_that_is_left_may_be_taken_again() -> None:
    crowd = Crowd()
    for port in (1, 2):
        crowd.add(("8.8.8.8", port))
    assert not crowd.has_room(("8.8.8.8", 3))
    crowd.remove(("8.8.8.8", 1))
    assert crowd.has_room(("8.8.8.8", 3))


def _votes(*votes: tuple[str, Address]) -> ExternalVotes:
    box = ExternalVotes()
    for host, seen in votes:
        box.add((host, 6881), seen)
    return box


def test_three_networks_that_agree_settle_our_address() -> None:
    votes = [(f"20.0.{number}.1", _US) for number in range(3)]
    assert _votes(*votes[:2]).address is None
    assert _votes(*votes).address == _US
    assert _votes(*votes).port_varies is False


def test_a_liar_with_a_whole_network_is_one_voice() -> None:
    lies = [(f"66.6.6.{number}", ("9.9.9.9", 9)) for number in range(200)]
    honest = [(f"20.0.{number}.1", _US) for number in range(3)]
    assert _votes(*lies).address is None
    assert _votes(*lies, *honest).address == _US


def test_without_a_majority_there_is_no_address() -> None:
    split = [(f"20.0.{number}.1", (f"8.8.8.{number % 2}", 1)) for number in range(10)]
    assert _votes(*split).address is None


def test_different_ports_show_a_hard_router() -> None:
    hard = [(f"20.0.{number}.1", ("8.8.8.8", 1000 + number)) for number in range(6)]
    box = _votes(*hard)
    assert box.address is not None
    assert box.address[0] == "8.8.8.8"
    assert box.port_varies is True


def test_a_changed_address_wins_once_the_newer_voices_say_so() -> None:
    box = _votes(*((f"20.0.{number}.1", _US) for number in range(10)))
    for number in range(10):
        box.add((f"20.0.{number}.1", 6881), ("9.9.9.9", 9))
    assert box.address == ("9.9.9.9", 9)


def test_neighbours_do_not_outvote_the_world() -> None:
    near = [(f"192.168.1.{number}", ("192.168.1.200", 7)) for number in range(2, 20)]
    far = [(f"20.0.{number}.1", _US) for number in range(3)]
    assert _votes(*near, *far).address == _US


def test_nearby_one_voice_is_enough() -> None:
    assert _votes(("127.0.0.1", ("127.0.0.1", 7))).address == ("127.0.0.1", 7)


def test_silence_is_remembered_for_a_while_and_in_bounded_memory() -> None:
    silence = Silence()
    silence.begin(_US, 0.0)
    assert silence.holds(_US, 100.0)
    assert not silence.holds(_US, 121.0)
    silence.begin(_US, 200.0)
    silence.end(_US, 200.0)
    assert not silence.holds(_US, 200.0)
    silence.begin(_US, 300.0)
    for number in range(600):
        silence.begin((f"20.0.{number >> 8}.{number & 255}", 6881), 300.0)
    assert not silence.holds(_US, 300.0)


def test_a_far_host_is_silent_as_a_whole_from_four_ports_on() -> None:
    """The attack: a wrong port of an honest host that never answered us before hid it from every lookup."""
    silence = Silence()
    for port in range(1, 10):
        for host, is_whole in (("20.0.0.1", port > 4), ("192.168.1.1", False)):
            assert silence.holds((host, 99), 1.0) is is_whole
            silence.begin((host, port), 1.0)
            silence.begin((host, port), 1.0)  # which is no further port
            assert silence.holds((host, port), 1.0)
    assert not silence.holds(("20.0.0.1", 99), 122.0)
    silence.end(("20.0.0.1", 99), 2.0)
    assert not silence.holds(("20.0.0.1", 99), 2.0)


def test_a_named_port_makes_no_host_silent_that_answered_lately() -> None:
    """The attack: wrong ports of honest nodes, named in one answer, hid these nodes from every lookup."""
    silence = Silence()
    silence.end(("20.0.0.1", 1), 0.0)
    silence.begin(("20.0.0.1", 2), 1.0)
    assert silence.holds(("20.0.0.1", 2), 2.0)
    assert not silence.holds(("20.0.0.1", 1), 2.0)
    silence.begin(("20.0.0.1", 1), 3.0)
    assert silence.holds(("20.0.0.1", 1), 4.0)
    for port in range(4, 9):
        silence.begin(("20.0.0.1", port), 601.0)
    assert silence.holds(("20.0.0.1", 3), 602.0)
    for number in range(600):
        silence.end((f"20.0.{number >> 8}.{number & 255}", 1), 700.0)
    silence.end(("20.0.0.1", 1), 700.0)
    silence.begin(("20.0.0.1", 1), 701.0)
    silence.end(("20.0.0.1", 1), 702.0)
    assert not any(silence.holds(("20.0.0.1", port), 703.0) for port in (1, 3))
    assert len(silence._answered) == 512
