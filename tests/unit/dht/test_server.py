"""The answering side, query by query: what is given, what is stored, what is refused and with which code."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import Address, pack_compact
from pypatcher.bencode import Value
from pypatcher.dht import MutableItem, knock, krpc
from pypatcher.dht.krpc import Failure, Query, Response
from pypatcher.dht.nodeid import Contact, random_id
from pypatcher.dht.routing import RoutingTable
from pypatcher.dht.server import Server
from pypatcher.keys import KeyPair

_OWN, _HIM, _HASH = b"\x01" * 20, b"\x02" * 20, b"\x03" * 20
_ASKER = ("20.1.1.1", 7000)
_PAIR = KeyPair.from_seed(bytes(32))
_BIG = MutableItem.sign(_PAIR, b"salt", (1 << 53) - 1, bytes(996))


def _server(nodes: int = 0, family: int = 4) -> Server:
    table = RoutingTable(_OWN)
    for number in range(nodes):
        host = f"20.2.{number}.1" if family == 4 else f"2a00:{number:x}::1"
        table.answered(Contact(random_id(Random(number)), (host, 6881)), 0.0)
    return Server(table, family, Random(1), 0.0)


def _full(family: int, value: bytes = bytes(996)) -> Server:
    """A server that knows many nodes of both families, very many peers and an item, by default a largest one."""
    table = _server(40, family).table
    server = Server(table, family, Random(1), 0.0, b"secret")
    server.siblings[10 - family] = _server(40, 10 - family).table
    server.items.put(MutableItem.sign(_PAIR, b"salt", (1 << 53) - 1, value), _ASKER, 0.0)
    for port in range(1, 500):
        server.peers.add(_HASH, ("20.3.3.3" if family == 4 else "2a00:1::3", port), 0.0)
    return server


def _ask(
    server: Server, method: bytes, arguments: dict[bytes, Value], source: Address = _ASKER, now: float = 0.0
) -> dict[bytes, Value]:
    data = server.answer(Query(b"abcd", method, _HIM, arguments, read_only=False), source, now)
    assert data is not None
    message = krpc.decode(data)
    assert isinstance(message, Response), message
    assert (message.sender, message.observed, message.transaction) == (_OWN, source, b"abcd")
    return dict(message.values)


def _refusal(server: Server, method: bytes, arguments: dict[bytes, Value], source: Address = _ASKER) -> int:
    data = server.answer(Query(b"abcd", method, _HIM, arguments, read_only=False), source, 0.0)
    assert data is not None
    message = krpc.decode(data)
    assert isinstance(message, Failure), message
    return message.code


def _put(server: Server, item: MutableItem, source: Address = _ASKER, **more: Value) -> dict[bytes, Value]:
    token = _ask(server, b"get", {b"target": item.target}, source)[b"token"]
    arguments: dict[bytes, Value] = {
        b"k": item.public_key,
        b"salt": item.salt,
        b"seq": item.seq,
        b"sig": item.signature,
        b"token": token,
        b"v": item.value,
    }
    arguments.update({key.encode(): value for key, value in more.items()})
    return arguments


def test_a_ping_is_answered() -> None:
    assert _ask(_server(), b"ping", {}) == {b"id": _OWN}


def test_find_node_gives_the_nearest_nodes() -> None:
    server = _server(nodes=40)
    values = _ask(server, b"find_node", {b"target": _HASH})
    assert krpc.nodes_of(values, 4) == server.table.nearest(_HASH, 16)


def test_a_node_on_ipv6_gives_ipv6_nodes() -> None:
    values = _ask(_server(nodes=5, family=6), b"find_node", {b"target": _HASH}, ("2a00:1::9", 1))
    assert len(krpc.nodes_of(values, 6)) == 5
    assert b"nodes" not in values


def test_who_wants_both_families_gets_both() -> None:
    server = _server(nodes=5)
    server.siblings[6] = _server(nodes=3, family=6).table
    values = _ask(server, b"find_node", {b"target": _HASH, b"want": [b"n4", b"n6"]})
    assert (len(krpc.nodes_of(values, 4)), len(krpc.nodes_of(values, 6))) == (5, 3)


def test_nodes_of_the_lan_are_not_told_to_the_world() -> None:
    server = _server()
    server.table.answered(Contact(_HIM, ("192.168.1.7", 6881)), 0.0)
    assert krpc.nodes_of(_ask(server, b"find_node", {b"target": _HASH}), 4) == []
    assert len(krpc.nodes_of(_ask(server, b"find_node", {b"target": _HASH}, ("192.168.1.9", 1)), 4)) == 1


def test_an_announced_peer_is_given_to_who_asks() -> None:
    server = _server()
    token = _ask(server, b"get_peers", {b"info_hash": _HASH})[b"token"]
    _ask(server, b"announce_peer", {b"info_hash": _HASH, b"port": 99, b"token": token})
    _ask(server, b"announce_peer", {b"info_hash": _HASH, b"port": 99, b"implied_port": 1, b"token": token})
    values = _ask(server, b"get_peers", {b"info_hash": _HASH}, ("20.9.9.9", 1))
    assert values[b"values"] == [pack_compact((_ASKER[0], 99)), pack_compact(_ASKER)]


@pytest.mark.parametrize("port", [0, -1, 65536, b"99", None])
def test_a_peer_without_a_real_port_is_refused(port: Value | None) -> None:
    server = _server()
    token = _ask(server, b"get_peers", {b"info_hash": _HASH})[b"token"]
    arguments: dict[bytes, Value] = {b"info_hash": _HASH, b"token": token}
    assert _refusal(server, b"announce_peer", arguments if port is None else {**arguments, b"port": port}) == 203


def test_an_answer_with_very_many_peers_fits_one_packet() -> None:
    server = _server(nodes=40)
    for port in range(1, 500):
        server.peers.add(_HASH, ("20.3.3.3", port), 0.0)
    data = server.answer(Query(b"abcd", b"get_peers", _HIM, {b"info_hash": _HASH}, read_only=False), _ASKER, 0.0)
    assert data is not None
    assert len(data) <= 1400


def test_a_put_item_is_given_to_who_asks() -> None:
    server = _server(nodes=40)
    item = MutableItem.sign(_PAIR, b"salt", 5, b"value")
    _ask(server, b"put", _put(server, item))
    values = _ask(server, b"get", {b"target": item.target}, ("20.9.9.9", 1))
    assert krpc.item_of(values, b"salt") == item
    assert len(krpc.nodes_of(values, 4)) == 8


def test_who_knows_the_seq_already_gets_no_value() -> None:
    server = _server()
    item = MutableItem.sign(_PAIR, b"salt", 5, b"value")
    _ask(server, b"put", _put(server, item))
    assert b"v" not in _ask(server, b"get", {b"target": item.target, b"seq": 5})
    assert b"v" in _ask(server, b"get", {b"target": item.target, b"seq": 4})


def test_without_a_token_of_ours_nothing_is_stored() -> None:
    server = _server()
    item = MutableItem.sign(_PAIR, b"salt", 5, b"value")
    arguments = _put(server, item)
    assert _refusal(server, b"put", {**arguments, b"token": b"12345678"}) == 203
    assert _refusal(server, b"put", arguments, ("20.1.1.2", 7000)) == 203
    assert _refusal(server, b"announce_peer", {b"info_hash": _HASH, b"port": 1, b"token": b"12345678"}) == 203
    assert len(server.items) == len(server.peers) == 0


@pytest.mark.parametrize(
    ("code", "change"),
    [
        (206, {"v": b"other"}),
        (206, {"seq": 6}),
        (206, {"sig": bytes(64)}),
        (205, {"v": bytes(997)}),
        (207, {"salt": bytes(65)}),
        (203, {"v": 7}),
        (203, {"v": [b"value"]}),
        (203, {"salt": 7}),
        (203, {"k": bytes(31)}),
        (203, {"sig": bytes(63)}),
        (203, {"seq": b"5"}),
        (203, {"salt": b"other"}),
    ],
)
def test_an_item_that_is_wrong_is_refused_with_its_code(code: int, change: dict[str, Value]) -> None:
    server = _server()
    arguments = _put(server, MutableItem.sign(_PAIR, b"salt", 5, b"value"), **change)
    assert _refusal(server, b"put", arguments) == code
    assert len(server.items) == 0


def test_the_higher_seq_stays() -> None:
    server = _server()
    old, new = (MutableItem.sign(_PAIR, b"salt", seq, b"value") for seq in (5, 6))
    _ask(server, b"put", _put(server, old))
    _ask(server, b"put", _put(server, new))
    assert _refusal(server, b"put", _put(server, old)) == 302
    assert server.items.get(new.target, 0.0) == new


def test_of_two_with_one_seq_the_first_stays_and_the_other_is_told() -> None:
    server = _server()
    first, second = (MutableItem.sign(_PAIR, b"salt", 5, value) for value in (b"a", b"b"))
    _ask(server, b"put", _put(server, first))
    assert _refusal(server, b"put", _put(server, second)) == 302
    _ask(server, b"put", _put(server, first, source=("20.9.9.9", 1)), source=("20.9.9.9", 1))
    assert server.items.get(first.target, 0.0) == first


def test_cas_that_does_not_match_is_refused() -> None:
    server = _server()
    _ask(server, b"put", _put(server, MutableItem.sign(_PAIR, b"salt", 5, b"a")))
    newer = MutableItem.sign(_PAIR, b"salt", 6, b"b")
    assert _refusal(server, b"put", _put(server, newer, cas=4)) == 301
    _ask(server, b"put", _put(server, newer, cas=5))


@pytest.mark.parametrize("method", [b"find_node", b"get", b"get_peers", b"announce_peer", b"put"])
def test_missing_arguments_are_a_protocol_error(method: bytes) -> None:
    assert _refusal(_server(), method, {}) == 203


def test_an_unknown_method_is_told_so() -> None:
    assert _refusal(_server(), b"vote", {b"target": _HASH}) == 204


@given(
    st.sampled_from([b"ping", b"find_node", b"get", b"get_peers", b"announce_peer", b"put", b"x"]),
    st.dictionaries(
        st.sampled_from(
            [b"target", b"info_hash", b"token", b"k", b"v", b"seq", b"sig", b"salt", b"cas", b"port", b"want"]
        ),
        st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=70) | st.lists(st.binary(max_size=4), max_size=3),
    ),
)
def test_any_arguments_are_answered_or_refused(method: bytes, arguments: dict[bytes, Value]) -> None:
    data = _server(nodes=3).answer(Query(b"abcd", method, _HIM, arguments, read_only=False), _ASKER, 0.0)
    assert data is not None
    krpc.decode(data)


def test_a_source_that_asks_too_much_is_not_answered_and_others_are() -> None:
    server = _server()
    query = Query(b"abcd", b"ping", _HIM, {}, read_only=False)
    answered = sum(server.answer(query, (_ASKER[0], port), 0.0) is not None for port in range(1, 1000))
    assert answered == 100
    assert server.answer(query, ("20.9.9.9", 1), 0.0) is not None
    assert server.answer(query, _ASKER, 10.0) is not None


@pytest.mark.parametrize(
    ("source", "most"), [(_ASKER, 25_000 + 6_000 * 10), (("192.168.1.9", 1), 125_000 + 25_000 * 10)]
)
def test_a_named_asker_gets_few_packets_that_nobody_proved_to_want(source: Address, most: int) -> None:
    server = _full(4)
    query = Query(b"abcd", b"get", _HIM, {b"target": _BIG.target}, read_only=False)
    sent = [server.answer(query, source, second) for second in range(11) for _ in range(400)]
    assert 0.9 * most < sum(map(len, filter(None, sent))) <= most


def test_devices_behind_one_address_that_start_together_are_answered() -> None:
    server = _full(4)
    query = Query(b"abcd", b"find_node", _HIM, {b"target": _HASH}, read_only=False)
    assert all(server.answer(query, (_ASKER[0], 1024 + device), 0.0) for device in range(50))


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("want", [[], [b"n4"], [b"n6"], [b"n4", b"n6"]])
@pytest.mark.parametrize(
    ("method", "name", "most"),
    [(b"find_node", b"target", 9), (b"get_peers", b"info_hash", 14), (b"get", b"target", 15)],
)
def test_no_answer_is_large_or_many_times_its_question(
    method: bytes, name: bytes, most: int, want: list[Value], family: int
) -> None:
    arguments: dict[bytes, Value] = {name: _HASH if method == b"get_peers" else _BIG.target}
    if want:
        arguments[b"want"] = want
    source = _ASKER if family == 4 else ("2a00:1::9", 1)
    data = _full(family).answer(Query(b"abcd", method, _HIM, arguments, read_only=False), source, 0.0)
    assert data is not None
    assert len(data) <= 1232
    assert len(data) <= most * len(krpc.encode_query(b"a", method, _HIM, arguments))


@pytest.mark.parametrize(("size", "ours", "others"), [(0, 8, 8), (700, 8, 2), (800, 7, 0), (950, 2, 0), (996, 0, 0)])
def test_beside_a_large_value_the_other_familys_nodes_go_first(size: int, ours: int, others: int) -> None:
    server = _full(4, value=bytes(size))
    values = _ask(server, b"get", {b"target": _BIG.target, b"want": [b"n4", b"n6"]})
    assert values[b"v"] == bytes(size)
    assert krpc.nodes_of(values, 4) == server.table.nearest(_BIG.target, ours)
    assert krpc.nodes_of(values, 6) == server.siblings[6].nearest(_BIG.target, others)


def test_all_sources_together_get_a_bounded_number_of_bytes() -> None:
    server = _server(nodes=40)
    query = Query(b"abcd", b"find_node", _HIM, {b"target": _HASH}, read_only=False)
    answers = [server.answer(query, (f"30.{n >> 8}.{n & 255}.1", 1), 0.0) for n in range(5000)]
    assert sum(map(len, filter(None, answers))) <= 150_000


def test_all_addresses_of_a_64_together_get_what_one_host_gets() -> None:
    server = _server(nodes=40, family=6)
    query = Query(b"abcd", b"find_node", _HIM, {b"target": _HASH}, read_only=False)
    answers = [server.answer(query, (f"2a01:db9:1:2::{number:x}", 1), 0.0) for number in range(1000)]
    assert sum(map(len, filter(None, answers))) <= 25_000


@pytest.mark.parametrize(
    ("method", "arguments"),
    [(b"get", {b"target": _BIG.target}), (b"ping", {}), (b"ping", {knock.FIELD: knock.ask(b"other", bytes(8))})],
)
def test_no_strangers_flood_keeps_a_knock_from_its_answer(method: bytes, arguments: dict[bytes, Value]) -> None:
    server, member = _full(4), ("20.7.7.7", 9)
    flood = Query(b"abcd", method, _HIM, arguments, read_only=False)
    forged = [(f"30.{n >> 8}.{n & 255}.1", 1) for n in range(5000)]
    answers = [server.answer(flood, source, 0.0) for source in [member] * 400 + forged]
    assert answers[399] is answers[-1] is None
    asked = knock.ask(b"secret", bytes(8))
    assert knock.who_answered(b"secret", bytes(8), _ask(server, b"ping", {knock.FIELD: asked}, member)).is_member


@pytest.mark.parametrize("again", [("30.1.1.1", 9), ("2a01:db9::9", 9)])
def test_a_knock_that_is_replayed_from_elsewhere_proves_nothing(again: Address) -> None:
    """The attack: a knock that was seen once found members for ever, from anywhere."""
    server, asked = _full(4), knock.ask(b"secret", bytes(8))
    for _ in range(3):
        assert knock.who_answered(
            b"secret", bytes(8), _ask(server, b"ping", {knock.FIELD: asked}, ("20.7.7.7", 9))
        ).is_member
    for source in (again, ("20.7.7.7", 9)):
        assert knock.FIELD not in _ask(server, b"ping", {knock.FIELD: asked}, source, now=3600.0)


def test_a_flood_of_replayed_knocks_costs_no_member_its_answer() -> None:
    server, seen = _full(4), knock.ask(b"secret", b"seenonce")
    assert _ask(server, b"ping", {knock.FIELD: seen}, ("20.7.7.7", 9))
    replay = Query(b"abcd", b"ping", _HIM, {knock.FIELD: seen}, read_only=False)
    answers = [server.answer(replay, (f"30.{n >> 8}.{n & 255}.1", 1), 0.0) for n in range(5000)]
    assert answers[-1] is None
    asked = knock.ask(b"secret", bytes(8))
    assert knock.who_answered(
        b"secret", bytes(8), _ask(server, b"ping", {knock.FIELD: asked}, ("20.8.8.8", 9))
    ).is_member


def test_no_flood_from_outside_keeps_a_neighbour_from_its_answer() -> None:
    server = _full(4)
    flood = Query(b"abcd", b"get", _HIM, {b"target": _BIG.target}, read_only=False)
    answers = [server.answer(flood, (f"30.{n >> 8}.{n & 255}.1", 1), 0.0) for n in range(5000)]
    assert answers[-1] is None
    assert b"v" in _ask(server, b"get", {b"target": _BIG.target}, ("192.168.1.9", 1))


def test_a_stored_item_under_a_forged_signature_is_refused() -> None:
    server = _server()
    item = MutableItem.sign(_PAIR, b"salt", 5, b"value")
    _ask(server, b"put", _put(server, item))
    forged = replace(item, signature=bytes(64))
    assert _refusal(server, b"put", _put(server, forged)) == 206
