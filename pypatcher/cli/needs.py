"""What an installation needs from a person, and what cannot be known of it now: the judgement of ``status``.

Facts come from the disk (`Status`), from the node's own account of itself (`Report`), and from who runs (`/proc`). It
must never say that nobody is needed where somebody is: what is missing or old is said to be not known.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pypatcher.cli.options import when
from pypatcher.errors import CannotReplaceError
from pypatcher.update.mode import OnRestart

if TYPE_CHECKING:
    from pypatcher.install import Installation, Status
    from pypatcher.install.instances import Instance
    from pypatcher.node.report import Report

__all__ = ["WhoRuns", "look_around", "needs_of", "unknown_of"]

_SETTLES = 60.0
"""Seconds that a program may take to start its node, or its unit to start the program again."""
_FRESH = 150.0
_FRESH_OLD = 3700.0
"""How old a report may be: it is written once a minute, by older versions once an hour."""
_HOUR, _DAY = 3600.0, 86400.0


@dataclass(frozen=True, slots=True)
class WhoRuns:
    """Who runs, as far as can be seen.

    Attributes:
        now: unix time.
        runs: whether a process of the program is there; None if that cannot be told.
        updates: whether one is there that looks for updates.
        seconds: for how long the oldest process runs; None if none was seen.
        uid: whose that is; None if none was seen.
        age: seconds since the report was written, negative if its time is yet to come.
        instances: of the program, with a node each.
        is_new: nothing of ours was ever started for it, so that there is no state folder.
    """

    now: float
    runs: bool | None
    updates: bool | None
    seconds: float | None
    uid: int | None
    age: float
    instances: tuple[Instance, ...] = ()
    is_new: bool = False


def look_around(installation: Installation, report: Report | None, now: float) -> WhoRuns:
    """Look at who runs the program."""
    from pypatcher.process.seen import processes_of

    presence = installation.presence()
    oldest = max(processes_of(installation.program), key=lambda seen: seen.seconds, default=None)
    return WhoRuns(
        now,
        True if oldest is not None else presence.runs,
        presence.updates,
        None if oldest is None else oldest.seconds,
        None if oldest is None else oldest.uid,
        now - report.written if report is not None else 0.0,
        presence.instances,
        is_new=not installation.layout.state_folder.exists(),
    )


def needs_of(installation: Installation, status: Status, report: Report | None, seen: WhoRuns) -> Iterator[str]:
    """What a person should do, a line each."""
    if status.needs:
        yield status.needs
    if seen.runs is False and not _just_ended(report, seen):
        new = "it was never started here: start it, or its service"
        yield new if seen.is_new else "it does not run: start it, or its service"
    if seen.runs and status.trial is not None and status.trial.rolling_back:
        yield f"version {status.trial.version} failed, and the next start goes back: restart it"
    if report is not None and report.mode == str(OnRestart()) and status.staged is not None and len(seen.instances) > 1:
        yield f"{len(seen.instances)} processes run, and a restart of one does not activate {status.staged}: stop all"
    if seen.runs and seen.updates is False and not _just_began(seen):
        why = f": {report.blocked}" if report is not None and report.blocked else ", see its log"
        if seen.is_new:
            why = ": it was started neither by pypatcher run, nor by its own start or spawn"
        yield f"it runs, and nothing looks for updates{why}"
    elif report is not None:
        yield from _needs_of_node(report, seen)
    yield from _obstacles(installation, "" if report is None else report.blocked, seen)


def _needs_of_node(report: Report, seen: WhoRuns) -> Iterator[str]:
    if report.blocked:
        yield f"the node cannot take a release: {report.blocked}"
    if report.waits:
        yield f"a release waits for a restart that nothing here brings about: {report.waits}"
    if report.silent:
        yield f"the node reaches nobody outside its LAN: no DHT node answers since {when(report.silent)}; see netcheck"
    # Over its restarts; whoever was switched off has an hour to look.
    since = report.last_heard or report.unheard_since or report.started
    if report.mode and seen.now - report.started > _HOUR and seen.now - since > _DAY:
        yield f"nobody of the fleet was heard since {when(since)}: is a seed up?"
    if report.fleet:
        yield f"somebody should look at the fleet: {report.fleet}"
    if report.clock:
        ahead = "behind" if report.clock > 0 else "ahead of"
        yield f"the clock is {abs(report.clock)} minutes {ahead} that of a peer: is NTP reachable?"


def unknown_of(report: Report | None, seen: WhoRuns) -> Iterator[str]:
    """Why it cannot be said that nobody is needed."""
    if seen.runs is None:
        yield "whether the program runs cannot be seen here"
    elif not seen.runs:
        if _just_ended(report, seen):
            yield f"it ended within the last {_SETTLES:.0f} s, and may be started again"
    elif report is None:
        yield "its node has not said anything yet"
    elif seen.updates is False and _just_began(seen):
        yield "its node is about to start"
    elif not -_SETTLES < seen.age < (_FRESH if report.mode else _FRESH_OLD):
        yield f"what its node says is {seen.age:.0f} s old"


def _just_began(seen: WhoRuns) -> bool:
    return seen.seconds is not None and seen.seconds < _SETTLES


def _just_ended(report: Report | None, seen: WhoRuns) -> bool:
    return report is not None and bool(report.mode) and 0 <= seen.age < _SETTLES


def _obstacles(installation: Installation, blocked: str, seen: WhoRuns) -> Iterator[str]:
    try:
        program = installation.program.stat()
        if not program.st_mode & 0o111:
            yield f"{installation.program} cannot be started: chmod 755 it"
        allow_volatile = os.environ.get("PYPATCHER_ALLOW_VOLATILE") == "1"
        with _as_its_user(installation, seen.uid):
            installation.preflight(program.st_size, allow_volatile=allow_volatile, change_nothing=True)
    except CannotReplaceError as error:
        if str(error) not in blocked:
            yield f"a release could not be installed: {error}"
    except OSError:
        return  # without a program, status.needs has said so


@contextmanager
def _as_its_user(installation: Installation, uid: int | None) -> Iterator[None]:
    """Root wants to know what the service's user would be told: who runs it, else to whom its folder belongs."""
    if os.geteuid() != 0:
        yield
        return
    owner, group = installation.program.parent.stat(), os.getegid()
    os.setegid(_group_of(uid, owner.st_gid) if uid is not None else owner.st_gid)
    os.seteuid(owner.st_uid if uid is None else uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _group_of(uid: int, otherwise: int) -> int:
    try:
        return pwd.getpwuid(uid).pw_gid
    except KeyError:
        return otherwise
