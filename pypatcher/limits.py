"""The rate limiters of the whole node: token buckets, windows that move with time, sums of a day, and a pace.

Pure, in bounded memory; times are monotonic seconds and are passed in. What is limited, and by which key, is said
where the limit is used; what counts as one host or one network is said in ``addresses``.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from pypatcher.bounded import TABLE_LIMIT, bound

__all__ = ["DaySums", "Limit", "Pace", "RateLimiter", "WindowLimiter"]

_DAY = 86400.0
_SHARES = 24


class RateLimiter:
    """One token bucket per key: ``burst`` at once, ``rate`` a second, the ``capacity`` most recent keys remembered."""

    def __init__(self, rate: float, burst: float, capacity: int = 2048) -> None:
        self._rate = rate
        self._burst = burst
        self._capacity = capacity
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def allow(self, key: Hashable, now: float, cost: float = 1.0) -> bool:
        """Whether ``cost`` more is allowed; if so it is counted."""
        level, then = self._buckets.pop(key, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        allowed = level >= cost
        self._buckets[key] = (level - cost if allowed else level, now)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return allowed


@dataclass(frozen=True, slots=True)
class Limit:
    """At most ``most`` events in ``seconds``, of those that share ``key``."""

    key: Hashable
    most: int
    seconds: float


class WindowLimiter:
    """Events counted in windows that move with time; 4096 keys are remembered."""

    def __init__(self) -> None:
        self._times: OrderedDict[Hashable, deque[float]] = OrderedDict()

    def allows(self, limits: Sequence[Limit], now: float) -> bool:
        """Whether one more event keeps within all ``limits``."""
        return self.wait(limits, now) <= 0.0

    def wait(self, limits: Sequence[Limit], now: float) -> float:
        """Seconds until one more event keeps within all ``limits``; 0 is at once."""
        recent = ((limit, self._recent(limit, now)) for limit in limits)
        return max((times[0] + limit.seconds - now for limit, times in recent if len(times) >= limit.most), default=0.0)

    def count(self, limits: Sequence[Limit], now: float) -> None:
        """Count one event now, for each of ``limits``."""
        for limit in limits:
            self._times.setdefault(limit.key, deque()).append(now)
            self._times.move_to_end(limit.key)
        bound(self._times)

    def allow(self, limit: Limit, now: float) -> bool:
        """Whether one more event keeps within ``limit``; if so it is counted."""
        if not self.allows([limit], now):
            return False
        self.count([limit], now)
        return True

    def _recent(self, limit: Limit, now: float) -> deque[float]:
        times = self._times.get(limit.key, deque())
        while times and times[0] <= now - limit.seconds:
            times.popleft()
        return times


class DaySums:
    """How much was spent in the last 24 hours by each key; the oldest hour is forgotten as a whole.

    4096 keys are told apart in all hours together, and as many more of each coarser kind.
    """

    def __init__(self) -> None:
        self._sums: deque[tuple[float, Counter[str]]] = deque()

    def add(self, keys: Iterable[str], amount: int, now: float) -> None:
        """Each of ``keys`` spent ``amount`` more; the finest key comes first, and is the first to be left out."""
        if not self._sums or now - self._sums[-1][0] > _DAY / _SHARES:
            self._forget(now)
            self._sums.append((now, Counter()))
        known, newest = sum(len(share) for _, share in self._sums), self._sums[-1][1]
        for coarseness, key in enumerate(keys, 1):
            if key in newest or known < coarseness * TABLE_LIMIT:
                newest[key] += amount

    def take_back(self, keys: Iterable[str], amount: int) -> None:
        """Each of ``keys`` spent so much less, of what it spent last; who spent nothing takes no memory."""
        for key in keys:
            left = amount
            for _, share in reversed(self._sums):
                back = min(left, share[key])
                left -= back
                share[key] -= back
                if not share[key]:
                    del share[key]

    def total(self, keys: Iterable[str], now: float) -> Counter[str]:
        """What each of ``keys`` spent."""
        self._forget(now)
        return Counter({key: sum(share[key] for _, share in self._sums) for key in keys})

    def _forget(self, now: float) -> None:
        while self._sums and self._sums[0][0] <= now - _DAY:
            self._sums.popleft()


class Pace:
    """Bytes at an even ``rate`` a second, ahead of it by ``burst`` seconds at most; waiting is the caller's."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._free_at = rate, burst, now

    def spend(self, count: int, now: float) -> float:
        """Account for ``count`` bytes; returns the seconds to wait before sending them."""
        delay = max(0.0, self._free_at - now - self._burst)
        self._free_at = max(now, self._free_at) + count / self._rate
        return delay

    def give_back(self, count: int) -> None:
        """So many bytes that were accounted for are not sent: whoever asks next waits that much less."""
        self._free_at -= count / self._rate
