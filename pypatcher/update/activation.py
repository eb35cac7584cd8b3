"""Waits for the moment at which a staged release takes over: the mode's time, never during a trial, and together with
the other instances of the program.

One coroutine in the node's loop, for ``spawn`` and ``run`` alike. Not here: which moment a mode means (``mode``), and
the restart itself, which is the caller's. design.md "Staging, activating, restarting, going back".
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Collection

from pypatcher.events import RestartWaits
from pypatcher.install import Installation
from pypatcher.update.mode import Mode, RestartAlarm
from pypatcher.waiting import wait_at_most

__all__ = ["Activation"]

_LOOK_AGAIN = 60.0
_LOOK_AT_OTHERS = 1.0
_PATIENCE_WITH_OTHERS = 600.0
"""Their looks come once a minute, and the moments of a mode within 5 minutes."""


class Activation:
    """Waits for a staged release and for its time.

    Args:
        restart: restarts the program into the version given, or explains why the next start will; False if it can do
            neither now, and is to be asked again.
        say_waits: told when other instances keep a release waiting; None if this one cannot restart by itself.
        wall: unix time; it may jump.
        monotonic: seconds that never jump.
    """

    def __init__(
        self,
        mode: Mode,
        installation: Installation,
        restart: Callable[[str], Awaitable[bool]],
        say_waits: Callable[[RestartWaits], None] | None = None,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self._mode = mode
        self._installation = installation
        self._restart = restart
        self._say_waits = say_waits
        self._wall = wall
        self._monotonic = monotonic
        self._rng = rng or random.Random()  # noqa: S311 - jitter
        self._changed = asyncio.Event()
        self._on_trial = False
        self._seen: str | None = None

    def look_again(self) -> None:
        """A release was staged, or a trial ended."""
        self._changed.set()

    async def run(self) -> None:
        """Restart when it is time, for every release that comes, until cancelled."""
        self._changed.set()  # what an earlier call of this heard may be undone
        while True:
            if not await wait_at_most(self._changed, _LOOK_AGAIN) and not await self._others_changed_it():
                continue
            self._changed.clear()
            version = self._seen = await asyncio.to_thread(self._waiting_version)
            if version is not None and await self._time_has_come():
                if not await self._others_are_ready(version):
                    self._seen = None
                    continue
                # A newer one may have been staged meanwhile, which will be activated, or the owner holds this one now.
                newest = await asyncio.to_thread(self._waiting_version)
                if newest is None or not await self._restart(newest):
                    self._seen = None
                    if self._say_waits is not None:
                        await asyncio.to_thread(self._installation.together.withdraw)

    async def _others_changed_it(self) -> bool:
        """Whether a trial that was on has ended, or another release is staged: `confirm` and `stage` do not tell us."""
        before, self._on_trial = self._on_trial, await asyncio.to_thread(self._installation.on_trial)
        staged = await asyncio.to_thread(self._waiting_version)
        return (before and not self._on_trial) or staged not in (None, self._seen)

    async def _others_are_ready(self, version: str) -> bool:
        """Wait for the other instances; False if their time does not come, so that ours has to come again."""
        if self._say_waits is None:
            return True
        deadline = self._monotonic() + _PATIENCE_WITH_OTHERS
        while pids := await asyncio.to_thread(self._installation.together.say_ready):
            if self._monotonic() >= deadline:
                await asyncio.to_thread(self._installation.together.withdraw)
                self._say_waits(RestartWaits(version, _others_run(pids)))
                return False
            await asyncio.sleep(_LOOK_AT_OTHERS)
        return True

    def _waiting_version(self) -> str | None:
        staged = self._installation.release_for_restart()
        return None if staged is None else str(staged.info.version)

    async def _time_has_come(self) -> bool:
        alarm = RestartAlarm(self._mode, self._rng)
        while (wait := alarm.wait(self._wall(), self._monotonic())) is not None:
            if wait <= 0.0:
                return True
            await asyncio.sleep(wait)
        return False


def _others_run(pids: Collection[int]) -> str:
    which = ", ".join(str(pid) for pid in sorted(pids) if pid) or "of another container"
    return f"the program runs {len(pids)} times more, and it changes when all restart: restart or stop process {which}"
