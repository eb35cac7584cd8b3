"""Which of our own addresses the routing table would choose for a packet. No packet is sent."""

from __future__ import annotations

import socket

from pypatcher.addresses import Address, socket_family

__all__ = ["internet_source", "source_for"]

# Documentation addresses (RFC 5737, RFC 3849): nobody is there, and the default route leads to them.
_INTERNET: dict[int, Address] = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}


def source_for(destination: Address) -> str | None:
    """Our address on the way to ``destination``, a literal one; None if there is no way."""
    try:
        with socket.socket(socket_family(destination), socket.SOCK_DGRAM) as probe:
            probe.connect(destination)
            host: str = probe.getsockname()[0]
    except OSError:
        return None
    return host


def internet_source(family: int) -> str | None:
    """Our address of that family, 4 or 6, on the way to the Internet; None if there is no way."""
    return source_for(_INTERNET[family])
