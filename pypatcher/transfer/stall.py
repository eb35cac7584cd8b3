"""How long to wait for a peer: the stall rule of transfers, whose clock is passed in, and a limit for short answers.

design.md "Transport and transfer". Not here: what happens to a peer that stalls.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from pypatcher.budgets.intake import Intake
from pypatcher.errors import PeerError

__all__ = ["DEFAULT_STALL", "StallRule", "StallWatch", "StalledError", "answer_time"]

_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class StallRule:
    """Fewer than ``rate`` bytes a second for ``seconds`` seconds is a stall, unless we hold the bytes back."""

    rate: float = 1000.0
    seconds: float = 60.0
    intake: Intake | None = None


DEFAULT_STALL = StallRule()


class StallWatch:
    """Watches one transfer: every ``seconds`` at least ``rate * seconds`` bytes, whatever arrives in one piece."""

    def __init__(self, rule: StallRule, clock: Callable[[], float]) -> None:
        """Start watching; ``clock`` gives monotonic seconds."""
        self._rule = rule
        self._clock = clock
        self._deadline = clock() + rule.seconds
        self._moved = 0

    @property
    def intake(self) -> Intake | None:
        """Our own limits of what is taken; None where there are none."""
        return self._rule.intake

    def progressed(self, count: int) -> None:
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


class StalledError(PeerError):
    """The peer stalled; a class of its own, so that the peer can be told why."""


@contextlib.asynccontextmanager
async def answer_time() -> AsyncIterator[None]:
    """Give a peer 15 seconds for a few bytes.

    Raises:
        PeerError: they were over.
    """
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            yield
    except TimeoutError:
        raise PeerError(f"the peer was silent for {_ANSWER_SECONDS:g} s") from None
