"""Which nodes did not answer lately, and how many nodes one host or network may have in a table or lookup.

Pure, in bounded memory; time is passed in. Not here: whom to ask (``routing``, ``lookup``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from pypatcher.addresses import Address, format_address, host_of, is_lan, network_of

__all__ = ["Crowd", "Silence"]

_PER_HOST, _PER_GROUP = 2, 8
_SILENT_NODES, _SILENCE, _ANSWERED = 512, 120.0, 600.0


class Silence:
    """Remembers the hosts that lately did not answer, a bounded number of them.

    Away from the LAN that is a host (of IPv6 a /64): who names a hundred ports of one has named one. Of a host that
    answered in the last 10 minutes it is the port alone: anybody can name wrong ports of an honest one.
    """

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()
        self._answered: OrderedDict[str, float] = OrderedDict()

    def begin(self, address: Address, now: float) -> None:
        """A node did not answer."""
        is_there = now - self._answered.get(host_of(address), -_ANSWERED) < _ANSWERED
        _note(self._since, format_address(address) if is_there else host_of(address), now)

    def end(self, address: Address, now: float) -> None:
        """It answered after all."""
        self._since.pop(host_of(address), None)
        self._since.pop(format_address(address), None)
        _note(self._answered, host_of(address), now)

    def holds(self, address: Address, now: float) -> bool:
        """Whether it was silent a moment ago."""
        keys = host_of(address), format_address(address)
        return any(now - self._since.get(key, -_SILENCE) < _SILENCE for key in keys)


def _note(table: OrderedDict[str, float], key: str, now: float) -> None:
    table.pop(key, None)
    table[key] = now
    if len(table) > _SILENT_NODES:
        table.popitem(last=False)


class Crowd:
    """Counts nodes outside the LAN, where many ids cost nothing: 2 per host, 8 per /24 or /48."""

    def __init__(self) -> None:
        self._hosts: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()

    def has_room(self, address: Address) -> bool:
        """Whether one more node there may be counted."""
        if is_lan(address):
            return True
        return self._hosts[host_of(address)] < _PER_HOST and self._groups[network_of(address)] < _PER_GROUP

    def add(self, address: Address) -> None:
        """Count a node."""
        if not is_lan(address):
            self._hosts[host_of(address)] += 1
            self._groups[network_of(address)] += 1

    def remove(self, address: Address) -> None:
        """A node that was counted is gone."""
        if not is_lan(address):
            _decrease(self._hosts, host_of(address))
            _decrease(self._groups, network_of(address))


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
