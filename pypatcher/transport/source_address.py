"""What the routing table knows of a way: which of our own addresses it chooses, what it carries. No packet is sent."""

from __future__ import annotations

import ipaddress
import socket

from pypatcher.addresses import Address, is_ipv6, socket_family

__all__ = ["goes_on", "internet_source", "payload_for", "source_for"]

_MTU = {4: (socket.IPPROTO_IP, 14, 28), 6: (socket.IPPROTO_IPV6, 24, 48)}
"""By family: IP_MTU, and the bytes of headers before a UDP payload."""

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


def payload_for(destination: Address) -> int | None:
    """Bytes of a UDP payload that the first interface on the way there carries whole; None if that is not known."""
    level, option, headers = _MTU[6 if is_ipv6(destination[0]) else 4]
    try:
        with socket.socket(socket_family(destination), socket.SOCK_DGRAM) as probe:
            probe.connect(destination)
            return probe.getsockopt(level, option) - headers
    except OSError:
        return None


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
