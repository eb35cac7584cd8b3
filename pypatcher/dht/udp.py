"""A DHT on UDP sockets of its own: for testnets, tools and tests. Devices share one socket with QUIC instead."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable, Sequence
from random import Random
from types import TracebackType
from typing import Any, Self, cast

from pypatcher.addresses import Address, family, format_address
from pypatcher.dht.facade import Dht
from pypatcher.dht.node import DhtNode
from pypatcher.errors import SettingError

__all__ = ["UdpDht"]

_log = logging.getLogger("pypatcher.dht")


class _Socket(asyncio.DatagramProtocol):
    """Hands datagrams over; a send before it is open, after it is closed or to nowhere is a lost packet."""

    def __init__(self, received: Callable[[bytes, Address], None]) -> None:
        self._received = received
        self._transport: asyncio.DatagramTransport | None = None
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        self._received(data, (addr[0], addr[1]))

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False

    def error_received(self, exc: Exception) -> None:
        _log.debug("a DHT packet was not sent: %s", exc)

    def send(self, data: bytes, address: Address) -> None:
        transport = self._transport
        if transport is not None and not self._is_full and not transport.is_closing():
            transport.sendto(data, address)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


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
        known_nodes: Iterable[Address] = (),
        random: Random | None = None,
    ) -> None:
        match bind:
            case (str(host), int(port)):
                self._bind: tuple[Address, ...] = ((host, port),)
            case _:
                self._bind = tuple(bind)
        known = tuple(known_nodes)
        self._sockets: list[_Socket] = []
        nodes = []
        for address in self._bind:
            opened = _Socket(self.datagram_received)
            self._sockets.append(opened)
            nodes.append(
                DhtNode(
                    opened.send,
                    family=family(address),
                    bootstrap=bootstrap,
                    read_only=read_only,
                    known_nodes=known,
                    random=random,
                )
            )
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
        loop = asyncio.get_running_loop()
        bound = []
        try:
            for address, opened in zip(self._bind, self._sockets, strict=True):
                kind = socket.AF_INET6 if family(address) == 6 else socket.AF_INET
                transport, _ = await loop.create_datagram_endpoint(
                    lambda opened=opened: opened,  # type: ignore[misc]
                    local_addr=address,
                    family=kind,
                )
                bound.append(transport.get_extra_info("sockname")[:2])
        except OSError as error:
            self._close()
            raise SettingError(f"cannot bind {format_address(address)}: {error.strerror or error}") from None
        self.addresses = tuple(bound)
        await self.start()

    async def close(self) -> None:
        """Stop the nodes and close the sockets."""
        await self.stop()
        self._close()

    def _close(self) -> None:
        for opened in self._sockets:
            opened.close()

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
