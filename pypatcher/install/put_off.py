"""Which staged release is no reason for a restart, because this process's own start had to put its activation off.

Restarting for it again and again would be a loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection

from pypatcher.install.instances import Instance
from pypatcher.install.local_release import LocalRelease
from pypatcher.install.reconcile import Settled

__all__ = ["PutOff"]

_TRY_AGAIN = 3600.0
"""Where the folders could not be used at all."""
_TRY_AGAIN_TOGETHER = 900.0
"""Where others were ready to end and did not; an ``on_restart`` callback may take 10 minutes."""


class PutOff:
    """What the last start put off, and until when."""

    def __init__(self) -> None:
        self._release: LocalRelease | None = None
        self._until = math.inf

    def note(self, settled: Settled, others: Collection[Instance], staged: Callable[[], LocalRelease | None]) -> None:
        """A start settled beside these other instances. Those that are not ready yet will be: that is no loop."""
        waits = settled.waits and any(not one.ready for one in others)
        self._release = staged() if (settled.put_off or settled.row == 0) and not waits else None
        self._until = math.inf
        if settled.row == 0:
            self._until = time.monotonic() + _TRY_AGAIN
        elif settled.waits and others:
            self._until = time.monotonic() + _TRY_AGAIN_TOGETHER

    def covers(self, release: LocalRelease) -> bool:
        """Whether it is that very release; a newer one is a reason."""
        put_off = self._release
        return put_off is not None and release.sha512 == put_off.sha512 and time.monotonic() < self._until
