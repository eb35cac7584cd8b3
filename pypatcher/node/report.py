"""What a node says about itself to ``pypatcher status``: when it last looked, what last went wrong, what it lacks.

Kept beside the program, in ``node.json`` of its state folder, where a person at the device finds it whatever user and
cache folder the service has. It is written seldom, because cards wear out, and never read by a node: nothing is
decided from it. What is read is bounded and may be damaged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pypatcher.events import (
    DhtJoined,
    DhtSilent,
    Emit,
    Event,
    FetchFailed,
    FetchStarted,
    NodeStarted,
    PreflightFailed,
    ReleaseRefused,
    ReleaseStaged,
)

__all__ = ["REPORT_LIMIT", "NodeReport", "Report", "decode_report", "encode_report"]

REPORT_LIMIT = 16384
"""Bytes of the file at most."""

_TEXT_LIMIT = 500
_EVERY = 3600.0
_AFTER_NEWS = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """The account. Times are unix seconds by the device's clock, 0 for never; texts are one line or empty.

    Attributes:
        started: when the node started.
        written: when this was written: what happened since is not in it.
        looked: the last look for releases.
        heard: how many peers with a release that look found.
        error: the last failure of a fetch or release, and when.
        blocked: why this device could not take a release when it last tried; empty since it could.
        silent: since when no DHT node answers, 0 once one does.
    """

    started: float = 0.0
    written: float = 0.0
    looked: float = 0.0
    heard: int = 0
    error: str = ""
    error_time: float = 0.0
    blocked: str = ""
    silent: float = 0.0


class NodeReport:
    """Follows a node's events and says when its report is worth writing; ``now`` is unix time, ``clock`` monotonic."""

    def __init__(self, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._clock = clock
        self._report = Report(started=now())
        self._news = True
        self._written: float | None = None

    def listening(self, emit: Emit) -> Emit:
        """``emit``, with this report hearing it all."""

        def say(event: Event) -> None:
            self.note(event)
            emit(event)

        return say

    def note(self, event: Event) -> None:
        """Keep what a person would ask for."""
        before = self._report
        match event:
            case NodeStarted():
                self._report = replace(before, started=self._now())
            case FetchFailed() | ReleaseRefused():
                self._report = replace(before, error=_line(str(event)), error_time=self._now())
            case PreflightFailed():
                self._report = replace(before, blocked=_line(event.reason))
            case FetchStarted() | ReleaseStaged():
                self._report = replace(before, blocked="")
            case DhtSilent():
                self._report = replace(before, silent=self._now() - event.seconds)
            case DhtJoined():
                self._report = replace(before, silent=0.0)
            case _:
                return
        self._news = self._news or _troubles(before) != _troubles(self._report)

    def looked(self, heard: int) -> None:
        """A look for releases ended."""
        self._news = self._news or not self._report.looked
        self._report = replace(self._report, looked=self._now(), heard=heard)

    def due(self) -> bool:
        """Whether it should be written now: a minute after news, else once an hour."""
        if self._written is None:
            return bool(self._report.looked or any(_troubles(self._report)))
        return self._clock() - self._written >= (_AFTER_NEWS if self._news else _EVERY)

    def take(self) -> bytes:
        """The file's bytes; counts as written."""
        self._news, self._written = False, self._clock()
        return encode_report(replace(self._report, written=self._now()))


def encode_report(report: Report) -> bytes:
    """The file's bytes: a JSON object of ASCII."""
    return json.dumps({"format": 1, **asdict(report)}).encode("ascii") + b"\n"


def decode_report(data: bytes) -> Report | None:
    """Read the file; None when it is absent, damaged or of another format."""
    if len(data) > REPORT_LIMIT:
        return None
    try:
        table = json.loads(data)
        if table["format"] != 1:
            return None
        return Report(
            started=_time(table["started"]),
            written=_time(table["written"]),
            looked=_time(table["looked"]),
            heard=int(_time(table["heard"])),
            error=_line(table["error"]),
            error_time=_time(table["error_time"]),
            blocked=_line(table["blocked"]),
            silent=_time(table["silent"]),
        )
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def _troubles(report: Report) -> tuple[str, str, bool]:
    return report.error, report.blocked, bool(report.silent)


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return "".join(character if character.isprintable() else "?" for character in value[:_TEXT_LIMIT])


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        raise TypeError("a time was expected")
    return float(value)
