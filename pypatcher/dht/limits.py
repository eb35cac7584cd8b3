"""How often a source may be answered and a destination asked: token buckets in bounded memory.

Pure; time is passed in. libtorrent bans an address for 5 minutes after 50 packets within 10 s, so nobody of ours may
send that many, whatever a hostile node tells it to ask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from pypatcher.addresses import Address, is_lan

__all__ = ["RateLimiter", "limit_key"]


def limit_key(address: Address) -> Hashable:
    """What is counted: the host, or in a LAN and on loopback, where nodes share hosts, host and port."""
    return address if is_lan(address) else address[0]


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
