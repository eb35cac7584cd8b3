"""Nodes on a simulated network and virtual time: joining, knowing themselves, coming and going."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from pypatcher.addresses import Address
from pypatcher.dht import DhtNode, MutableItem, krpc
from pypatcher.dht.krpc import Query
from pypatcher.dht.nodeid import is_secure
from pypatcher.keys import KeyPair
from tests.support.dht_network import DhtNetwork
from tests.support.virtual_time import run_virtual

_PAIR = KeyPair.from_seed(bytes(32))
_HASH = b"\x07" * 20
_ENTRY = ("5.0.0.1", 6881)


def _item(salt: bytes = b"salt", seq: int = 1, value: bytes = b"value") -> MutableItem:
    return MutableItem.sign(_PAIR, salt, seq, value)


def test_joining_many_nodes_takes_a_moment_and_few_packets() -> None:
    async def body() -> None:
        net = DhtNetwork(latency=(0.0005, 0.001))
        await net.add(_ENTRY).start()
        await net.join(59, [_ENTRY])
        net.sent.clear()
        before = asyncio.get_running_loop().time()
        (late,) = await net.join(1, [_ENTRY])
        assert asyncio.get_running_loop().time() - before < 0.2
        await asyncio.sleep(2)
        assert len(late.nodes()) >= 20
        assert net.sent[net.address_of(late)] < 300
        await net.stop()

    run_virtual(body())


def test_joining_among_dead_nodes_takes_a_moment_too() -> None:
    async def body() -> None:
        net = DhtNetwork(latency=(0.0005, 0.001))
        net.grow(40)
        net.down.update(list(net.nodes)[1:9])
        before = asyncio.get_running_loop().time()
        (late,) = await net.join(1, [next(iter(net.nodes))])
        assert asyncio.get_running_loop().time() - before < 1.1
        assert len(late.nodes()) >= 15
        await net.stop()

    run_virtual(body())


def test_a_node_whose_entry_point_is_down_joins_once_it_is_up() -> None:
    async def body() -> None:
        net = DhtNetwork()
        early = net.add(bootstrap=[_ENTRY])
        await early.start()
        await asyncio.sleep(600)
        assert net.sent[net.address_of(early)] < 60
        await net.add(_ENTRY).start()
        async with asyncio.timeout(180):
            await early.joined()
        assert early.nodes() == [_ENTRY]
        await net.stop()

    run_virtual(body())


def test_an_answer_from_the_lan_is_none_from_outside() -> None:
    async def body() -> None:
        net = DhtNetwork()
        neighbour = ("192.168.1.7", 6881)
        await net.add(neighbour).start()
        await net.add(_ENTRY).start()
        net.down.add(_ENTRY)
        node = net.add(("192.168.1.8", 6881), bootstrap=[neighbour, _ENTRY])
        await node.start()
        await node.joined()
        assert node.last_answer is not None
        assert node.last_answer_from_outside is None
        net.down.clear()
        await asyncio.sleep(900)
        assert node.last_answer_from_outside is not None
        await net.stop()

    run_virtual(body())


def test_a_node_that_lost_everybody_joins_again() -> None:
    async def body() -> None:
        net = DhtNetwork()
        await net.add(_ENTRY).start()
        (node,) = await net.join(1, [_ENTRY])
        net.down.add(_ENTRY)
        await asyncio.sleep(4 * 3600)
        assert node.nodes() == []
        net.down.clear()
        async with asyncio.timeout(600):
            await node.joined()
        await net.stop()

    run_virtual(body())


def test_after_a_long_outage_a_node_finds_those_that_it_knew() -> None:
    async def body() -> None:
        net = DhtNetwork()
        await net.add(_ENTRY).start()
        others = await net.join(10, [_ENTRY])
        (device,) = await net.join(1, [_ENTRY])
        await asyncio.sleep(600)
        net.down.update(net.nodes)
        for _ in range(10):
            await device.get_mutable(_PAIR.public, b"salt")
            await asyncio.sleep(300)
        assert device.nodes() == []
        net.down -= {net.address_of(node) for node in [*others, device]}
        async with asyncio.timeout(300):
            await device.joined()
        await asyncio.sleep(300)
        assert await device.put_mutable(_item()) >= 9
        await net.stop()

    run_virtual(body())


def test_a_network_replaced_behind_its_entry_point_is_joined_again() -> None:
    async def body() -> None:
        net = DhtNetwork()
        await net.add(_ENTRY).start()
        await net.join(30, [_ENTRY])
        (device,) = await net.join(1, [_ENTRY])
        for address, node in list(net.nodes.items()):
            if node is not device:
                await node.stop()
                del net.hosts[address], net.nodes[address]
        await net.add(_ENTRY).start()
        await net.join(5, [_ENTRY])
        await device.get_mutable(_PAIR.public, b"salt")
        await asyncio.sleep(30)
        assert await device.put_mutable(_item()) == 6
        await net.stop()

    run_virtual(body())


def test_known_nodes_of_an_earlier_run_replace_the_entry_points() -> None:
    async def body() -> None:
        net = DhtNetwork()
        net.grow(30)
        useless = [("5.200.0.1", 1), ("::1", 1), ("a.name.in.a.cache", 1), ("5.200.0.1", 0)]
        node = net.add()
        await node.start([*useless * 20, *list(net.nodes)[:3]])
        async with asyncio.timeout(3):
            await node.joined()
        await net.stop()

    run_virtual(body())


def test_a_name_as_entry_point_is_resolved_off_the_loop() -> None:
    async def body() -> None:
        asked: list[str] = []
        node = DhtNode(lambda data, address: asked.append(address[0]), bootstrap=[("localhost", 9)])
        await node.start()
        async with asyncio.timeout(5):
            while not asked:
                await asyncio.sleep(0.01)
        assert asked[0] == "127.0.0.1"
        await node.stop()

    asyncio.run(body())


def test_an_idle_node_is_nearly_silent() -> None:
    async def body() -> None:
        net = DhtNetwork()
        await net.add(_ENTRY).start()
        nodes = await net.join(12, [_ENTRY])
        await asyncio.sleep(300)
        net.sent_bytes.clear()
        await asyncio.sleep(2 * 3600)
        for node in nodes:
            assert net.sent_bytes[net.address_of(node)] / (2 * 3600) < 10
        await net.stop()

    run_virtual(body())


def test_a_node_takes_an_id_that_its_address_allows() -> None:
    async def body() -> None:
        net = DhtNetwork()
        net.grow(30)
        (node,) = await net.join(1, [next(iter(net.nodes))])
        address = net.address_of(node)
        await asyncio.sleep(10)
        assert node.external_address == address
        assert node.external_port_varies is False
        node.address_changed()
        assert node.external_address is None
        await node.get_peers(_HASH)
        assert node.external_address == address
        assert is_secure(node.node_id, address[0])
        assert await node.put_mutable(_item()) == 20
        await net.stop()

    run_virtual(body())


def test_a_node_that_changed_its_id_does_not_ask_itself() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        for number in range(5):
            for node in nodes:
                await node.get_mutable(_PAIR.public, b"%d" % number)
        address = net.address_of(nodes[0])
        asked_itself = 0

        def received(data: bytes, source: tuple[str, int]) -> None:
            nonlocal asked_itself
            asked_itself += source == address
            nodes[0].datagram_received(data, source)

        net.hosts[address] = received
        for number in range(20):
            await nodes[0].get_mutable(_PAIR.public, b"%d" % number)
        assert asked_itself == 0
        await net.stop()

    run_virtual(body())


def test_a_stopped_node_is_silent_and_has_no_tasks() -> None:
    async def body() -> None:
        net = DhtNetwork()
        others = net.grow(30)
        (node,) = await net.join(1, [net.address_of(others[0])])
        await node.stop()
        net.sent.clear()
        await others[0].ping(net.address_of(node))
        assert (await node.get_mutable(_PAIR.public, b"salt")).items == ()
        assert net.sent[net.address_of(node)] == 0
        await net.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtual(body())


def test_stopping_in_the_middle_ends_what_others_wait_for() -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(30)
        waits = [
            asyncio.ensure_future(call)
            for call in (
                nodes[0].get_mutable(_PAIR.public, b"salt"),
                nodes[0].put_mutable(_item()),
                nodes[0].announce_peer(_HASH),
                nodes[0].ping(net.address_of(nodes[1])),
            )
        ]
        await asyncio.sleep(0.3)
        await nodes[0].stop()
        async with asyncio.timeout(1):
            await asyncio.gather(*waits)
        await net.stop()

    run_virtual(body())


def test_a_socket_that_fails_loses_packets_and_nothing_else() -> None:
    async def body() -> None:
        def broken(data: bytes, address: tuple[str, int]) -> None:
            raise OSError("network is unreachable")

        node = DhtNode(broken, bootstrap=[_ENTRY], clock=asyncio.get_running_loop().time, random=Random(1))
        await node.start()
        assert not await node.ping(_ENTRY)
        node.datagram_received(b"d1:ad2:id20:" + bytes(20) + b"e1:q4:ping1:t1:a1:y1:qe", _ENTRY)
        await node.stop()

    run_virtual(body())


@pytest.mark.parametrize(("dead", "kept"), [(False, True), (True, False)], ids=["alive", "dead"])
def test_nodes_that_know_bep_5_alone_stay_in_the_table(dead: bool, kept: bool) -> None:
    async def body() -> None:
        net = DhtNetwork()
        nodes = net.grow(40)
        reader = nodes[0]
        old = [address for node in nodes[1:20] if reader.table.knows(address := net.address_of(node))]
        asked: Counter[Address] = Counter()

        def deaf_to_get(address: Address) -> Callable[[bytes, Address], None]:
            hears = net.hosts[address]

            def receive(data: bytes, source: Address) -> None:
                message = krpc.decode(data)
                if isinstance(message, Query) and message.method in (b"get", b"put"):
                    asked[address] += 1
                elif not dead:
                    hears(data, source)

            return receive

        for address in old:
            net.hosts[address] = deaf_to_get(address)
        for number in range(20):
            await reader.get_mutable(bytes(32), b"%d" % number)
            await asyncio.sleep(10.0)
        assert all(reader.table.knows(address) is kept for address in old if asked[address] > 2)
        assert len([address for address in old if asked[address] > 2]) > 3
        # Two tries a lookup, and then not for two minutes: 200 s have room for two lookups.
        assert dead or max(asked.values()) <= 4
        await net.stop()

    run_virtual(body())
