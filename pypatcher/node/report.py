"""What a node says about itself to ``pypatcher status``: when it last looked, what last went wrong, what it lacks.

Kept beside the program, in ``node.json`` of its state folder, where a person at the device finds it whatever user and
cache folder the service has. It is written when there is news and once a minute, never synced, because cards wear
out, and never read by a node: nothing is decided from it. What is read is bounded and may be damaged.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pypatcher.errors import PatcherError
from pypatcher.events import (
    ClockDiffers,
    DhtJoined,
    DhtSilent,
    Event,
    FetchFailed,
    FetchStarted,
    NodeStarted,
    PreflightFailed,
    ReleaseConflicts,
    ReleaseFound,
    ReleaseRefused,
    ReleaseStaged,
    RestartWaits,
)
from pypatcher.install import CANNOT_BE_UPDATED, Installation

__all__ = ["REPORT_LIMIT", "NodeReport", "Report", "decode_report", "encode_report", "report_obstacle"]

REPORT_LIMIT = 16384
"""Bytes of the file at most."""

_TEXT_LIMIT = 300
_EVERY = 60.0


@dataclass(frozen=True, slots=True)
class Report:
    """The account. Times are unix seconds by the device's clock, 0 for never; texts are one line or empty.

    Attributes:
        started: when the node started.
        written: when this was written: what happened since is not in it.
        looked: when somebody last answered who would have named what is new, or a look into the slots ended.
        heard: how many peers with a release the last look into the slots found.
        error: the last failure of a fetch or release, and when.
        blocked: why this device could not take a release when it last tried; empty since it could.
        silent: since when no DHT node answers, 0 once one does.
        mode: when a staged release takes over; empty in the report of an older pypatcher, which is written seldom.
        last_heard: when somebody of the fleet was last heard.
        waits: why a staged release has to wait for a start that nothing here brings about.
        clock: minutes by which a peer's clock was ahead of ours, 0 if it was not.
        wasted_lan: bytes that failed fetches from the LAN wrote in the 24 hours before the last of them.
        wasted: the same from elsewhere.
        word: the owner's newest word, in a line; empty for none.
        word_heard: when somebody last gave it whole.
        word_networks: of how many networks that was within the last day.
        fleet: why somebody should know that the fleet or its owner is not heard; empty: all is well.
        conflict: what the fleet has that speaks against what is here.
        unheard_since: when the first of the starts was in which nobody was heard yet; 0 once somebody was.
        metered: every byte costs: it looks every 6 hours, and serves nobody.
    """

    started: float = 0.0
    written: float = 0.0
    looked: float = 0.0
    heard: int = 0
    error: str = ""
    error_time: float = 0.0
    blocked: str = ""
    silent: float = 0.0
    mode: str = ""
    last_heard: float = 0.0
    waits: str = ""
    clock: int = 0
    wasted_lan: int = 0
    wasted: int = 0
    word: str = ""
    word_heard: float = 0.0
    word_networks: int = 0
    fleet: str = ""
    conflict: str = ""
    unheard_since: float = 0.0
    metered: bool = False


class NodeReport:
    """Follows a node's events and says when its report is worth writing.

    Args:
        mode: of the updater.
        is_metered: see ``Report``.
        now: unix time.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        mode: str = "now",
        *,
        is_metered: bool = False,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now = now
        self._clock = clock
        self._report = Report(started=now(), mode=mode, metered=is_metered)
        self._news = True
        self._written: float | None = None
        self._follows = False

    def follow(self, before: Report | None) -> None:
        """Keep what an earlier start of the program knew; once, and no time that is yet to come."""
        if self._follows:
            return
        self._follows = True
        if before is None:
            return
        own, now = self._report, self._now()
        heard = max(own.last_heard, before.last_heard if before.last_heard <= now else 0.0)
        since = min(before.unheard_since or before.started, now)
        self._report = replace(own, last_heard=heard, unheard_since=0.0 if heard else since)
        if before.error and not own.error:
            self._report = replace(self._report, error=before.error, error_time=before.error_time)

    def note(self, event: Event) -> bool:
        """Keep what a person would ask for; whether it is news, and should be written at once."""
        before = self._report
        match event:
            case NodeStarted():
                self._report = replace(before, started=self._now())
            case FetchFailed():
                self._report = replace(
                    before,
                    error=_line(str(event)),
                    error_time=self._now(),
                    wasted_lan=event.wasted_lan,
                    wasted=event.wasted,
                )
            case ReleaseRefused():
                self._report = replace(before, error=_line(str(event)), error_time=self._now())
            case PreflightFailed():
                self._report = replace(before, blocked=_line(event.reason))
            case FetchStarted() | ReleaseStaged():
                self._report = replace(before, blocked="")
            case DhtSilent():
                self._report = replace(before, silent=self._now() - event.seconds)
            case DhtJoined():
                self._report = replace(before, silent=0.0)
            case RestartWaits():
                self._report = replace(before, waits=_line(event.reason))
            case ClockDiffers():
                self._report = replace(before, clock=event.minutes)
            case ReleaseConflicts():
                self._report = replace(before, conflict=_line(f"{event.version}: {event.reason}"))
            case ReleaseFound():
                self._report = replace(before, last_heard=self._now())
            case _:
                return False
        is_news = before != self._report
        self._news |= is_news
        return is_news

    def looked(self, heard: int, *, is_sound: bool = False) -> None:
        """A look for releases ended, which is news; ``is_sound``: the program could be updated now."""
        now = self._now()
        self._report = replace(self._report, looked=now, heard=heard)
        if is_sound and CANNOT_BE_UPDATED in self._report.blocked:
            self._report = replace(self._report, blocked="")
        if heard:
            self._report = replace(self._report, last_heard=now)
        self._news = True

    def answered(self) -> bool:
        """Somebody answered who would have named what is new; whether that is news: only the first time is."""
        is_first = not self._report.looked
        self._news |= is_first
        self._report = replace(self._report, looked=self._now())
        return is_first

    def listens(self, word: str, seconds_ago: float | None, networks: int, fleet: str) -> None:
        """How the owner and the fleet are heard, as it is now; ``seconds_ago``: since the word was last heard."""
        heard = self._report.word_heard if seconds_ago is None else max(0.0, self._now() - seconds_ago)
        told = replace(self._report, word=_line(word), word_networks=networks, fleet=_line(fleet), word_heard=heard)
        self._news |= (told.word, told.fleet) != (self._report.word, self._report.fleet)
        self._report = told

    def seconds_until_due(self) -> float:
        """When it should be written: now if there is news, and once a minute."""
        if self._news or self._written is None:
            return 0.0
        return max(0.0, self._written + _EVERY - self._clock())

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
            mode=_line(table.get("mode", "")),
            last_heard=_time(table.get("last_heard", 0)),
            waits=_line(table.get("waits", "")),
            clock=_minutes(table.get("clock", 0)),
            wasted_lan=int(_time(table.get("wasted_lan", 0))),
            wasted=int(_time(table.get("wasted", 0))),
            word=_line(table.get("word", "")),
            word_heard=_time(table.get("word_heard", 0)),
            word_networks=int(_time(table.get("word_networks", 0))),
            fleet=_line(table.get("fleet", "")),
            unheard_since=_time(table.get("unheard_since", 0)),
            conflict=_line(table.get("conflict", "")),
            metered=table.get("metered") is True,
        )
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None


def report_obstacle(installation: Installation, reason: str) -> None:
    """Say for ``status`` why a start found that there are no updates, where there is a folder to say it in."""
    if reason and installation.layout.state_folder.is_dir():
        report = NodeReport("")
        report.note(PreflightFailed(reason))
        with contextlib.suppress(PatcherError, OSError):
            report.follow(decode_report(installation.read_report(REPORT_LIMIT + 1)))
            installation.write_report(report.take())


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return "".join(character if character.isprintable() else "?" for character in value[:_TEXT_LIMIT])


def _minutes(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 40) < value < 1 << 40:
        raise TypeError("minutes were expected")
    return value


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 40:
        raise TypeError("a time was expected")
    return float(value)
