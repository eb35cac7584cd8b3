"""Network addresses as the wire formats need them: compact bytes, text, and the groups that budgets count by.

Pure functions over ``(host, port)`` pairs whose host is a literal IPv4 or IPv6 address; names are resolved elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from typing import TypeAlias

from pypatcher.errors import CodecError, SettingError

__all__ = [
    "Address",
    "budget_group",
    "family",
    "format_address",
    "is_ipv6",
    "is_lan",
    "is_literal",
    "pack_compact",
    "parse_address",
    "parse_addresses",
    "socket_family",
    "unpack_compact",
]

Address: TypeAlias = tuple[str, int]
"""A literal IPv4 or IPv6 address and a UDP port."""

_NEAR = tuple(
    map(
        ipaddress.ip_network,
        (
            "127.0.0.0/8",
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "169.254.0.0/16",
            "::1",
            "fc00::/7",
            "fe80::/10",
        ),
    )
)
"""Named one by one: what Python calls private also holds tunnels (Teredo), benchmark and documentation networks."""


def is_ipv6(host: str) -> bool:
    """Whether the literal address is an IPv6 one, with or without the interface behind ``%``; else it is IPv4."""
    return ":" in host


def family(address: Address) -> int:
    """4 or 6."""
    return 6 if is_ipv6(address[0]) else 4


def socket_family(address: Address) -> socket.AddressFamily:
    """The same for the socket module."""
    return socket.AF_INET6 if is_ipv6(address[0]) else socket.AF_INET


def format_address(address: Address) -> str:
    """``127.0.0.1:6881`` or ``[::1]:6881``."""
    host, port = address
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read ``host:port`` or ``[host]:port``; the host may be a name, the port 0 to 65535.

    Raises:
        SettingError: the text is of another form.
    """
    host, colon, port = text.strip().rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise SettingError(f"{text!r}: write an IPv6 address in brackets, such as [::1]:6881")
    if not colon or not host or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise SettingError(f"{text!r} is not an address: write HOST:PORT, such as 192.0.2.7:6881")
    return host, int(port)


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read ``host:port,host:port,...``; empty text is no address.

    Raises:
        SettingError: one of them is of another form.
    """
    return tuple(parse_address(part) for part in text.split(",") if part.strip())


def pack_compact(address: Address) -> bytes:
    """6 bytes for IPv4 (BEP 5), 18 for IPv6 (BEP 32)."""
    host, port = address
    return socket.inet_pton(socket_family(address), host) + port.to_bytes(2, "big")


def unpack_compact(data: bytes) -> Address:
    """Read 6 or 18 bytes.

    Raises:
        CodecError: another length.
    """
    if len(data) not in (6, 18):
        raise CodecError(f"a compact address has 6 or 18 bytes, not {len(data)}")
    kind = socket.AF_INET if len(data) == 6 else socket.AF_INET6
    return socket.inet_ntop(kind, data[:-2]), int.from_bytes(data[-2:], "big")


def is_lan(address: Address) -> bool:
    """Whether the address can only be near: loopback, private, link-local or unique local."""
    ip = ipaddress.ip_address(address[0].partition("%")[0])
    return any(ip in network for network in _NEAR)


def is_literal(address: Address) -> bool:
    """Whether the host is an IP address, and no name that would have to be resolved first."""
    try:
        ipaddress.ip_address(address[0])
    except ValueError:
        return False
    return True


def budget_group(address: Address) -> str:
    """What failures and offers are counted by: the /24 of an IPv4 address, the /48 of an IPv6 one."""
    host = address[0].partition("%")[0]
    return str(ipaddress.ip_network((host, 48 if is_ipv6(host) else 24), strict=False))
