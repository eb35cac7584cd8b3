"""``pypatcher status``: what is installed, staged, on trial and refused, and what a person should do.

Changes nothing. Not here: how it is found out (``install.status``, ``node.report``).
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypatcher.cli.installed import add_key, add_program, open_installation
from pypatcher.cli.options import add_json, print_json
from pypatcher.errors import CannotReplaceError, SettingError

if TYPE_CHECKING:
    from pypatcher.install import Installation, Status
    from pypatcher.node.report import Report
    from pypatcher.version import Version

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "say which versions of a program are here, and what it needs from a person"
EXAMPLES = """\
  pypatcher status /opt/app/app
  pypatcher status /opt/app/app --json | jq .needs

Run it as the service's user or as root. Exit status 0: it needs nobody; 1: it needs a person; 2: this
user cannot look, or there is nothing."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``status``."""
    add_program(parser)
    add_key(parser, required=False)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Say what is here.

    Raises:
        SettingError: there is nothing here, or nothing that this user can look at.
    """
    from pypatcher.node.report import REPORT_LIMIT, decode_report

    try:
        installation = open_installation(args)
        status = installation.status()
    except (CannotReplaceError, OSError) as error:
        raise SettingError(f"{error} (as the service's user or root, status can look)") from None
    report = decode_report(installation.read_report(REPORT_LIMIT + 1))
    needs = list(_needs(installation, status, report))
    if args.json:
        print_json(_table(status, report, needs))
    else:
        for name, value in _lines(status, report, needs):
            print(f"{name + ':':<12}{value}")
    return 1 if needs else 0


def _needs(installation: Installation, status: Status, report: Report | None) -> Iterator[str]:
    from pypatcher.settings import Settings

    if status.needs:
        yield status.needs
    blocked = "" if report is None else report.blocked
    if blocked:
        yield f"the node cannot take a release: {blocked}"
    if report is not None and report.silent:
        yield f"the node reaches nobody outside its LAN: no DHT node answers since {_when(report.silent)}; see netcheck"
    try:
        program = installation.program.stat()
        if not program.st_mode & 0o111:
            yield f"{installation.program} cannot be started: chmod 755 it"
        settings = Settings.from_environment(os.environ)
        with _as_its_user(installation.program.parent):
            installation.preflight(program.st_size, allow_volatile=settings.allow_volatile, change_nothing=True)
    except CannotReplaceError as error:
        if str(error) not in blocked:
            yield f"a release could not be installed: {error}"
    except OSError:
        return  # without a program, status.needs has said so


@contextmanager
def _as_its_user(folder: Path) -> Iterator[None]:
    """Root wants to know what the service's user would be told, to whom the program's folder belongs."""
    if os.geteuid() != 0:
        yield
        return
    owner, group = folder.stat(), os.getegid()
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


def _table(status: Status, report: Report | None, needs: list[str]) -> dict[str, Any]:
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
        "refused": [{"sha512": one.sha512.hex(), "reason": one.reason} for one in status.refused],
        "node": None
        if report is None
        else {
            "started": _when(report.started),
            "written": _when(report.written),
            "last_look": _when(report.looked),
            "heard": report.heard,
            "last_error": report.error or None,
            "last_error_time": _when(report.error_time),
            "blocked": report.blocked or None,
            "silent_since": _when(report.silent),
        },
        "needs": needs,
    }


def _lines(status: Status, report: Report | None, needs: list[str]) -> Iterator[tuple[str, str]]:
    yield "program", status.program
    yield "version", _text(status.running) or "none"
    if status.trial is not None:
        trial = status.trial
        doing = "going back from" if trial.rolling_back else "on trial:"
        yield "trial", f"{doing} {trial.version}, {trial.failed} failed starts, {trial.reboots} reboots"
    if status.staged is not None:
        yield "staged", f"{status.staged}, for the next start"
    if status.previous is not None:
        yield "previous", str(status.previous)
    for refused in status.refused:
        yield "refused", refused.reason or refused.sha512.hex()[:16]
    if report is None:
        yield "node", "has not said anything here yet"
    else:
        looked = f"looked {_when(report.looked)}, heard {report.heard} peers" if report.looked else "has not looked yet"
        yield "node", f"{looked} (as of {_when(report.written)})"
        if report.error:
            yield "last error", f"{_when(report.error_time)} {report.error}"
    for need in needs:
        yield "needs you", need
    if not needs:
        yield "needs you", "no"


def _text(version: Version | None) -> str | None:
    return None if version is None else str(version)


def _when(seconds: float) -> str | None:
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
