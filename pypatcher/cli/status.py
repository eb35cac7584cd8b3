"""``pypatcher status``: what is installed, staged, on trial and refused, and what a person should do.

Changes nothing. Not here: how it is found out (``install.status``, ``node.report``).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.needs import WhoRuns, look_around, needs_of, unknown_of
from pypatcher.cli.options import print_json, when
from pypatcher.errors import CannotReplaceError, SettingError
from pypatcher.update.mode import At, Now, next_local, parse_mode

if TYPE_CHECKING:
    from pypatcher.install import Status
    from pypatcher.node.report import Report
    from pypatcher.version import Version

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say which versions of a program are here, and what it needs from a person"
EXAMPLES = """\
  pypatcher status /opt/app/app
  pypatcher status /opt/app/app --json | jq .needs

Run it as the service's user or as root. Exit status 0: it needs nobody; 1: it needs a person; 2: there is
no such program; 3: that cannot be known now, because this user may not look, or the program just began or
ended, or its node has said nothing for minutes."""

UNKNOWN = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``status``."""
    add_installed(parser)


def run(args: argparse.Namespace) -> int:
    """Say what is here.

    Raises:
        SettingError: there is nothing here.
    """
    from pypatcher.node.report import REPORT_LIMIT, decode_report

    try:
        installation = open_installation(args)
        status = installation.status()
    except (CannotReplaceError, OSError) as error:
        why = f"{error} (as the service's user or root, status can look)"
        if args.json:
            print_json({"error": why, "unknown": [why]})
        print(f"pypatcher status: {why}", file=sys.stderr)
        return UNKNOWN
    report = decode_report(installation.read_report(REPORT_LIMIT + 1))
    seen = look_around(installation, report, time.time())
    needs = list(needs_of(installation, status, report, seen))
    unknown = list(unknown_of(report, seen))
    if args.json:
        print_json(_table(status, report, needs, unknown, seen))
    else:
        for name, value in _lines(status, report, needs, unknown, seen):
            print(f"{name + ':':<12}{value}")
    if needs:
        return 1
    return UNKNOWN if unknown else 0


def _table(
    status: Status, report: Report | None, needs: list[str], unknown: list[str], seen: WhoRuns
) -> dict[str, Any]:
    trial = status.trial
    return {
        "program": status.program,
        "running": _text(status.running),
        "confirmed": _text(status.confirmed),
        "newest": _text(status.newest),
        "staged": _text(status.staged),
        "previous": _text(status.previous),
        "trial": None
        if trial is None
        else {
            "version": str(trial.version),
            "failed": trial.failed,
            "reboots": trial.reboots,
            "rolling_back": trial.rolling_back,
        },
        "refused": [
            {"sha512": one.sha512.hex(), "reason": one.reason, "again": one.again or None} for one in status.refused
        ],
        "node": None
        if report is None
        else {
            "started": when(report.started),
            "written": when(report.written),
            "last_look": when(report.looked),
            "heard": report.heard,
            "last_error": report.error or None,
            "last_error_time": when(report.error_time),
            "blocked": report.blocked or None,
            "silent_since": when(report.silent),
            "mode": report.mode or None,
            "metered": report.metered,
            "last_heard": when(report.last_heard),
            "waits": report.waits or None,
            "clock_minutes_behind": report.clock,
            "wasted_bytes_lan": report.wasted_lan,
            "wasted_bytes": report.wasted,
            "manifest": report.word or None,
            "manifest_heard": when(report.word_heard),
            "manifest_networks": report.word_networks,
            "fleet_silent": report.fleet or None,
            "conflict": report.conflict or None,
        },
        "never_started": seen.is_new,
        "instances": [{"pid": one.pid, "ready": one.ready} for one in seen.instances],
        "needs": needs,
        "unknown": unknown,
    }


def _lines(
    status: Status, report: Report | None, needs: list[str], unknown: list[str], seen: WhoRuns
) -> Iterator[tuple[str, str]]:
    yield "program", status.program
    yield "version", _text(status.running) or "none"
    if status.trial is not None:
        trial = status.trial
        doing = "going back from" if trial.rolling_back else "on trial:"
        yield "trial", f"{doing} {trial.version}, {trial.failed} failed starts, {trial.reboots} reboots"
    if status.staged is not None:
        yield "staged", f"{status.staged}, {_takes_over(status, report, seen)}"
    if len(seen.instances) > 1:
        yield "processes", ", ".join(f"{one.pid}{' (ready)' if one.ready else ''}" for one in seen.instances)
    if status.previous is not None:
        yield "previous", str(status.previous)
    for refused in status.refused:
        said = refused.reason or refused.sha512.hex()[:16]
        yield "refused", f"{said}; {refused.again or 'for good'}"
    if report is None:
        yield "node", "was never started here" if seen.is_new else "has not said anything here yet"
    else:
        yield from _lines_of_node(report, seen)
    for need in needs:
        yield "needs you", need
    for doubt in unknown:
        yield "not known", doubt
    if not needs:
        yield "needs you", "not known" if unknown else "no"


def _lines_of_node(report: Report, seen: WhoRuns) -> Iterator[tuple[str, str]]:
    looked = f"looked {when(report.looked)}, heard {report.heard} peers" if report.looked else "has not looked yet"
    yield "node", f"{looked} ({seen.age:.0f} s ago, {when(report.written)})"
    if report.mode:
        yield "mode", f"{report.mode}: {_next_restart(report.mode, seen)}"
    if report.metered:
        yield "metered", "asks the owner every 6 hours, serves nobody, and fetches small releases alone"
    if report.word:
        heard = f"heard {when(report.word_heard)}, in a day from {report.word_networks} networks"
        yield "owner", f"{report.word} ({heard if report.word_heard else 'as it is kept here'})"
    if report.conflict:
        yield "conflict", report.conflict
    yield from _failures(report)


def _failures(report: Report) -> Iterator[tuple[str, str]]:
    if report.error:
        yield "last error", f"{when(report.error_time)} {report.error}"
    if report.wasted_lan or report.wasted:
        parts = f"{report.wasted_lan / 1e6:.1f} MB from the LAN, {report.wasted / 1e6:.1f} MB from elsewhere"
        yield "wasted", f"{parts}: written by failed fetches in a day"


def _takes_over(status: Status, report: Report | None, seen: WhoRuns) -> str:
    if status.trial is not None:
        return f"when the trial of {status.trial.version} is over"
    together = f" of all {len(seen.instances)} together" if len(seen.instances) > 1 else ""
    if report is None or report.waits or not report.mode:
        return f"for the next start{together}"
    return _next_restart(report.mode, seen) + together


def _next_restart(mode: str, seen: WhoRuns) -> str:
    """When a staged release takes over."""
    try:
        match parse_mode(mode):
            case At(hour, minute):
                return f"restart at {when(next_local(hour, minute, seen.now))}, up to 5 minutes later"
            case Now():
                return "restart at once"
            case _:
                return "at the next start, which it never brings about itself"
    except SettingError:
        return "unknown"


def _text(version: Version | None) -> str | None:
    return None if version is None else str(version)
