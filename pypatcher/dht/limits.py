"""How often a source may be answered and a destination asked, who is silent, how many nodes a place may have.

Pure, in bounded memory; time is passed in. libtorrent bans an address for 5 minutes after 50 packets within 10 s, so
nobody of ours may send that many, whatever a hostile node tells it to ask.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Hashable
from functools import lru_cache

from pypatcher.addresses import Address, budget_group, is_lan

__all__ = ["Crowd", "RateLimiter", "Silence", "is_near", "limit_key"]

_PER_HOST, _PER_GROUP = 2, 8
_SILENT_NODES, _SILENCE = 512, 120.0


def limit_key(address: Address) -> Hashable:
    """What is counted: the host, or in a LAN and on loopback, where nodes share hosts, host and port."""
    return address if is_near(address) else address[0]


def is_near(address: Address) -> bool:
    """Whether the address is in the LAN or on this machine; remembered, since lookups ask often."""
    return _place(address[0])[0]


class RateLimiter:
    """One token bucket a key: ``burst`` at once, ``rate`` a second, the ``capacity`` most recent keys remembered."""

    def __init__(self, rate: float, burst: float, capacity: int = 2048) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allow(self, key: Hashable, now: float, cost: float = 1.0) -> bool:
        """Whether ``cost`` more is allowed at ``now`` (seconds, monotonic); if so it is counted."""
        level, then = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= cost
        self._buckets[key] = (level - cost if allowed else level, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return allowed


class Silence:
    """Remembers who did not answer within the last 2 minutes, 512 of them at most.

    Away from the LAN that is a host: who names a hundred ports of one has named one.
    """

    def __init__(self) -> None:
        self._since: OrderedDict[Hashable, float] = OrderedDict()

    def begin(self, address: Address, now: float) -> None:
        """A node did not answer."""
        key = limit_key(address)
        self._since.pop(key, None)
        self._since[key] = now
        if len(self._since) > _SILENT_NODES:
            self._since.popitem(last=False)

    def end(self, address: Address) -> None:
        """It answered after all."""
        self._since.pop(limit_key(address), None)

    def holds(self, address: Address, now: float) -> bool:
        """Whether it was silent a moment ago."""
        since = self._since.get(limit_key(address))
        return since is not None and now - since < _SILENCE


class Crowd:
    """Counts nodes by place: away from the LAN, where a crowd of ids is cheap, 2 a host and 8 a /24 (or /48)."""

    def __init__(self) -> None:
        self._hosts: Counter[str] = Counter()
        self._groups: Counter[str] = Counter()

    def has_room(self, address: Address) -> bool:
        """Whether one more node there may be counted."""
        near, group = _place(address[0])
        return near or (self._hosts[address[0]] < _PER_HOST and self._groups[group] < _PER_GROUP)

    def add(self, address: Address) -> None:
        """Count a node."""
        near, group = _place(address[0])
        if not near:
            self._hosts[address[0]] += 1
            self._groups[group] += 1

    def remove(self, address: Address) -> None:
        """A node that was counted is gone."""
        near, group = _place(address[0])
        if not near:
            _decrease(self._hosts, address[0])
            _decrease(self._groups, group)


@lru_cache(maxsize=4096)
def _place(host: str) -> tuple[bool, str]:
    return is_lan((host, 0)), budget_group((host, 0))


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
