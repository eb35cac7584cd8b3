"""Network addresses as the wire formats need them: compact bytes, text, and what limits count as one host or network.

Pure functions over ``(host, port)`` pairs whose host is a literal IPv4 or IPv6 address; names are resolved elsewhere.
"""

from __future__ import annotations

import ipaddress
import socket
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from pypatcher.errors import CodecError, SettingError

__all__ = [
    "Address",
    "family",
    "format_address",
    "host_of",
    "is_ipv6",
    "is_lan",
    "is_literal",
    "is_loopback",
    "machine_of",
    "network_of",
    "pack_compact",
    "parse_address",
    "parse_addresses",
    "provider_of",
    "socket_family",
    "subnet_of",
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
    return _place(address[0]).is_lan


def is_loopback(address: Address) -> bool:
    """Whether it is this machine."""
    return address[0].startswith("127.") or address[0] == "::1"


def is_literal(address: Address) -> bool:
    """Whether the host is an IP address, and no name that would have to be resolved first."""
    try:
        ipaddress.ip_address(address[0])
    except ValueError:
        return False
    return True


def host_of(address: Address) -> str:
    """What "one host" means for a limit: the IPv4 address, the /64 of an IPv6 one, in the LAN host and port.

    A single IPv6 customer has all of a /64 at least; in a LAN, and on loopback, many devices may share a host.
    """
    return format_address(address) if is_lan(address) else machine_of(address)


def machine_of(address: Address) -> str:
    """``host_of`` without the port that it has in the LAN: for limits that one machine's ports share there, too."""
    return _place(address[0]).host


def network_of(address: Address) -> str:
    """What "one network" means for a limit: the /24 of an IPv4 address, the /48 of an IPv6 one, in the LAN the host."""
    return _place(address[0]).network


def subnet_of(address: Address) -> str:
    """The /24 of an IPv4 address, the /48 of an IPv6 one, in the LAN, too: for what is sent to addresses unproved."""
    host = address[0].partition("%")[0]
    return str(ipaddress.ip_network((host, 48 if is_ipv6(host) else 24), strict=False))


def provider_of(address: Address) -> str:
    """The network around ``network_of``: the /16 of an IPv4 address, the /32 of an IPv6 one, in the LAN the host."""
    return _place(address[0]).provider


class _Place(NamedTuple):
    is_lan: bool
    host: str
    network: str
    provider: str


@lru_cache(maxsize=4096)
def _place(host: str) -> _Place:
    """Remembered, since lookups and floods ask often."""
    plain = host.partition("%")[0]
    ip = ipaddress.ip_address(plain)
    if any(ip in near for near in _NEAR):
        return _Place(True, host, host, host)
    sizes = (64, 48, 32) if is_ipv6(plain) else (32, 24, 16)
    one, network, provider = (str(ipaddress.ip_network((plain, size), strict=False)) for size in sizes)
    return _Place(False, one, network, provider)
