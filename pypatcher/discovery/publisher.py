"""Publishes our release in the DHT again and again, more rarely while enough others say the same.

The loop with its intervals and pauses. Not here: what is written, and when to be silent (``tracker``). design.md
"Discovery".
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from pypatcher.artifact import PatchInfo
from pypatcher.backoff import Backoff, jittered
from pypatcher.discovery.tracker import Published
from pypatcher.events import Emit, RecordPublished
from pypatcher.waiting import wait_at_most

__all__ = ["Publisher"]

_LONGEST_PAUSE = 3600.0
_FIRST_RETRY = 2.0


class Publisher:
    """Publishes the release that is held, one record per minute slot.

    Args:
        publish: writes one record.
        interval: seconds between publications; after one that reached nobody it begins at 2 s and doubles.
        rest: the least pause after one that reached somebody, where few need the records; by the seconds since this
            release was first said.
    """

    def __init__(
        self,
        publish: Callable[[PatchInfo], Awaitable[Published]],
        *,
        interval: float,
        emit: Emit,
        rng: random.Random,
        rest: Callable[[float], float] = lambda _: 0.0,
    ) -> None:
        self._rest = rest
        self._publish = publish
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
        unheard = Backoff(min(_FIRST_RETRY, self._interval), self._interval)
        clock = asyncio.get_running_loop().time
        info, since = None, clock()
        while True:
            if info != self._info:
                info, since = self._info, clock()
            pause = self._interval
            self._changed.clear()
            if (info := self._info) is not None:  # another one may be announced meanwhile, or none
                published = await self._publish(info)
                if published.stored:
                    self._emit(RecordPublished(str(info.version), published.minute, published.stored))
                if published.full or published.newer:
                    pause = crowded.fail()
                elif published.stored:
                    crowded.succeed()
                    unheard.succeed()
                else:
                    pause = unheard.fail()
                if published.stored or published.full or published.newer:
                    pause = max(pause, self._rest(clock() - since))
            await wait_at_most(self._changed, jittered(pause, self._rng))
