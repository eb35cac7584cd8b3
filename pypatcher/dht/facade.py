"""The DHT as the rest of the program uses it: one node per address family, asked together, their answers merged.

Not here: the protocol (``node``), and any socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

from pypatcher.addresses import Address, family
from pypatcher.dht.knock import Answered
from pypatcher.dht.node import DhtNode
from pypatcher.dht.nodeid import Contact
from pypatcher.dht.results import ItemAnswer, ItemLookup, MutableLookup, PeersLookup
from pypatcher.mutable_item import MutableItem

__all__ = ["Dht"]

_T = TypeVar("_T")


class Dht:
    """Nodes of different families behind the methods of one.

    Raises:
        ValueError: no node, or two of a family.
    """

    def __init__(self, nodes: Sequence[DhtNode]) -> None:
        self._nodes = {node.family: node for node in nodes}
        if not nodes or len(self._nodes) != len(nodes):
            raise ValueError("a Dht takes one node per family")
        for node in nodes:
            node.server.siblings.update({other.family: other.table for other in nodes if other is not node})

    @property
    def by_family(self) -> dict[int, DhtNode]:
        """The nodes by family, 4 or 6."""
        return dict(self._nodes)

    def datagram_received(self, data: bytes, source: Address) -> None:
        """Take a KRPC datagram; never raises."""
        node = self._nodes.get(family(source))
        if node is not None:
            node.datagram_received(data, source)

    def address_changed(self) -> None:
        """This machine has another address: what others saw until now says nothing any more."""
        for node in self._nodes.values():
            node.address_changed()

    async def start(self, known_nodes: Iterable[Address] = ()) -> None:
        """Join in the background, by the entry points and nodes of an earlier run; returns at once."""
        known = tuple(known_nodes)
        for node in self._nodes.values():
            await node.start(known)

    async def stop(self) -> None:
        """End every task and question."""
        await _together(node.stop() for node in self._nodes.values())

    async def joined(self) -> None:
        """Wait until one of the nodes knows somebody."""
        waits = [asyncio.ensure_future(node.joined()) for node in self._nodes.values()]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        """Every distinct valid item of the nearest nodes of each family, the highest seq first."""
        lookups = await _together(node.get_mutable(public_key, salt) for node in self._nodes.values())
        items = dict.fromkeys(item for lookup in lookups for item in lookup.items)
        return MutableLookup(
            lookups[0].target,
            tuple(sorted(items, key=lambda item: item.seq, reverse=True)),
            tuple(node for lookup in lookups for node in lookup.nodes),
            min(lookup.time for lookup in lookups),
        )

    async def find_item(
        self, public_key: bytes, salt: bytes, *, known: int | None = None, near: Iterable[Contact] = ()
    ) -> ItemLookup:
        """What each node near a key and salt keeps there, of both families; see ``DhtNode.find_item``."""
        seeds = tuple(near)
        found = await _together(
            node.find_item(public_key, salt, known=known, near=[each for each in seeds if family(each.address) == kind])
            for kind, node in self._nodes.items()
        )
        return ItemLookup(
            found[0].target,
            tuple(answer for lookup in found for answer in lookup.nearest),
            tuple(answer for lookup in found for answer in lookup.others),
            tuple(node for lookup in found for node in lookup.nodes),
            min(lookup.time for lookup in found),
        )

    async def ask_storers(
        self, storers: Sequence[Contact], public_key: bytes, salt: bytes, *, known: int | None = None
    ) -> list[ItemAnswer]:
        """What those nodes keep under a key and salt; see ``DhtNode.ask_storers``."""
        found = await _together(
            node.ask_storers(storers, public_key, salt, known=known) for node in self._nodes.values()
        )
        return [answer for answers in found for answer in answers]

    async def put_mutable(
        self, item: MutableItem, at: MutableLookup | ItemLookup | None = None, *, cas: int | None = None
    ) -> int:
        """Store on the nearest nodes of each family; returns how many said that they did."""
        return sum(await _together(node.put_mutable(item, at, cas=cas) for node in self._nodes.values()))

    async def find_peers(
        self, info_hash: bytes, near: Iterable[Contact] = (), *, most: int | None = None
    ) -> PeersLookup:
        """Peers of both families, and where to announce; see ``DhtNode.find_peers``."""
        known = tuple(near)
        found = await _together(
            node.find_peers(info_hash, [contact for contact in known if family(contact.address) == kind], most=most)
            for kind, node in self._nodes.items()
        )
        return PeersLookup(
            info_hash,
            tuple(peer for lookup in found for peer in lookup.peers),
            sum(lookup.confirmed for lookup in found),
            tuple(node for lookup in found for node in lookup.nodes),
            min(lookup.time for lookup in found),
        )

    async def ask_for_peers(self, info_hash: bytes, storers: Iterable[Contact]) -> list[Address]:
        """The peers that those nodes know, of both families; see ``DhtNode.ask_for_peers``."""
        known = tuple(storers)
        found = await _together(node.ask_for_peers(info_hash, known) for node in self._nodes.values())
        return [peer for peers in found for peer in peers]

    async def get_peers(self, info_hash: bytes) -> list[Address]:
        """Peers of both families, each once."""
        return list((await self.find_peers(info_hash)).peers)

    async def announce_peer(self, info_hash: bytes, port: int | None = None, at: PeersLookup | None = None) -> int:
        """Announce us on each family; returns how many nodes said ok."""
        return sum(await _together(node.announce_peer(info_hash, port, at) for node in self._nodes.values()))

    async def ping(self, address: Address, *, tries: int = 2) -> bool:
        """Whether a node answers there, asked with ``tries`` packets at most; False without a node of that family."""
        node = self._nodes.get(family(address))
        return node is not None and await node.ping(address, tries=tries)

    async def knock(self, address: Address, *, tries: int = 1) -> Answered:
        """Who answers there: a node that knows our secret, another one, or nobody; at most ``tries`` packets."""
        node = self._nodes.get(family(address))
        return Answered.NOBODY if node is None else await node.knock(address, tries=tries)

    def nodes(self) -> list[Address]:
        """Good nodes of both families, for the cache."""
        return [address for node in self._nodes.values() for address in node.nodes()]

    @property
    def external_addresses(self) -> tuple[Address, ...]:
        """Our addresses as others see them, at most one per family."""
        return tuple(seen for node in self._nodes.values() if (seen := node.external_address) is not None)

    @property
    def last_answer(self) -> float | None:
        """When a node of either family last answered us, by the nodes' clock; None before the first."""
        return max((last for node in self._nodes.values() if (last := node.last_answer) is not None), default=None)

    @property
    def last_answer_from_outside(self) -> float | None:
        """The same of nodes that are not in our LAN: a neighbour answers also where nothing gets out."""
        answers = (node.last_answer_from_outside for node in self._nodes.values())
        return max((last for last in answers if last is not None), default=None)

    @property
    def port_varies(self) -> bool | None:
        """Whether others see us at different ports, over IPv4 if there is it; None while too few have said."""
        return self._nodes[min(self._nodes)].external_port_varies

    @property
    def external_address(self) -> Address | None:
        """The first of ``external_addresses``."""
        return next(iter(self.external_addresses), None)


async def _together(calls: Iterable[Awaitable[_T]]) -> list[_T]:
    return list(await asyncio.gather(*calls))
