"""A private DHT in one process: full nodes on real UDP sockets, for demos, tests and trying things out offline.

Its nodes are told of each other at the start, which saves a second of traffic; from then on nothing in it is special,
and devices in other processes or network namespaces use its entry points as they would the public ones.
"""

from __future__ import annotations

import asyncio
import ipaddress
from random import sample
from types import TracebackType
from typing import Self

from pypatcher.addresses import Address, family
from pypatcher.dht.nodeid import Contact
from pypatcher.dht.udp import UdpDht
from pypatcher.errors import SettingError

__all__ = ["Testnet"]

_ENTRY_POINTS = 3
_INTRODUCED = 160
_MOST = 500


class Testnet:
    """``async with Testnet(30) as net``: ``net.bootstrap`` are its entry points.

    Args:
        nodes: how many, 1 to 500.
        host: literal address that the nodes are bound to and found at.
        port: of the first node; 0 is any. The others take any free port.

    Raises:
        SettingError: the numbers make no sense, or the host is a name or a wildcard.
    """

    __test__ = False

    def __init__(self, nodes: int = 30, *, host: str = "127.0.0.1", port: int = 0) -> None:
        if not 1 <= nodes <= _MOST:
            raise SettingError(f"a testnet has 1 to {_MOST} nodes, not {nodes}")
        try:
            wildcard = ipaddress.ip_address(host).is_unspecified
        except ValueError:
            raise SettingError(f"{host!r} is no address: give a literal one, such as 127.0.0.1") from None
        if wildcard:
            raise SettingError(f"{host} is every address: give the one that devices reach this machine at")
        self._count = nodes
        self._first = (host, port)
        self.dhts: list[UdpDht] = []

    @property
    def bootstrap(self) -> tuple[Address, ...]:
        """Up to three entry points."""
        return tuple(dht.address for dht in self.dhts[:_ENTRY_POINTS])

    async def start(self) -> None:
        """Open every node.

        Raises:
            SettingError: the address cannot be bound.
        """
        try:
            for number in range(self._count):
                dht = UdpDht(self._first if number == 0 else (self._first[0], 0))
                await dht.open()
                self.dhts.append(dht)
        except BaseException:
            await self.stop()
            raise
        nodes = [(dht.by_family[family(self._first)], dht.address) for dht in self.dhts]
        contacts = [Contact(node.node_id, address) for node, address in nodes]
        for node, _ in nodes:
            node.table.near.trust(self._first[0])
            node.introduce(sample(contacts, min(len(contacts), _INTRODUCED)))

    async def stop(self) -> None:
        """Close every node."""
        await asyncio.gather(*(dht.close() for dht in self.dhts))
        self.dhts.clear()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
