"""Says when no DHT node has answered for long, and when one answers again.

A device whose network lets no UDP out keeps running its program and looks like one without news; in its log and in
``pypatcher status`` the two differ. Pure: the caller looks, and says it. Not here: joining again (``dht``).
"""

from __future__ import annotations

from pypatcher.events import DhtJoined, DhtSilent

__all__ = ["DhtMonitor"]

_EARLY_PAUSE, _PAUSE = 2.0, 10.0
_FIRST = 60.0
"""Seconds that a device has to join: its network may come up after it."""
_LATER = 1800.0
"""Seconds without an answer, once there was one; an idle node asks somebody every 11 minutes at least."""
_METERED = 13 * 3600.0
"""The same of one that asks every 6 hours."""
_NOBODY = "no DHT node answers"
_REASON = f"{_NOBODY}: is outgoing UDP blocked in this network? pypatcher netcheck tells more"
_ONE_FAMILY = "{nobody} over IPv{family}, the only one that this node can use here: pypatcher netcheck tells more"


class DhtMonitor:
    """Told now and then when a DHT node last answered. Times are monotonic seconds.

    Args:
        since: when this node began.
        only_family: 4 or 6 if a socket of the other one was wanted and could not be had: that may be what is missing.
        is_metered: it asks seldom.
    """

    def __init__(self, since: float, *, only_family: int | None = None, is_metered: bool = False) -> None:
        self._longest = _METERED if is_metered else _LATER
        self._reason = _REASON if only_family is None else _ONE_FAMILY.format(nobody=_NOBODY, family=only_family)
        self._since = since
        self._reached: bool | None = None

    @property
    def pause(self) -> float:
        """Seconds until the next look makes sense."""
        return _EARLY_PAUSE if self._reached is None else _PAUSE

    def look(self, last_answer: float | None, now: float) -> DhtJoined | DhtSilent | None:
        """What is to be said now; ``last_answer`` is None before the first."""
        silence = now - (self._since if last_answer is None else last_answer)
        before = self._reached
        if last_answer is not None and silence < self._longest:
            self._reached = True
            return None if before else DhtJoined()
        if silence >= _FIRST and before is not False:
            self._reached = False
            return DhtSilent(round(silence), self._reason)
        return None
