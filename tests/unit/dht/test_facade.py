"""Two families behind one facade, on a simulated network and virtual time."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.dht import Dht, DhtNode, MutableItem
from pypatcher.keys import KeyPair
from tests.support.dht_network import DhtNetwork
from tests.support.virtual_time import run_virtual

_PAIR = KeyPair.from_seed(bytes(32))
_HASH = b"\x07" * 20
_ITEM = MutableItem.sign(_PAIR, b"salt", 1, b"value")


def test_two_families_are_asked_together() -> None:
    async def body() -> None:
        net = DhtNetwork()
        networks = []
        for family, hosts in ((4, "5.77.{}.1"), (6, "2a00:{}::1")):
            addresses = [(hosts.format(number), 6881) for number in range(1, 8)]
            nodes = [
                net.add(address, family=family, bootstrap=addresses[:1] if number else ())
                for number, address in enumerate(addresses)
            ]
            for node in nodes:
                await node.start()
            networks.append(nodes)
        a, b = (Dht([four, six]) for four, six in zip(networks[0][-2:], networks[1][-2:], strict=True))
        await a.joined()
        await asyncio.sleep(30)
        assert await a.put_mutable(_ITEM) == 12
        found = await b.get_mutable(_PAIR.public, b"salt")
        assert found.items == (_ITEM,)
        assert len(found.nodes) == 12
        assert await b.announce_peer(_HASH) == 12
        assert len(await a.get_peers(_HASH)) == 2
        assert len(a.external_addresses) == 2
        assert len(a.nodes()) >= 10
        await net.stop()

    run_virtual(body())


def test_a_facade_takes_one_node_per_family() -> None:
    async def body() -> None:
        nodes = [DhtNode(lambda data, address: None) for _ in range(2)]
        for wrong in ([], nodes):
            with pytest.raises(ValueError, match="one node per family"):
                Dht(wrong)

    run_virtual(body())
