"""Which router to ask: the IPv4 default gateway, from the kernel's routing table. No command is run."""

from __future__ import annotations

import ipaddress
from pathlib import Path

__all__ = ["default_gateway", "parse_routes"]

_TABLE = Path("/proc/net/route")
_UP_AND_GATEWAY = 0x3


def default_gateway() -> str | None:
    """The default gateway's IPv4 address, or None without one."""
    try:
        return parse_routes(_TABLE.read_text(encoding="ascii"))
    except (OSError, UnicodeDecodeError):
        return None


def parse_routes(table: str) -> str | None:
    """The gateway of the default route with the lowest metric, from the text of ``/proc/net/route``.

    Its addresses are u32 in the machine's byte order, as hex; little-endian on every target that we have.
    """
    best: tuple[int, str] | None = None
    for line in table.splitlines()[1:]:
        fields = line.split()
        try:
            destination, gateway, flags, metric, mask = (
                int(fields[index], base) for index, base in ((1, 16), (2, 16), (3, 16), (6, 10), (7, 16))
            )
        except (IndexError, ValueError):
            continue
        if destination or mask or flags & _UP_AND_GATEWAY != _UP_AND_GATEWAY or not 0 < gateway < 1 << 32:
            continue
        address = str(ipaddress.IPv4Address(gateway.to_bytes(4, "little")))
        best = min(best or (metric, address), (metric, address))
    return None if best is None else best[1]
