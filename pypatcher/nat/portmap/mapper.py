"""Keeps one UDP port open at a default gateway, IPv4 or IPv6: asks, renews long before the end, gives it back at stop.

design.md "Opening the way". The router is believed in nothing but whether it opened a port; what it says its outside
address is becomes a hint that others try, and nothing else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from pypatcher.addresses import Address, format_address, is_ipv6
from pypatcher.backoff import Backoff
from pypatcher.errors import PortMapError
from pypatcher.nat.portmap.gateway import default_gateway
from pypatcher.nat.portmap.natpmp import NatPmpClient
from pypatcher.nat.portmap.pcp import Granted, PcpClient
from pypatcher.nat.portmap.request import local_address
from pypatcher.nat.portmap.upnp import UpnpClient
from pypatcher.waiting import News, wait_at_most

__all__ = ["Client", "PortMapper", "PortMapping"]

_log = logging.getLogger("pypatcher")

_LEASE = 7200
_SOONEST_RENEWAL, _LATEST_RENEWAL = 30.0, 900.0
_FIRST_RETRY, _LAST_RETRY = 60.0, 3600.0
_GIVE_BACK_SECONDS = 3.0
_LOOK_AT_ROUTER = 5.0
_UNKNOWN = "0.0.0.0"  # noqa: S104 - no address


class Client(Protocol):
    """One mapping by one protocol at one router."""

    name: str

    async def open(self, port: int, seconds: int) -> Granted: ...

    async def close(self, port: int) -> None: ...


@dataclass(frozen=True, slots=True)
class PortMapping:
    """An open port.

    Attributes:
        protocol: PCP, NAT-PMP or UPnP.
        address: where the router says it is; its host is private if that router is behind another one, and
            0.0.0.0 if it does not say.
    """

    protocol: str
    address: Address

    @property
    def is_somewhere(self) -> bool:
        """Whether the router says no address: the port is open where others see us."""
        return self.address[0] == _UNKNOWN

    @property
    def is_public(self) -> bool:
        """Whether the address can be reached from the Internet, as far as its number tells."""
        return ipaddress.ip_address(self.address[0]).is_global


def _clients(router: str) -> Iterable[Client]:
    if is_ipv6(router):
        return (PcpClient(router),)
    return PcpClient(router), NatPmpClient(router), UpnpClient(router)


class PortMapper:
    """One port's mapping, for as long as ``run`` runs.

    Args:
        port: our UDP port.
        gateway: where to find the router.
        clients: the protocols to try, in order.

    Attributes:
        mapping: the open port; None while there is none.
        news: told whenever ``mapping`` changed.
        refusals: why each protocol does not work here, for people.
    """

    def __init__(
        self,
        port: int,
        *,
        gateway: Callable[[], str | None] = default_gateway,
        clients: Callable[[str], Iterable[Client]] = _clients,
    ) -> None:
        self._port = port
        self._gateway = gateway
        self._make_clients = clients
        self._way: tuple[str, str] | None = None
        self._client: Client | None = None
        self._tried: asyncio.Event | None = None
        self.mapping: PortMapping | None = None
        self.news = News()
        self.refusals: dict[str, str] = {}

    async def run(self) -> None:
        """Keep the port open until cancelled, then give it back within 3 s."""
        self._tried = tried = asyncio.Event()
        retry = Backoff(_FIRST_RETRY, _LAST_RETRY)
        try:
            while True:
                seconds = await self.once()
                tried.set()
                if seconds is None:
                    seconds = retry.fail()
                else:
                    retry.succeed()
                await self._until_another_router(seconds)
        finally:
            await asyncio.shield(asyncio.ensure_future(self.give_back()))

    async def settled(self, patience: float) -> None:
        """Wait until ``run`` knows whether the router opens a port, ``patience`` seconds at most."""
        if self._tried is not None:
            await wait_at_most(self._tried, patience)

    async def once(self) -> float | None:
        """Open or renew the port; returns the seconds until that should be done again, or None if there is none."""
        way = self._find_way()
        if way != self._way:
            # Another router, or another address of ours: what the old one opened leads nowhere, and ends by itself.
            self._way, self._client = way, None
        self.refusals = {}
        # An IPv4 address of the Internet needs no mapping; an IPv6 one that is none gets nothing from an open firewall.
        if way is None or ipaddress.ip_address(way[1]).is_global != is_ipv6(way[1]):
            self._client = None
            self._say(None)
            return None
        known = [] if self._client is None else [self._client]
        for client in [*known, *self._make_clients(way[0])]:
            try:
                granted = await client.open(self._port, _LEASE)
            except PortMapError as error:
                self.refusals[client.name] = str(error)
                continue
            self._client = client
            host = granted.host or (None if is_ipv6(way[0]) else _UNKNOWN)
            self._say(None if host is None else PortMapping(client.name, (host, granted.port)))
            return max(_SOONEST_RENEWAL, min(granted.seconds / 2, _LATEST_RENEWAL))
        self._client = None
        self._say(None)
        return None

    async def give_back(self) -> None:
        """End the mapping, if there is one; a router that does not answer will end it by itself."""
        client, self._client = self._client, None
        if client is None:
            return
        self._say(None)
        with suppress(PortMapError, TimeoutError):
            async with asyncio.timeout(_GIVE_BACK_SECONDS):
                await client.close(self._port)

    async def _until_another_router(self, seconds: float) -> None:
        """Wait; an end comes early when the default gateway or our address changes."""
        while seconds > 0 and self._find_way() == self._way:
            await asyncio.sleep(min(seconds, _LOOK_AT_ROUTER))
            seconds -= _LOOK_AT_ROUTER

    def _find_way(self) -> tuple[str, str] | None:
        """The default gateway, and our address that it is to open a port for."""
        router = self._gateway()
        if router is None:
            return None
        try:
            return router, local_address(router)
        except PortMapError:
            return None

    def _say(self, mapping: PortMapping | None) -> None:
        if mapping == self.mapping:
            return
        self.mapping = mapping
        if mapping is not None:
            _log.info("the router opened %s for us by %s", format_address(mapping.address), mapping.protocol)
        self.news.tell()
