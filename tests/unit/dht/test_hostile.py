"""Nodes that lie, among honest ones on a simulated network: what they must not achieve."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher import bencode
from pypatcher.addresses import Address
from pypatcher.bencode import Value
from pypatcher.dht import DhtNode, MutableItem, krpc
from pypatcher.dht.krpc import Query
from pypatcher.dht.nodeid import Contact, random_id
from pypatcher.keys import KeyPair
from pypatcher.mutable_item import mutable_target
from tests.support.dht_network import DhtNetwork
from tests.support.virtual_time import run_virtual

_PAIR, _OTHER = KeyPair.from_seed(bytes(32)), KeyPair.from_seed(b"\x01" * 32)
_ITEM = MutableItem.sign(_PAIR, b"salt", 5, b"honest")
_TARGET = _ITEM.target
_HASH = b"\x07" * 20

Answer = Callable[[Query, Address], list[bytes]]


class _Hostile:
    """A host that answers every query as ``lie`` says, under an id next to the target."""

    def __init__(self, net: DhtNetwork, number: int, lie: Callable[[_Hostile, Query, Address], list[bytes]]) -> None:
        self.net = net
        self.address = (f"66.{number}.6.6", 6881)
        self.id = _TARGET[:18] + bytes((0, number))
        self.contact = Contact(self.id, self.address)
        self.lie = lie
        self.send = net.send_from(self.address)
        net.hosts[self.address] = self.received

    def received(self, data: bytes, source: Address) -> None:
        message = krpc.decode(data)
        if isinstance(message, Query):
            for answer in self.lie(self, message, source):
                self.send(answer, source)

    def answer(self, query: Query, source: Address, **values: Value) -> bytes:
        fields = {key.encode(): value for key, value in values.items()}
        return krpc.encode_response(query.transaction, self.id, {b"token": b"t", **fields}, source)


def _garbage(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    return [b"", b"d", b"d1:rd2:id20:", b"\x00" * 1400, b"l" * 1400, host.answer(query, source)[:-1]]


def _unsorted(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    return [b"d1:y1:r1:t4:" + query.transaction + b"1:rd2:id20:" + host.id + b"ee"]


def _short_id(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    return [bencode.encode({b"r": {b"id": host.id[:19]}, b"t": query.transaction, b"y": b"r"})]


def _error(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    return [krpc.encode_failure(query.transaction, 203, "no")]


def _item_fields(item: MutableItem) -> dict[str, Value]:
    return {"k": item.public_key, "seq": item.seq, "sig": item.signature, "v": item.value}


def _serving(*items: MutableItem) -> Callable[[_Hostile, Query, Address], list[bytes]]:
    def lie(host: _Hostile, query: Query, source: Address) -> list[bytes]:
        return [host.answer(query, source, **_item_fields(item)) for item in items]

    return lie


def _lying_seq(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    return [host.answer(query, source, seq=(1 << 63) - 1)]


def _huge_seq(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    data = host.answer(query, source, **_item_fields(replace(_ITEM, seq=(1 << 63) - 1)))
    return [data.replace(b"i9223372036854775807e", b"i92233720368547758070e")]


def _huge_lists(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    random = Random(1)
    nodes = b"".join(_TARGET[:16] + random.randbytes(10) for _ in range(500))
    values: list[Value] = [random.randbytes(6) for _ in range(1500)]
    return [host.answer(query, source, nodes=nodes), host.answer(query, source, nodes=nodes, values=values)]


def _one_victim(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    random = Random(host.id)
    contacts = [Contact(_TARGET[:17] + random.randbytes(3), ("77.7.7.7", 1 + n)) for n in range(32)]
    return [host.answer(query, source, nodes=krpc.pack_nodes(contacts))]


_LIES = {
    "garbage": _garbage,
    "unsorted keys": _unsorted,
    "an id of 19 bytes": _short_id,
    "an error": _error,
    "an item of another key": _serving(MutableItem.sign(_OTHER, b"salt", 9, b"junk")),
    "an item of another salt": _serving(MutableItem.sign(_PAIR, b"other", 9, b"junk")),
    "a forged value": _serving(replace(_ITEM, seq=9, value=b"junk")),
    "a raised seq": _serving(replace(_ITEM, seq=9)),
    "a seq without an item": _lying_seq,
    "a seq beyond 64 bits": _huge_seq,
    "huge lists": _huge_lists,
    "one victim": _one_victim,
}


@pytest.mark.parametrize("lie", _LIES.values(), ids=_LIES.keys())
def test_lies_next_to_the_target_hide_and_change_nothing(lie: Callable[..., list[bytes]]) -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(60)
        hostile = [_Hostile(net, number, lie) for number in range(10)]
        for node in nodes:
            for host in hostile:
                node.table.answered(host.contact, 0.0)
        await nodes[0].put_mutable(_ITEM)
        net.sent.clear()
        net.received.clear()
        found = await nodes[1].get_mutable(_PAIR.public, b"salt")
        assert sum(net.received[host.address] for host in hostile) >= 8
        assert found.items == (_ITEM,)
        assert net.sent[net.address_of(nodes[1])] <= 200
        assert await nodes[1].put_mutable(MutableItem.sign(_PAIR, b"salt", 6, b"next")) >= 8
        assert nodes[2].node_id not in {host.id for host in hostile}
        await net.stop()

    run_virtual(body())


class _NearbyLiar(_Hostile):
    """One of 24 ids next to the target, on 12 hosts in 3 networks, that keeps nothing and names the others."""

    def __init__(self, net: DhtNetwork, number: int, network: str) -> None:
        super().__init__(net, number, _names_the_others)
        self.address = (network.format(number % 3, 1 + number // 3 % 4), 6881 + number // 12)
        self.contact = Contact(self.id, self.address)
        self.send = net.send_from(self.address)
        net.hosts[self.address] = self.received


def _names_the_others(host: _Hostile, query: Query, source: Address) -> list[bytes]:
    sybils = [known for known in host.net.hosts.values() if isinstance(getattr(known, "__self__", None), _NearbyLiar)]
    contacts = [known.__self__.contact for known in sybils]  # type: ignore[attr-defined]
    return [host.answer(query, source, nodes=krpc.pack_nodes(contacts[:20]))]


@pytest.mark.parametrize("network", ["66.6.{}.{}", "66.{}.6.{}"], ids=["3 /24s of one /16", "3 /16s"])
def test_two_dozen_sybils_beside_a_name_do_not_hide_an_item(network: str) -> None:
    async def main() -> tuple[int, tuple[MutableItem, ...], float]:
        net = DhtNetwork()
        honest = net.grow(150)
        sybils = [_NearbyLiar(net, number, network) for number in range(24)]
        for node in honest:
            node.introduce(sybil.contact for sybil in sybils)
        await honest[0].put_mutable(_ITEM)
        kept = sum(node.server.items.get(_TARGET, node.clock()) is not None for node in honest)
        found = await honest[77].get_mutable(_ITEM.public_key, _ITEM.salt)
        await net.stop()
        return kept, found.items, found.share_of_one_network

    kept, items, share = run_virtual(main())
    assert kept >= 10
    assert items == (_ITEM,)
    assert 0.1 <= share <= 0.2


def test_a_victim_that_all_liars_name_gets_a_few_packets() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(40)
        received = 0

        def victim(data: bytes, source: Address) -> None:
            nonlocal received
            received += 1

        for port in range(1, 40):
            net.hosts["77.7.7.7", port] = victim
        hostile = [_Hostile(net, number, _one_victim) for number in range(10)]
        for host in hostile:
            nodes[0].table.answered(host.contact, 0.0)
        await nodes[0].get_mutable(_PAIR.public, b"salt")
        assert received <= 4
        await net.stop()

    run_virtual(body())


def test_an_answer_from_an_address_that_was_not_asked_is_ignored() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        forged = MutableItem.sign(_PAIR, b"salt", 99, b"valid, but nobody asked this host")
        spoofer = ("66.6.6.6", 6881)
        send = net.send_from(spoofer)

        def eavesdrop(address: Address, honest: Callable[[bytes, Address], None]) -> Callable[[bytes, Address], None]:
            def received(data: bytes, source: Address) -> None:
                message = krpc.decode(data)
                if isinstance(message, Query):
                    values = {key.encode(): value for key, value in _item_fields(forged).items()}
                    send(krpc.encode_response(message.transaction, random_id(net.random), values, source), source)
                honest(data, source)

            return received

        for address, honest in list(net.hosts.items()):
            net.hosts[address] = eavesdrop(address, honest)
        found = await nodes[0].get_mutable(_PAIR.public, b"salt")
        assert found.items == ()
        assert all(node.contact.address != spoofer for node in found.nodes)
        assert spoofer not in nodes[0].nodes()
        await net.stop()

    run_virtual(body())


def test_peers_in_our_lan_are_not_taken_from_far_away() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(20)
        nodes[1].server.peers.add(_HASH, ("192.168.1.1", 80), 0.0)
        nodes[1].server.peers.add(_HASH, ("127.0.0.1", 22), 0.0)
        nodes[1].server.peers.add(_HASH, ("20.1.1.1", 6881), 0.0)
        assert await nodes[0].get_peers(_HASH) == [("20.1.1.1", 6881)]
        await net.stop()

    run_virtual(body())


def test_a_flood_of_queries_costs_bounded_memory_and_few_packets() -> None:
    async def body() -> None:
        net = DhtNetwork()
        (node,) = net.grow(1)
        address = net.address_of(node)
        random = Random(1)
        for number in range(4000):
            source = (f"30.{number >> 8}.{number & 255}.1", 1)
            query = krpc.encode_query(b"abcd", b"get_peers", random.randbytes(20), {b"info_hash": random.randbytes(20)})
            node.datagram_received(query, source)
        assert net.sent_bytes[address] <= 160_000
        await asyncio.sleep(60)
        assert net.sent[address] <= 4000 + 4 * 64
        assert len(node.table) == 0
        await net.stop()

    run_virtual(body())


def test_liars_about_our_address_make_us_change_our_id_rarely() -> None:
    async def body() -> None:
        net = DhtNetwork()
        seen = iter(range(10_000))

        def lie(host: _Hostile, query: Query, source: Address) -> list[bytes]:
            return [krpc.encode_response(query.transaction, host.id, {}, (f"8.{next(seen) // 20}.8.8", 1))]

        node = net.add()
        hostile = [_Hostile(net, number, lie) for number in range(20)]
        ids = {node.node_id}
        for _ in range(10):
            for host in hostile:
                await node.ping(host.address)
                ids.add(node.node_id)
        assert len(ids) <= 2
        await net.stop()

    run_virtual(body())


_SHAPES = st.recursive(
    st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=40) | st.sampled_from([b"q", b"r", b"e", bytes(20)]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([b"a", b"q", b"r", b"t", b"y", b"e", b"id", b"ip", b"ro", b"target", b"nodes"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@given(st.binary(max_size=100) | _SHAPES.map(bencode.encode), st.integers(0, 65535))
def test_no_datagram_makes_a_node_raise(data: bytes, port: int) -> None:
    node = DhtNode(lambda data, address: None, random=Random(1))
    for source in (("20.1.1.1", port), ("fe80::1%eth0", port), ("::1", port)):
        node.datagram_received(data, source)
    assert len(node.table) == 0


def test_the_target_is_that_of_key_and_salt() -> None:
    assert mutable_target(_PAIR.public, b"salt") == _TARGET
