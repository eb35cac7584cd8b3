"""Which nodes did not answer lately, and how many nodes one host or network may have in a table or lookup.

Pure, in bounded memory; time is passed in. Not here: whom to ask (``routing``, ``lookup``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict

from pypatcher.addresses import Address, host_of, is_lan, network_of

__all__ = ["Crowd", "Silence"]

_PER_HOST, _PER_GROUP = 2, 8
_SILENT_NODES, _SILENCE = 512, 120.0


class Silence:
    """Remembers the hosts that lately did not answer, a bounded number of them.

    Away from the LAN that is a host (of IPv6 a /64): who names a hundred ports of one has named one.
    """

    def __init__(self) -> None:
        self._since: OrderedDict[str, float] = OrderedDict()

    def begin(self, address: Address, now: float) -> None:
        """A node did not answer."""
        key = host_of(address)
        self._since.pop(key, None)
        self._since[key] = now
        if len(self._since) > _SILENT_NODES:
            self._since.popitem(last=False)

    def end(self, address: Address) -> None:
        """It answered after all."""
        self._since.pop(host_of(address), None)

    def holds(self, address: Address, now: float) -> bool:
        """Whether it was silent a moment ago."""
        since = self._since.get(host_of(address))
        return since is not None and now - since < _SILENCE


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
