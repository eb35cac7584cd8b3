"""Says when no DHT node has answered for long, and when one answers again.

A device whose network lets no UDP out keeps running its program and looks like one without news; in its log and in
``pypatcher status`` the two differ. Sends nothing; not here: joining again (``dht``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pypatcher.events import DhtJoined, DhtSilent, Emit

__all__ = ["DhtMonitor"]

_EARLY_PAUSE, _PAUSE = 2.0, 10.0
_FIRST = 60.0
"""Seconds that a device has to join: its network may come up after it."""
_LATER = 1800.0
"""Seconds without an answer, once there was one; an idle node asks somebody every 11 minutes at least."""
_NOBODY = "no DHT node answers"
_REASON = f"{_NOBODY}: is outgoing UDP blocked in this network? pypatcher netcheck tells more"
_ONE_FAMILY = "{nobody} over IPv{family}, the only one that this node can use here: pypatcher netcheck tells more"


class DhtMonitor:
    """Watches when DHT nodes answer.

    Args:
        last_answer: when one last did, by ``clock``; None before the first.
        clock: monotonic seconds.
        only_family: 4 or 6 if a socket of the other one was wanted and could not be had: that may be what is missing.
    """

    def __init__(
        self,
        last_answer: Callable[[], float | None],
        *,
        emit: Emit,
        clock: Callable[[], float],
        only_family: int | None = None,
    ) -> None:
        self._reason = _REASON if only_family is None else _ONE_FAMILY.format(nobody=_NOBODY, family=only_family)
        self._last_answer = last_answer
        self._emit = emit
        self._clock = clock
        self._since = clock()
        self._reached: bool | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_EARLY_PAUSE if self._reached is None else _PAUSE)

    def look(self) -> None:
        """Look once."""
        last, now = self._last_answer(), self._clock()
        silence = now - (self._since if last is None else last)
        if last is not None and silence < _LATER:
            if not self._reached:
                self._emit(DhtJoined())
            self._reached = True
        elif silence >= _FIRST and self._reached is not False:
            self._emit(DhtSilent(round(silence), self._reason))
            self._reached = False
