"""``pypatcher rollback``: back to the version before, by hand. Not here: the steps on disk (``install.manual``)."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import TYPE_CHECKING

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.options import report_done
from pypatcher.errors import PatcherError

if TYPE_CHECKING:
    from pypatcher.install import Installation

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "put the version before back, and refuse the one that is there from now on"
EXAMPLES = """\
  pypatcher rollback /opt/app/app
  systemctl stop app && pypatcher rollback /opt/app/app && systemctl start app

A program that is damaged or missing is replaced by the version before at once; nothing is refused then,
and the fleet's newest release is taken again. While a good one runs nothing is changed under it: its next
start goes back. A higher release is welcome, and one that is staged already takes over at the next start.
Exit status 1: there is no version before, it is damaged, or it failed here; nothing was changed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``rollback``."""
    add_installed(parser)


def run(args: argparse.Namespace) -> int:
    """Go back.

    Raises:
        StateError: there is nothing to go back to.
        CannotReplaceError, OSError: it cannot be done here; nothing was changed.
    """
    installation = open_installation(args)
    version, done = installation.roll_back()
    staged = _staged(installation)
    follows = f"; version {staged} is staged, and takes over at its next start" if staged else ""
    if not done and not args.json:
        print(f"{installation.program} runs: its next start goes back to version {version}{follows}", file=sys.stderr)
        return 0
    values = {"program": str(installation.program), "version": str(version), "done": done, "staged": staged}
    return report_done(values, f"{installation.program} is version {version} again{follows}", as_json=args.json)


def _staged(installation: Installation) -> str | None:
    """The release that does not wait for anybody; it is done, whether this can be read or not."""
    with contextlib.suppress(PatcherError, OSError):
        staged = installation.status().staged
        return None if staged is None else str(staged)
    return None
