"""One question to a router by UDP: sent again while there is no answer, on a socket that hears that router alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TypeVar

from pypatcher.addresses import Address
from pypatcher.errors import PortMapError
from pypatcher.transport.routes import source_for

__all__ = ["ask", "local_address"]

_Answer = TypeVar("_Answer")
_PAUSES = (0.25, 0.5, 1.0, 2.0)
_MOST_DATAGRAMS = 64
_LARGEST = 1100  # RFC 6887: no PCP message is longer


async def ask(
    router: Address,
    request: bytes,
    read: Callable[[bytes], _Answer | None],
    *,
    pauses: tuple[float, ...] = _PAUSES,
) -> _Answer:
    """Send ``request`` until ``read`` makes something of a datagram; datagrams that it returns None for are ignored.

    Raises:
        PortMapError: no answer, or what ``read`` raises.
    """
    loop = asyncio.get_running_loop()
    heard = 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        try:
            sock.connect(router)
            for pause in pauses:
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


def local_address(router: str) -> str:
    """Our own address on the way to the router; no packet is sent.

    Raises:
        PortMapError: there is no way.
    """
    host = source_for((router, 9))
    if host is None:
        raise PortMapError(f"no way to the router {router}")
    return host
