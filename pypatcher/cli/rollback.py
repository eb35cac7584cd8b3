"""``pypatcher rollback``: back to the version before, by hand. Not here: the steps on disk (``install.manual``)."""

from __future__ import annotations

import argparse
import sys

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.options import report_done

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "put the version before back, and refuse the one that is there from now on"
EXAMPLES = """\
  pypatcher rollback /opt/app/app
  systemctl stop app && pypatcher rollback /opt/app/app && systemctl start app

A program that is damaged or missing is replaced by the version before at once. While a good one runs
nothing is changed under it: its next start goes back. The next higher release is welcome."""


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
    if not done and not args.json:
        print(f"{installation.program} runs: its next start goes back to version {version}", file=sys.stderr)
        return 0
    values = {"program": str(installation.program), "version": str(version), "done": done}
    return report_done(values, f"{installation.program} is version {version} again", as_json=args.json)
