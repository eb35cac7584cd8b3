"""Which router to ask: the default gateways, from the kernel's routing tables. No command is run."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["default_gateway", "parse_routes", "parse_routes6"]

_TABLE, _TABLE6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
_UP_AND_GATEWAY = 0x3


def default_gateway(family: int = 4) -> str | None:
    """The default gateway's address of that family, 4 or 6, or None without one."""
    table, parse = (_TABLE6, parse_routes6) if family == 6 else (_TABLE, parse_routes)
    try:
        return parse(table.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def parse_routes(table: str) -> str | None:
    """The gateway of the default route with the lowest metric, from the text of ``/proc/net/route``.

    Its addresses are u32 in the machine's byte order, as hex; little-endian on every target that we have.
    """

    def gateways() -> Iterator[tuple[int, str]]:
        for line in table.splitlines()[1:]:
            fields = line.split()
            with suppress(IndexError, ValueError):
                destination, gateway, flags, metric, mask = (
                    int(fields[index], base) for index, base in ((1, 16), (2, 16), (3, 16), (6, 10), (7, 16))
                )
                is_default = not destination and not mask and flags & _UP_AND_GATEWAY == _UP_AND_GATEWAY
                if is_default and 0 < gateway < 1 << 32:
                    yield metric, str(ipaddress.IPv4Address(gateway.to_bytes(4, "little")))

    return _lowest(gateways())


def parse_routes6(table: str) -> str | None:
    """The gateway of the default route with the lowest metric, from the text of ``/proc/net/ipv6_route``.

    Its addresses are 32 hex digits. A link-local one, as routers announce it, comes with its interface:
    ``fe80::1%eth0``.
    """

    def gateways() -> Iterator[tuple[int, str]]:
        for line in table.splitlines():
            fields = line.split()
            with suppress(IndexError, ValueError):
                destination, length, metric, flags = (int(fields[index], 16) for index in (0, 1, 5, 8))
                gateway = ipaddress.IPv6Address(bytes.fromhex(fields[4]))
                is_default = not destination and not length and flags & _UP_AND_GATEWAY == _UP_AND_GATEWAY
                if is_default and not gateway.is_unspecified:
                    yield metric, f"{gateway}%{fields[9]}" if gateway.is_link_local else str(gateway)

    return _lowest(gateways())


def _lowest(gateways: Iterable[tuple[int, str]]) -> str | None:
    return min(gateways, default=(0, None))[1]
