"""Says in the DHT what this node has, for as long as nobody has said better.

What to write and when to be silent is ``pypatcher.discovery``'s; this is the loop around it. DESIGN "Discovery".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Tracker
from pypatcher.events import Emit, RecordPublished
from pypatcher.node.schedule import Backoff, jittered

__all__ = ["Publisher"]

_LONGEST_PAUSE = 3600.0


class Publisher:
    """Publishes the release that is held, one record a minute slot.

    Args:
        addresses: our address hints, asked anew for each record.
        interval: seconds between publications.
    """

    def __init__(
        self,
        tracker: Tracker,
        addresses: Callable[[], Iterable[Address]],
        *,
        interval: float,
        emit: Emit,
        rng: random.Random,
    ) -> None:
        self._tracker = tracker
        self._addresses = addresses
        self._interval = interval
        self._emit = emit
        self._rng = rng
        self._info: PatchInfo | None = None
        self._changed = asyncio.Event()

    def announce(self, info: PatchInfo | None) -> None:
        """Publish this release from now on, at once; None publishes nothing."""
        self._info = info
        self._changed.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        crowded = Backoff(2 * self._interval, _LONGEST_PAUSE)
        while True:
            pause = self._interval
            self._changed.clear()
            if self._info is not None:
                published = await self._tracker.publish(self._info, tuple(self._addresses()))
                if published.stored:
                    self._emit(RecordPublished(str(self._info.version), published.minute, published.stored))
                if published.full or published.newer:
                    pause = crowded.fail()
                else:
                    crowded.succeed()
            try:
                await asyncio.wait_for(self._changed.wait(), jittered(pause, self._rng))
            except TimeoutError:
                continue
