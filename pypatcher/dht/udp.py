"""A DHT on UDP sockets of its own, for testnets, tools and tests.

Not for devices, whose DHT and QUIC share one socket (``transport.endpoint``).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Self

from pypatcher.addresses import Address, family, format_address
from pypatcher.dht.facade import Dht
from pypatcher.dht.node import DhtNode
from pypatcher.errors import SettingError
from pypatcher.udp import DatagramSocket

__all__ = ["UdpDht"]


class UdpDht(Dht):
    """``async with UdpDht(("127.0.0.1", 0), bootstrap=...) as dht``: opens the sockets, starts, stops, closes.

    Args:
        bind: an address, or one of each family; port 0 is any free one.
        bootstrap: entry points; none for the first node of a network.
    """

    def __init__(
        self,
        bind: Address | Sequence[Address] = ("127.0.0.1", 0),
        *,
        bootstrap: Sequence[Address] = (),
        read_only: bool = False,
    ) -> None:
        match bind:
            case (str(host), int(port)):
                self._bind: tuple[Address, ...] = ((host, port),)
            case _:
                self._bind = tuple(bind)
        self._sockets: dict[int, DatagramSocket] = {}
        nodes = [
            DhtNode(
                partial(self._send, family(address)),
                family=family(address),
                bootstrap=bootstrap,
                read_only=read_only,
            )
            for address in self._bind
        ]
        self.addresses: tuple[Address, ...] = ()
        super().__init__(nodes)

    @property
    def address(self) -> Address:
        """Where the first socket is bound, once open."""
        return self.addresses[0]

    async def open(self) -> None:
        """Open the sockets and start to join.

        Raises:
            SettingError: an address cannot be bound.
        """
        try:
            for address in self._bind:
                self._sockets[family(address)] = DatagramSocket(address, self.datagram_received)
        except OSError as error:
            self._close()
            raise SettingError(f"cannot bind {format_address(address)}: {error.strerror or error}") from None
        self.addresses = tuple(opened.address for opened in self._sockets.values())
        await self.start()

    async def close(self) -> None:
        """Stop the nodes and close the sockets."""
        await self.stop()
        self._close()

    def _send(self, family: int, data: bytes, address: Address) -> None:
        """Before the sockets are open, and after they are closed, a packet is lost. Only an answer has a source."""
        if (opened := self._sockets.get(family)) is not None:
            opened.send(data, address, source=opened.asked_by(address))

    def _close(self) -> None:
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
