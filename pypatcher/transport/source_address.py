"""Which of our own addresses the routing table would choose for a packet. No packet is sent."""

from __future__ import annotations

import ipaddress
import socket

from pypatcher.addresses import Address, is_ipv6, socket_family

__all__ = ["goes_on", "internet_source", "source_for"]

# Documentation addresses (RFC 5737, RFC 3849): nobody is there, and the default route leads to them. Where somebody has
# routed those nowhere, as firewalls do, others tell: two that are in the Internet for sure.
_INTERNET: dict[int, tuple[Address, ...]] = {
    4: (("192.0.2.1", 9), ("1.1.1.1", 9)),
    6: (("2001:db8::1", 9), ("2606:4700:4700::1111", 9)),
}


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
    return next((host for each in _INTERNET[family] if (host := source_for(each)) is not None), None)


def goes_on(ours: str | None, now: str | None) -> bool:
    """Whether packets may go on leaving from ``ours`` where new ones leave from ``now``.

    Another address of the same network does not replace the one before: IPv6 takes a new one every few hours, and keeps
    the old one valid for what goes on.
    """
    if ours is None or now is None or is_ipv6(ours) != is_ipv6(now):
        return False
    bits = 64 if is_ipv6(ours) else 24
    if ipaddress.ip_address(now) not in ipaddress.ip_network((ours, bits), strict=False):
        return False
    try:
        with socket.socket(socket_family((ours, 0)), socket.SOCK_DGRAM) as probe:
            probe.bind((ours, 0))
    except OSError:
        return False
    return True
