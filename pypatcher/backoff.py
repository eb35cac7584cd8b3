"""How long to pause: a jitter of a tenth for what is repeated, and pauses that grow while something fails.

Pure: the randomness is an argument, and who waits is the caller.
"""

from __future__ import annotations

import random

__all__ = ["JITTER", "Backoff", "jittered"]

JITTER = 0.1
"""The part of an interval by which it may be shorter or longer."""


def jittered(seconds: float, rng: random.Random) -> float:
    """The interval, give or take a tenth: devices that were powered up together drift apart."""
    return seconds * rng.uniform(1 - JITTER, 1 + JITTER)


class Backoff:
    """A pause that doubles at every failure, from ``first`` to ``limit`` seconds, and starts over on success."""

    def __init__(self, first: float, limit: float) -> None:
        self._first = first
        self._limit = limit
        self._pause = 0.0

    def fail(self) -> float:
        """Count a failure; returns the seconds to wait."""
        self._pause = min(self._pause * 2 or self._first, self._limit)
        return self._pause

    def succeed(self) -> None:
        """Start over."""
        self._pause = 0.0
