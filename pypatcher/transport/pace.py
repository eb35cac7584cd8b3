"""When a peer is too slow to be worth waiting for. Pure: the clock is passed in.

DESIGN "Transport and transfer": below 1 kB/s for 60 s is a stall.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["DEFAULT_STALL", "StallRule", "StallWatch"]


@dataclass(frozen=True, slots=True)
class StallRule:
    """Fewer than ``rate`` bytes a second for ``seconds`` seconds is a stall."""

    rate: float = 1000.0
    seconds: float = 60.0


DEFAULT_STALL = StallRule()


class StallWatch:
    """Watches one transfer: every ``seconds`` at least ``rate * seconds`` bytes, whatever arrives in one piece."""

    def __init__(self, rule: StallRule, clock: Callable[[], float]) -> None:
        """Start watching; ``clock`` gives monotonic seconds."""
        self._rule = rule
        self._clock = clock
        self._deadline = clock() + rule.seconds
        self._moved = 0

    def moved(self, count: int) -> None:
        """``count`` more bytes were moved."""
        self._moved += count
        if self._moved >= self._rule.rate * self._rule.seconds:
            self._moved = 0
            self._deadline = self._clock() + self._rule.seconds

    def pause(self, seconds: float) -> None:
        """Our own limits hold the transfer back for ``seconds``: that is not the peer's fault."""
        self._deadline += seconds

    def remaining(self) -> float:
        """Seconds until it is a stall; 0: it is one."""
        return max(0.0, self._deadline - self._clock())
