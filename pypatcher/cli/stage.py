"""``pypatcher stage``: have a program take a release from a file, as if it had come over the network.

The program may run. Not here: what happens on disk (``install``), and when the release takes over (the program's mode).
"""

from __future__ import annotations

import argparse

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.options import add_file, report_done

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "have a program that may run take a release from a file"
EXAMPLES = """\
  pypatcher stage /media/usb/app-1.4.0 /opt/app/app --public-key K
  pypatcher stage FILE PROGRAM          without a key the program itself checks who signed it

As a release from the network: it must be newer, takes over when the program's mode says (a node that runs
sees it within a minute), is on trial then, and is taken back if it fails. `adopt` is for a program that is
stopped, and for older versions."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``stage``."""
    add_file(parser, "a signed release")
    add_installed(parser)


def run(args: argparse.Namespace) -> int:
    """Stage the file.

    Raises:
        ArtifactError: it is no release for this device.
        NotNewerError, RefusedReleaseError: this device does not want it.
        StateError, CannotReplaceError, OSError: it cannot be done here; nothing was changed.
    """
    from pypatcher.artifact.replace import open_program

    with open_program(args.file) as source:
        installation = open_installation(args)
        version = installation.stage_file(source)
    values = {"program": str(installation.program), "staged": str(version)}
    return report_done(values, f"version {version} is staged beside {installation.program}", as_json=args.json)
