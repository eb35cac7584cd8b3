"""A UPnP IGD client: finds the router, asks it for a UDP port, gives the port back.

Not here: the texts and their parsing (``upnp_messages``), HTTP (``http``), and when to renew (``mapper``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from urllib.parse import urlsplit

from pypatcher.addresses import Address
from pypatcher.errors import PortMapError
from pypatcher.nat.portmap.http import encode_http_request, exchange
from pypatcher.nat.portmap.pcp import Granted
from pypatcher.nat.portmap.request import local_address
from pypatcher.nat.portmap.upnp_messages import (
    SEARCH_ADDRESS,
    Service,
    encode_call,
    encode_ssdp_search,
    parse_description,
    parse_location,
    parse_result,
)

__all__ = ["UpnpClient", "ask_description"]

_SEARCH_SECONDS = 2.5
_MOST_DATAGRAMS = 64
_MOST_DESCRIPTIONS = 4
_PORTS_TO_TRY = 4
_CONFLICT = "718"
_WITHOUT_END = ("402", "501", "725")
"""What routers say that take a mapping for good only: 725, and two that misread how long it is to last."""
_ASSUMED_SECONDS = 3600  # of a mapping that the router makes for good: renewed all the same, since routers restart


class UpnpClient:
    """One mapping at one router. ``open`` again renews it."""

    name = "UPnP"

    def __init__(self, router: str) -> None:
        self._router = router
        self._service: Service | None = None
        self._external = 0

    async def open(self, port: int, seconds: int) -> Granted:
        """Ask for our UDP ``port``, the same one outside if it is free.

        Raises:
            PortMapError: refused, or no answer.
        """
        services = [self._service] if self._service is not None else await self._find()
        refusal = PortMapError("the router has no free port for us by UPnP")
        for service in services:
            try:
                return await self._open_at(service, port, seconds)
            except PortMapError as error:
                refusal = error
        self._service = None
        raise refusal

    async def _open_at(self, service: Service, port: int, seconds: int) -> Granted:
        """Ask one of the router's ways out."""
        self._service = service
        external = self._external or port
        for _ in range(_PORTS_TO_TRY):
            error = await self._add(port, external, seconds)
            if error in _WITHOUT_END and seconds:
                seconds = 0
                error = await self._add(port, external, seconds)
            if error is None:
                self._external = external
                return Granted(await self._outside(), external, seconds or _ASSUMED_SECONDS)
            if error != _CONFLICT:
                raise PortMapError(f"the router refuses by UPnP: error {error}")
            external = random.randrange(20000, 60000)  # noqa: S311 - a port that is free, not one that is secret
        raise PortMapError("the router has no free port for us by UPnP")

    async def close(self, port: int) -> None:
        """End the mapping.

        Raises:
            PortMapError: refused, or no answer.
        """
        if self._service is None or not self._external:
            return
        arguments = {"NewRemoteHost": "", "NewExternalPort": str(self._external), "NewProtocol": "UDP"}
        result = await self._call("DeletePortMapping", arguments)
        if "errorCode" in result:
            raise PortMapError(f"the router keeps the port: error {result['errorCode'][:8]}")

    async def _add(self, port: int, external: int, seconds: int) -> str | None:
        arguments = {
            "NewRemoteHost": "",
            "NewExternalPort": str(external),
            "NewProtocol": "UDP",
            "NewInternalPort": str(port),
            "NewInternalClient": local_address(self._router),
            "NewEnabled": "1",
            "NewPortMappingDescription": "pypatcher",
            "NewLeaseDuration": str(seconds),
        }
        result = await self._call("AddPortMapping", arguments)
        return result["errorCode"][:8] if "errorCode" in result else None

    async def _outside(self) -> str | None:
        try:
            result = await self._call("GetExternalIPAddress", {})
            return str(ipaddress.IPv4Address(result.get("NewExternalIPAddress", "")))
        except (ValueError, PortMapError):
            return None

    async def _call(self, action: str, arguments: dict[str, str]) -> dict[str, str]:
        if self._service is None:
            raise PortMapError("no UPnP router was found")
        headers, body = encode_call(self._service, action, arguments)
        request = encode_http_request("POST", self._service.path, self._service.server, headers, body)
        return parse_result(*await exchange(self._service.server, request))

    async def _find(self) -> list[Service]:
        """What the first description from our own router names that has what we need."""
        refusal = PortMapError("no router answers to UPnP")
        for url in await self._search():
            try:
                status, body = await exchange(*ask_description(url, self._router))
                if status == 200:
                    return parse_description(body, url)
            except PortMapError as error:
                refusal = error
        raise refusal

    async def _search(self) -> list[str]:
        """Description URLs that the default gateway answers with; nobody else in the LAN may speak for it."""
        loop = asyncio.get_running_loop()
        urls: dict[str, None] = {}
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            try:
                sock.bind((local_address(self._router), 0))
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 2)
                for datagram in encode_ssdp_search():
                    await loop.sock_sendto(sock, datagram, SEARCH_ADDRESS)
                    # Some routers miss multicast, but hear what is sent to themselves.
                    await loop.sock_sendto(sock, datagram, (self._router, SEARCH_ADDRESS[1]))
                async with asyncio.timeout(_SEARCH_SECONDS):
                    for _ in range(_MOST_DATAGRAMS):
                        data, source = await loop.sock_recvfrom(sock, 4096)
                        if source[0] == self._router and (url := parse_location(data, self._router)):
                            urls[url] = None
                            break
            except TimeoutError:
                pass
            except OSError as error:
                raise PortMapError(f"cannot search for a router: {error.strerror or error}") from None
        return list(urls)[:_MOST_DESCRIPTIONS]


def ask_description(url: str, router: str) -> tuple[Address, bytes]:
    """Whom to ask for a description, and the request; ``url`` is from ``parse_location``."""
    parts = urlsplit(url)
    server = (router, parts.port or 80)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return server, encode_http_request("GET", path, server, {})
