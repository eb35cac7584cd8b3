"""A private DHT in one process: full nodes on real UDP sockets, for demos, tests and trying things out offline.

Nothing in it is special: the nodes join through the first one by the same code as on the Internet, and devices in
other processes or network namespaces use its entry points as they would the public ones.
"""

from __future__ import annotations

import asyncio
import ipaddress
from types import TracebackType
from typing import Self

from pypatcher.addresses import Address, format_address
from pypatcher.dht.udp import UdpDht
from pypatcher.errors import SettingError

__all__ = ["Testnet"]

_ENTRY_POINTS = 3
_JOIN_TIME = 20.0
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
        """Open every node and wait until all are joined.

        Raises:
            SettingError: the address cannot be bound.
        """
        try:
            await self._add(self._first, ())
            entry = self.dhts[0].address
            for _ in range(self._count - 1):
                await self._add((self._first[0], 0), (entry,))
            async with asyncio.timeout(_JOIN_TIME):
                for dht in self.dhts[1:]:
                    await dht.joined()
        except TimeoutError:
            await self.stop()
            raise SettingError(f"the testnet's nodes do not reach each other at {format_address(entry)}") from None
        except BaseException:
            await self.stop()
            raise

    async def _add(self, bind: Address, bootstrap: tuple[Address, ...]) -> None:
        dht = UdpDht(bind, bootstrap=bootstrap)
        await dht.open()
        self.dhts.append(dht)

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
