"""``pypatcher guard``: counts the starts of a version on trial, and goes back, before the program itself runs.

For programs that update themselves (``spawn``): one that dies before any of its Python runs cannot count its own
starts. systemd runs the guard before each start and after each end; whatever the guard finds or lacks, the start goes
on. It starts no program and knows no network. design.md "Staging...", install.md "Start on trial" and "End".
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pypatcher.cli.installed import add_key, add_program, read_owner
from pypatcher.errors import PatcherError, SettingError
from pypatcher.process import how_it_ended

if TYPE_CHECKING:
    from pypatcher.install import Installation

__all__ = ["EXAMPLES", "HELP", "add_arguments", "end_was_requested", "how_systemd_says", "run"]

HELP = "count a start of a version on trial, and go back to the version before if it keeps failing"
EXAMPLES = """\
  in a systemd unit (`pypatcher unit` writes one):
  ExecStartPre=-pypatcher guard --public-key K /opt/app/app
  ExecStart=/opt/app/app
  ExecStop=-pypatcher guard --ended --public-key K /opt/app/app
  ExecStopPost=-pypatcher guard --ended --public-key K /opt/app/app

It activates a release that is staged, puts the version before back after 3 failed starts on trial, and never prevents
the start: its exit status is 0 whatever it finds, 2 if it was called wrongly. With --ended it notes how the start
ended: asked for (ExecStop runs while the program still does, or systemd's signal ended it), or by itself."""

_STOP_SIGNALS = frozenset({"TERM", "INT", "HUP"})
"""What systemd itself takes for an end in good order, besides status 0."""

_FAILED = frozenset({"timeout", "watchdog", "protocol", "oom-kill", "core-dump"})
"""Values of ``SERVICE_RESULT`` that tell a failure, whatever the signal was: a start that hangs is ended by TERM."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``guard``."""
    add_program(parser)
    add_key(parser, required=True)
    parser.add_argument("--ended", action="store_true", help="for ExecStop and ExecStopPost: note how the start ended")


def run(args: argparse.Namespace) -> int:
    """Bring the program's path to what it should be, or note the end of a start.

    Raises:
        SettingError: a key is none.
    """
    from pypatcher.update.orders import open_installed

    as_json = os.environ.get("PYPATCHER_LOG") == "json"
    level = logging.ERROR if as_json else logging.INFO
    logging.basicConfig(format="pypatcher guard: %(message)s", level=level, stream=sys.stderr)
    log = logging.getLogger("pypatcher")
    try:
        installation = open_installed(args.program, *read_owner(args))
        if not args.ended:
            if "INVOCATION_ID" in os.environ:
                _wait_for_turn(installation, log)
            _settle(installation, as_json)
        elif installation.has_pending():
            installation.end_start(end_was_requested(os.environ), how_systemd_says(os.environ, time.time()))
    except SettingError:
        raise
    except (PatcherError, OSError) as error:
        log.error("%s: %s; nothing was done", args.program, error)
    except Exception:
        log.exception("%s: nothing was done", args.program)
    return 0


def _wait_for_turn(installation: Installation, log: logging.Logger) -> None:
    """The unit's own pause is for updates, and short; a program that ends again and again gets a longer one here."""
    from pypatcher.install.pacing import START_INTERVAL, time_until_start

    pause = time_until_start(installation.layout)
    if pause:
        log.info("waits %.1f s: the last start was less than %g s ago", pause, START_INTERVAL)
        time.sleep(pause)


def _settle(installation: Installation, as_json: bool) -> None:
    from pypatcher.events import EventBus
    from pypatcher.node.log import json_lines, say_settled

    bus = EventBus()
    if as_json:
        bus.subscribe(json_lines())
    say_settled(installation.settle("guard"), bus.emit)


def how_systemd_says(environment: Mapping[str, str], now: float) -> str:
    """How the program ended, for people; systemd says a signal by its name, and not for how long it ran."""
    status = environment.get("EXIT_STATUS", "")[:20]
    if environment.get("EXIT_CODE") == "exited" and status.isdecimal():
        return how_it_ended(int(status), None, now)
    number = getattr(signal, f"SIG{status}", None)
    return how_it_ended(-number, None, now) if isinstance(number, int) else ""


def end_was_requested(environment: Mapping[str, str]) -> bool:
    """Whether somebody asked for the end of the program, from what systemd tells ExecStop and ExecStopPost.

    ExecStop runs with ``MAINPID`` and without ``EXIT_CODE`` while the program still runs, which is a stop that was
    asked for; it finds the program ended, ``EXIT_CODE`` set, where it ended by itself (systemd.service(5)). A stop that
    was asked for and took too long was noted by ExecStop before.
    """
    code, status = environment.get("EXIT_CODE"), environment.get("EXIT_STATUS", "")
    if environment.get("SERVICE_RESULT") in _FAILED:
        return False
    if code is None:
        return "MAINPID" in environment
    if code == "exited":
        return status == environment.get("PYPATCHER_RESTART_STATUS", "")
    return code == "killed" and status in _STOP_SIGNALS
