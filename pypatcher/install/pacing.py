"""How often a unit's program is started: once in five seconds, whatever ended it (design.md "Restart").

systemd's own pause, ``RestartSec``, is the same for an update and for a crash, and an update should cost no time. So it
is short, and the guard waits if the last start was a moment ago. The time of the last start is the modification time of
the file ``lock``, which nothing else changes: no further file, and nothing to sync. Not here: counting starts.
"""

from __future__ import annotations

import time

from pypatcher.errors import PatcherError
from pypatcher.install.layout import Layout
from pypatcher.install.state_folder import StateFolder, open_folders

__all__ = ["START_INTERVAL", "time_until_start"]

START_INTERVAL = 5.0
"""Seconds between two starts."""


def time_until_start(layout: Layout) -> float:
    """Seconds that a start has to wait for, 0 where the last one is long ago or unknown; it counts as a start."""
    try:
        with open_folders(layout, StateFolder.IF_THERE) as files:
            found, now = files.stat(layout.lock), time.time()
            if found is None or not found.regular:
                return 0.0
            since = now - found.mtime_ns / 1e9
            pause = START_INTERVAL - since if 0 <= since < START_INTERVAL else 0.0  # the clock may have been set
            files.set_time(layout.lock, now + pause)
            return pause
    except (OSError, PatcherError):
        return 0.0
