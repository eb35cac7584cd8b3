"""Which private addresses are on a link of this machine: what the kernel's routing tables say. No packet is sent.

Anybody can write any private address into a record: those that a router would have to carry to another network are
nobody's neighbours. The tables are read again every 10 seconds at most; where they cannot be read, only loopback is
near, and who is heard by multicast. What being near means for a knock is said in ``knock_queue``.
"""

from __future__ import annotations

import ipaddress
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

from pypatcher.addresses import Address, is_lan, is_loopback

__all__ = ["OnLink"]

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_FRESH = 10.0
_UP, _GATEWAY = 0x1, 0x2


class OnLink:
    """Tells who is near: on this machine, or in a private network on one of its links.

    Args:
        clock: monotonic seconds.
        tables: where ``route`` and ``ipv6_route`` are.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, tables: Path = Path("/proc/self/net")) -> None:
        self._clock = clock
        self._tables = tables
        self._read = float("-inf")
        self._networks: tuple[_Network, ...] = ()
        self._known: dict[str, bool] = {}

    def __call__(self, address: Address) -> bool:
        """Whether it is near."""
        host = address[0]
        if not is_lan(address):
            return False
        if self._clock() - self._read >= _FRESH:
            self._read = self._clock()
            networks = tuple(_networks(self._tables))
            if networks != self._networks or len(self._known) > 4096:
                self._networks, self._known = networks, {}
        if host not in self._known:
            ip = ipaddress.ip_address(host.partition("%")[0])
            self._known[host] = is_loopback(address) or any(ip in network for network in self._networks)
        return self._known[host]


def _networks(tables: Path) -> Iterator[_Network]:
    """The destinations of routes without a gateway, but for the default route."""
    for line in _lines(tables / "route"):
        fields = line.split()
        if len(fields) >= 8 and fields[7] != "00000000" and int(fields[3], 16) & (_UP | _GATEWAY) == _UP:
            yield ipaddress.IPv4Network((_as_stored(fields[1]), str(_as_stored(fields[7]))), strict=False)
    for line in _lines(tables / "ipv6_route"):
        fields = line.split()
        if len(fields) >= 10 and fields[1] != "00" and int(fields[8], 16) & (_UP | _GATEWAY) == _UP:
            yield ipaddress.IPv6Network((bytes.fromhex(fields[0]), int(fields[1], 16)), strict=False)


def _as_stored(text: str) -> ipaddress.IPv4Address:
    """The table shows a number as this processor keeps it in memory."""
    return ipaddress.IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text("ascii").splitlines()
    except OSError:
        return []
    return [line for line in lines if not line.startswith("Iface")]
