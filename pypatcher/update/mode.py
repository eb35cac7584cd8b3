"""The updater's modes (Now, OnRestart, At), and how long each waits until a staged release may take over.

Pure: the clock and the randomness are arguments. Not here: whether a release is staged (``activation``). design.md
"Staging, activating, restarting, going back".
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from pypatcher.errors import SettingError

__all__ = ["At", "Mode", "Now", "OnRestart", "RestartAlarm", "UpdaterMode", "next_local", "parse_mode"]

_RESTART_JITTER = 300.0
_POLL = 30.0
_JUMP = 60.0


@dataclass(frozen=True, slots=True)
class Now:
    """Restart as soon as a release is staged."""

    def __str__(self) -> str:
        return "now"


@dataclass(frozen=True, slots=True)
class OnRestart:
    """Never restart by ourselves; a staged release is activated at the next start."""

    def __str__(self) -> str:
        return "on-restart"


@dataclass(frozen=True, slots=True)
class At:
    """Restart at this local time, plus up to 5 minutes of jitter, once a release is staged.

    Raises:
        SettingError: there is no such time of day.
    """

    hour: int
    minute: int

    def __post_init__(self) -> None:
        if not (0 <= self.hour <= 23 and 0 <= self.minute <= 59):
            raise SettingError(f"{self.hour}:{self.minute:02} is no time of day: hours are 0 to 23, minutes 0 to 59")

    def __str__(self) -> str:
        return f"at={self.hour:02}:{self.minute:02}"


Mode: TypeAlias = Now | OnRestart | At


class UpdaterMode:
    """When a staged release takes over: ``UpdaterMode.Now``, ``.OnRestart`` or ``.At(hour, minute)``."""

    Now: ClassVar[Mode] = Now()
    OnRestart: ClassVar[Mode] = OnRestart()
    At: ClassVar[type[At]] = At


def parse_mode(text: str) -> Mode:
    """Read ``now``, ``on-restart`` or ``at=HH:MM``.

    Raises:
        SettingError: anything else.
    """
    if text == "now":
        return Now()
    if text == "on-restart":
        return OnRestart()
    hour, colon, minute = text.removeprefix("at=").partition(":")
    if text.startswith("at=") and colon and hour.isdecimal() and minute.isdecimal() and text.isascii():
        return At(int(hour), int(minute))
    raise SettingError(f"{text!r} is no mode: choose now, on-restart or at=HH:MM")


class RestartAlarm:
    """Says when a staged release may take over. Ask ``wait``, sleep that long, ask again until it says 0.

    ``At`` means the next local HH:MM to come, plus jitter that is drawn once. A wall clock that jumps (NTP, a
    person) is noticed against the monotonic one and the next HH:MM is found anew, so that a jump never counts as
    the time having come. An HH:MM that a DST change skips falls where ``mktime`` puts it.
    """

    def __init__(self, mode: Mode, rng: random.Random) -> None:
        self._mode = mode
        self._jitter = rng.uniform(0, _RESTART_JITTER)
        self._moment: float | None = None
        self._offset = 0.0

    def wait(self, wall: float, monotonic: float) -> float | None:
        """Seconds to sleep before asking again, 0 when it is time, None when only the next start activates.

        Args:
            wall: unix time.
            monotonic: a clock that never jumps, seconds.
        """
        match self._mode:
            case Now():
                return 0.0
            case OnRestart():
                return None
            case At(hour, minute):
                jumped = abs(wall - monotonic - self._offset) > _JUMP
                if self._moment is None or jumped:
                    self._moment = next_local(hour, minute, wall) + self._jitter
                self._offset = wall - monotonic
                return max(0.0, min(_POLL, self._moment - wall))


def next_local(hour: int, minute: int, now: float) -> float:
    """The next local time HH:MM after ``now``, both unix time."""
    local = time.localtime(now)
    days = (
        time.mktime((local.tm_year, local.tm_mon, local.tm_mday + day, hour, minute, 0, 0, 0, -1)) for day in range(3)
    )
    return next(moment for moment in days if moment > now)
