"""Which nodes did not answer lately, how many nodes one host or network may have in a table or lookup, and who is near.

Pure, in bounded memory; time is passed in. Not here: whom to ask (``routing``, ``lookup``).
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Iterable

from pypatcher.addresses import Address, format_address, host_of, is_lan, is_literal, network_of
from pypatcher.bounded import note

__all__ = ["Crowd", "Near", "Silence"]

_PER_HOST, _PER_GROUP = 2, 8
_SILENT_NODES, _SILENCE, _ANSWERED = 512, 120.0, 600.0
_WRONG_PORTS = 4


class Near:
    """Which nodes no crowd is made of, and which may be asked often: the LAN's, and those of trusted hosts.

    Trusted are the hosts of entry points that somebody gave by their address: a private DHT has many nodes on one, and
    who names it to a device trusts it.
    """

    def __init__(self, trusted: Iterable[Address] = ()) -> None:
        self._hosts = {str(ipaddress.ip_address(address[0])) for address in trusted if is_literal(address)}

    def trust(self, host: str) -> None:
        """Hold every node at that literal address for near."""
        self._hosts.add(str(ipaddress.ip_address(host)))

    def __call__(self, address: Address) -> bool:
        """Whether it is near."""
        return address[0] in self._hosts or is_lan(address)

    def host_of(self, address: Address) -> str:
        """What counts as one host: of those that are near each node is one of its own."""
        return format_address(address) if address[0] in self._hosts else host_of(address)


class Silence:
    """Remembers the hosts that lately did not answer, a bounded number of them.

    That is a port, for anybody can name wrong ports of an honest host. Away from the LAN it is the whole host (of IPv6
    the /64) from the fourth port on, lest many are named of a victim; but not if it answered in the last 10 minutes.
    """

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()
        self._ports: OrderedDict[str, tuple[float, int]] = OrderedDict()
        self._answered: OrderedDict[str, float] = OrderedDict()

    def begin(self, address: Address, now: float) -> None:
        """A node did not answer."""
        host, port = host_of(address), format_address(address)
        is_new = now - self._since.get(port, -_SILENCE) >= _SILENCE
        note(self._since, port, now, _SILENT_NODES)
        if not is_new or now - self._answered.get(host, -_ANSWERED) < _ANSWERED:
            return
        begun, ports = self._ports.get(host, (now, 0))
        if now - begun >= _SILENCE:
            begun, ports = now, 0
        note(self._ports, host, (begun, ports + 1), _SILENT_NODES)
        if ports + 1 >= _WRONG_PORTS:
            note(self._since, host, now, _SILENT_NODES)

    def end(self, address: Address, now: float) -> None:
        """It answered after all."""
        for table in (self._since, self._ports):
            table.pop(host_of(address), None)
        self._since.pop(format_address(address), None)
        note(self._answered, host_of(address), now, _SILENT_NODES)

    def holds(self, address: Address, now: float) -> bool:
        """Whether it was silent a moment ago."""
        keys = host_of(address), format_address(address)
        return any(now - self._since.get(key, -_SILENCE) < _SILENCE for key in keys)


class Crowd:
    """Counts nodes that are not near, since many ids cost nothing: 2 per host, 8 per /24 or /48."""

    def __init__(self, near: Near | None = None) -> None:
        self._is_near = near or Near()
        self._hosts: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()

    def has_room(self, address: Address) -> bool:
        """Whether one more node there may be counted."""
        if self._is_near(address):
            return True
        return self._hosts[host_of(address)] < _PER_HOST and self._groups[network_of(address)] < _PER_GROUP

    def add(self, address: Address) -> None:
        """Count a node."""
        if not self._is_near(address):
            self._hosts[host_of(address)] += 1
            self._groups[network_of(address)] += 1

    def remove(self, address: Address) -> None:
        """A node that was counted is gone."""
        if not self._is_near(address):
            _decrease(self._hosts, host_of(address))
            _decrease(self._groups, network_of(address))


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
