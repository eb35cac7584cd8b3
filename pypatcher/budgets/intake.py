"""How fast, and how much in a day, one node takes from outside the LAN: all its fetches together.

For lines that are narrow or paid for by the byte. Pure: a clock is passed in, waiting is the caller's. What is not read
is not sent either, for a peer may be only some way ahead of its reader. Not here: from whom is fetched.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from pypatcher.addresses import Address, is_lan
from pypatcher.limits import DaySums, Pace

__all__ = ["Intake"]

_log = logging.getLogger("pypatcher")
_BURST_SECONDS = 0.25
_ALL = ("all",)
_AGAIN = 600.0


class Intake:
    """The limits of one node's downloads; none unless told.

    Args:
        rate: bytes a second.
        day: bytes in any 24 hours of this run: no fetch begins once they are used up, and the one that is under way
            then goes on to its end, for what it has would else be fetched again.
        clock: monotonic seconds.
    """

    def __init__(
        self, rate: int | None = None, day: int | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._day = day
        self._clock = clock
        self._pace = None if rate is None else Pace(rate, _BURST_SECONDS, clock())
        self._taken = DaySums()
        self._is_said = False

    def took(self, count: int, address: Address) -> float:
        """So many bytes came from there; returns the seconds to wait before more are read."""
        if is_lan(address):
            return 0.0
        now = self._clock()
        if self._day is not None:
            self._taken.add(_ALL, count, now)
        if self._pace is None:
            return 0.0
        # What came is paid at once: whoever reads next waits for it, whichever fetch it is of.
        self._pace.spend(count, now)
        return self._pace.spend(0, now)

    def wait(self, address: Address) -> float:
        """Seconds until a fetch from there may begin, or until that should be asked again; 0 is at once."""
        if self._day is None or is_lan(address):
            return 0.0
        is_used_up = self._taken.total(_ALL, self._clock())["all"] >= self._day
        if is_used_up and not self._is_said:
            _log.warning("no release is fetched from outside the LAN: the day's %d bytes are used up", self._day)
        self._is_said = is_used_up
        return _AGAIN if is_used_up else 0.0
