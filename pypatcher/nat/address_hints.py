"""The addresses at which we may be reached, as our records tell them, and the ports that may be told elsewhere.

design.md "Discovery" (address hints). Nothing is sent: the address that other DHT nodes see, the sockets' own
addresses, and for a socket bound to every address the one that the routing table would choose. Not here: who is told.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from pypatcher.addresses import Address, family
from pypatcher.discovery import HINT_LIMIT
from pypatcher.transport import internet_source

__all__ = ["own_addresses", "ports_everywhere"]


def own_addresses(bound: Sequence[Address], seen: Iterable[Address]) -> tuple[Address, ...]:
    """The sockets' addresses that others could dial: ``seen`` by others first, then our own."""
    found = list(seen)
    for host, port in bound:
        if not ipaddress.ip_address(host).is_unspecified:
            found.append((host, port))
        elif local := _route_source(family((host, port))):
            found.append((local, port))
    return tuple(dict.fromkeys(found))[:HINT_LIMIT]


def ports_everywhere(bound: Iterable[Address]) -> dict[int, int]:
    """Our ports by family, 4 and 6, of sockets that are bound to every address.

    Whoever binds one to an address keeps everything there: nothing of it is said on other interfaces or to a router.
    """
    return {family((host, port)): port for host, port in bound if ipaddress.ip_address(host).is_unspecified}


def _route_source(kind: int) -> str | None:
    host = internet_source(kind)
    return None if host is None or ipaddress.ip_address(host).is_link_local else host
