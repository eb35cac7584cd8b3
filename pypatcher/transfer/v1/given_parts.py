"""Which parts of a release were given, or are being given: who takes of it asks for others first.

Of those that take from one holder most do not know each other: each would ask it for a fair part of what another has
just got, and the holder's line would bring less that is new. protocol.md "From several peers". Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from pypatcher.transfer.v1.messages import PARTS
from pypatcher.transfer.v1.plan import parts_of

__all__ = ["GivenParts"]

_FORGOTTEN = 60.0
"""Seconds without a request after which it is another day's: whoever took it may be gone."""


class GivenParts:
    """Of one release.

    Attributes:
        bits: one for each part, the first the highest.
    """

    def __init__(self, file_size: int) -> None:
        self._size = file_size
        self._asked_at = 0.0
        self.bits = 0

    def note(self, ranges: Iterable[tuple[int, int]], now: float) -> None:
        """These bytes are asked for; a part is given by its middle, or by what lies in it alone."""
        if now - self._asked_at >= _FORGOTTEN:
            self.bits = 0
        self._asked_at = now
        for offset, size in ranges:
            parts = parts_of(offset, size, self._size)
            for part in parts:
                middle = (2 * part + 1) * self._size // (2 * PARTS)
                if len(parts) == 1 or offset <= middle < offset + size:
                    self.bits |= 1 << (PARTS - 1 - part)
        if self.bits == (1 << PARTS) - 1:
            # All of it was given: what is given from now on is another copy, be it of other parts first.
            self.bits = 0

    def bitmap(self) -> bytes:
        """As HELLO tells them."""
        return self.bits.to_bytes(PARTS // 8, "big")
