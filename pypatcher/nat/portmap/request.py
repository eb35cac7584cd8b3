"""One question to a router by UDP: sent again while there is no answer, on a socket that hears that router alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from pypatcher.addresses import Address, is_ipv6, socket_family
from pypatcher.errors import PortMapError
from pypatcher.transport.source_address import internet_source, source_for

__all__ = ["ask_router", "local_address"]

_Answer = TypeVar("_Answer")
_PAUSES = (0.25, 0.5, 1.0, 2.0)
_MOST_DATAGRAMS = 64
_LARGEST = 1100  # RFC 6887: no PCP message is longer


async def ask_router(
    router: Address,
    request: bytes,
    read: Callable[[bytes], _Answer | None],
    *,
    source: str | None = None,
) -> _Answer:
    """Send ``request`` until ``read`` makes something of a datagram; datagrams that it returns None for are ignored.

    Args:
        source: our address to send from; None is the kernel's choice.

    Raises:
        PortMapError: no answer, or what ``read`` raises.
    """
    loop = asyncio.get_running_loop()
    heard = 0
    with socket.socket(socket_family(router), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            if source is not None:
                sock.bind((source, 0))
            sock.connect(_with_scope(router))
            for pause in _PAUSES:
                await loop.sock_sendall(sock, request)
                try:
                    async with asyncio.timeout(pause):
                        while heard < _MOST_DATAGRAMS:
                            datagram = await loop.sock_recv(sock, _LARGEST + 1)
                            heard += 1
                            answer = read(datagram) if len(datagram) <= _LARGEST else None
                            if answer is not None:
                                return answer
                except TimeoutError:
                    continue
        except OSError as error:
            raise PortMapError(f"{router[0]} does not take the question: {error.strerror or error}") from None
    raise PortMapError(f"{router[0]} does not answer")


def _with_scope(router: Address) -> tuple[str, int] | tuple[str, int, int, int]:
    """The address as the socket module wants it: the interface of a link-local one as a number."""
    host, _, interface = router[0].partition("%")
    return (host, router[1], 0, socket.if_nametoindex(interface)) if interface else router


def local_address(router: str) -> str:
    """Our own address that the router is to open a port for; no packet is sent.

    Over IPv4 the one on the way to the router; over IPv6 the one on the way to the Internet, since the router itself is
    mostly reached by a link-local address.

    Raises:
        PortMapError: there is no way.
    """
    host = internet_source(6) if is_ipv6(router) else source_for((router, 9))
    if host is None:
        raise PortMapError(f"no way to the router {router}")
    return host
