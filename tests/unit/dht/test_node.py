"""What nodes store and find on a simulated network and virtual time, whatever is lost or dead."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.dht import MutableItem
from pypatcher.dht.nodeid import distance
from pypatcher.keys import KeyPair
from tests.support.dht_network import DhtNetwork
from tests.support.virtual_time import run_virtual

_PAIR = KeyPair.from_seed(bytes(32))
_HASH = b"\x07" * 20
_ENTRY = ("5.0.0.1", 6881)


def _item(salt: bytes = b"salt", seq: int = 1, value: bytes = b"value") -> MutableItem:
    return MutableItem.sign(_PAIR, salt, seq, value)


def test_two_nodes_are_a_network() -> None:
    async def body() -> None:
        net = DhtNetwork()
        first = net.add(_ENTRY)
        await first.start()
        (second,) = await net.join(1, [_ENTRY])
        await first.joined()
        assert await second.put_mutable(_item()) == 1
        assert (await first.get_mutable(_PAIR.public, b"salt")).items == (_item(),)
        assert await first.announce_peer(_HASH, 99) == 1
        assert await second.get_peers(_HASH) == [(_ENTRY[0], 99)]
        await net.stop()

    run_virtual(body())


def test_alone_everything_ends_at_once_and_finds_nothing() -> None:
    async def body() -> None:
        net = DhtNetwork()
        node = net.add(_ENTRY)
        await node.start()
        assert (await node.get_mutable(_PAIR.public, b"salt")).items == ()
        assert await node.put_mutable(_item()) == 0
        assert await node.get_peers(_HASH) == []
        assert await node.announce_peer(_HASH) == 0
        assert not await node.ping(("5.9.9.9", 1))
        await net.stop()

    run_virtual(body())


def test_what_one_of_a_handful_stores_every_other_reads() -> None:
    async def body() -> None:
        net = DhtNetwork()
        await net.add(_ENTRY).start()
        nodes = await net.join(5, [_ENTRY])
        for number, writer in enumerate(nodes):
            item = _item(b"%d" % number)
            assert await writer.put_mutable(item) == 5
            for reader in nodes:
                if reader is not writer:
                    assert (await reader.get_mutable(_PAIR.public, item.salt)).items == (item,)
        await net.stop()

    run_virtual(body())


@pytest.mark.parametrize(("loss", "dead"), [(0.0, 0.0), (0.2, 0.0), (0.0, 0.4), (0.1, 0.3)])
def test_items_are_stored_and_found_whatever_is_lost_or_dead(loss: float, dead: float) -> None:
    async def body() -> None:
        net = DhtNetwork(loss=loss)
        net.grow(150)
        net.down.update(net.random.sample(list(net.nodes), int(dead * len(net.nodes))))
        living = [node for address, node in net.nodes.items() if address not in net.down]
        for number in range(4):
            item = _item(b"%d" % number)
            writer, reader = net.random.sample(living, 2)
            found = await writer.get_mutable(_PAIR.public, item.salt)
            nearest = sorted(living, key=lambda node: distance(node.node_id, item.target))[:20]
            assert len({net.address_of(node) for node in nearest} & {n.contact.address for n in found.nodes}) >= 12
            assert await writer.put_mutable(item, found) >= 15
            assert (await reader.get_mutable(_PAIR.public, item.salt)).items == (item,)
        assert asyncio.get_running_loop().time() < 120
        await net.stop()

    run_virtual(body())


def test_a_lookup_sends_a_bounded_number_of_packets() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(200)
        net.down.update(list(net.nodes)[1:])
        net.sent.clear()
        await nodes[0].get_mutable(_PAIR.public, b"salt")
        assert sum(net.sent.values()) <= 200
        await net.stop()

    run_virtual(body())


def test_nodes_that_come_and_go_leave_the_items_readable() -> None:
    async def body() -> None:
        net = DhtNetwork(latency=(0.005, 0.02))
        await net.add(_ENTRY).start()
        nodes = await net.join(40, [_ENTRY])
        await asyncio.sleep(120)
        assert await nodes[0].put_mutable(_item()) == 20
        for number in range(10):
            net.down.add(net.address_of(nodes[1 + number]))
            await net.join(1, [_ENTRY])
            await asyncio.sleep(60)
            found = await nodes[20 + number].get_mutable(_PAIR.public, b"salt")
            assert found.items == (_item(),)
        await net.stop()

    run_virtual(body())


def test_a_read_only_node_reads_and_writes_but_is_asked_nothing() -> None:
    async def body() -> None:
        net = DhtNetwork()
        net.grow(30)
        entry = next(iter(net.nodes))
        (quiet,) = await net.join(1, [entry], read_only=True)
        assert await quiet.put_mutable(_item()) >= 16
        assert (await quiet.get_mutable(_PAIR.public, b"salt")).items == (_item(),)
        await asyncio.sleep(3600)
        address = net.address_of(quiet)
        assert not any(address in node.nodes() for node in net.nodes.values())
        assert not await net.nodes[entry].ping(address)
        await net.stop()

    run_virtual(body())


def test_a_read_only_node_at_rest_costs_nearly_nothing() -> None:
    async def body() -> None:
        net = DhtNetwork()
        net.grow(30)
        (quiet,) = await net.join(1, [next(iter(net.nodes))], read_only=True)
        await asyncio.sleep(600)
        sent = net.sent[net.address_of(quiet)]
        await asyncio.sleep(86_000)
        assert net.sent[net.address_of(quiet)] - sent <= 50
        assert (await quiet.get_mutable(_PAIR.public, b"salt")).nodes
        await net.stop()

    run_virtual(body())


def test_all_values_of_the_nearest_nodes_come_the_highest_seq_first() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        items = [_item(seq=seq, value=b"%d" % seq) for seq in (3, 9, 5)]
        nearest = sorted(nodes, key=lambda node: distance(node.node_id, items[0].target))
        for item, node in zip(items, nearest, strict=False):
            node.server.items.put(item, _ENTRY, 0.0)
        found = await nearest[10].get_mutable(_PAIR.public, b"salt")
        assert [item.seq for item in found.items] == [9, 5, 3]
        await net.stop()

    run_virtual(body())


def test_a_put_reuses_a_fresh_lookup_and_makes_a_new_one_later() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        found = await nodes[0].get_mutable(_PAIR.public, b"salt")
        net.sent.clear()
        assert await nodes[0].put_mutable(_item(), found) == 20
        assert net.sent[net.address_of(nodes[0])] == 20
        await asyncio.sleep(3600)
        assert await nodes[0].put_mutable(_item(seq=2), found) == 20
        await net.stop()

    run_virtual(body())


def test_cas_protects_what_others_wrote() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        assert await nodes[0].put_mutable(_item(seq=4)) == 20
        assert await nodes[0].put_mutable(_item(seq=6), cas=5) == 0
        assert await nodes[0].put_mutable(_item(seq=6), cas=4) == 20
        await net.stop()

    run_virtual(body())


def test_an_announced_port_is_ours_or_the_one_that_others_see() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        assert await nodes[0].announce_peer(_HASH) == 20
        assert await nodes[1].announce_peer(_HASH, 7777) == 20
        peers = await nodes[2].get_peers(_HASH)
        assert set(peers) == {net.address_of(nodes[0]), (net.address_of(nodes[1])[0], 7777)}
        await net.stop()

    run_virtual(body())
