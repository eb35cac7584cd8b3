"""``pypatcher confirm``: ends the trial of the running version, for a health check from outside.

Not here: what a trial is (``install``).
"""

from __future__ import annotations

import argparse

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.options import report_done

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "end the trial of a version that runs and works"
EXAMPLES = """\
  pypatcher run --confirm manual --public-key K -- /opt/app/app &
  curl --fail http://localhost:8080/health && pypatcher confirm /opt/app/app

For a health check that is no part of the program. A program confirms itself by READY=1 or pypatcher.confirm().
Exit status 0: the version is confirmed; 1: none is on trial, or it does not run."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``confirm``."""
    add_installed(parser)


def run(args: argparse.Namespace) -> int:
    """End the trial.

    Raises:
        StateError: there is none, or the version does not run.
        CannotReplaceError, OSError: it cannot be written down.
    """
    installation = open_installation(args)
    version = installation.confirm_running()
    values = {"program": str(installation.program), "version": str(version)}
    return report_done(values, f"{installation.program}: version {version} is confirmed", as_json=args.json)
