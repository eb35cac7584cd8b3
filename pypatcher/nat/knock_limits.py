"""How many knocks there may be in how much time, of whatever is counted together.

Pure; times are monotonic seconds. Which limits a knock has is the dialer's to say.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from pypatcher.bounded import bound

__all__ = ["KnockBudget", "KnockLimit"]


@dataclass(frozen=True, slots=True)
class KnockLimit:
    """At most ``most`` knocks in ``seconds``, of those that share ``key``."""

    key: object
    most: int
    seconds: float


class KnockBudget:
    """The knocks of one node, counted in windows that move with time; 4096 keys are remembered."""

    def __init__(self) -> None:
        self._times: OrderedDict[object, list[float]] = OrderedDict()

    def allows(self, limits: Sequence[KnockLimit], now: float) -> bool:
        """Whether one more knock keeps within all of them."""
        return all(len(self._recent(limit, now)) < limit.most for limit in limits)

    def count(self, limits: Sequence[KnockLimit], now: float) -> None:
        """There is one now."""
        for limit in limits:
            self._recent(limit, now).append(now)
            self._times.move_to_end(limit.key)
        bound(self._times)

    def _recent(self, limit: KnockLimit, now: float) -> list[float]:
        times = self._times.setdefault(limit.key, [])
        while times and times[0] <= now - limit.seconds:
            times.pop(0)
        return times
