"""``pypatcher adopt``: puts a release to a program's path by hand, safely.

Not here: the steps on disk (``install.manual``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pypatcher.cli.installed import add_installed, open_installation
from pypatcher.cli.options import add_file, report_done
from pypatcher.errors import ArtifactError, PatcherError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "put a release to a program's path by hand: checked, whole, with a way back"
EXAMPLES = """\
  scp app-1.4.0 device:/tmp/ && ssh device pypatcher adopt /tmp/app-1.4.0 /opt/app/app --public-key K
  pypatcher adopt FILE PROGRAM          without a key the file is checked for damage, not for who signed it

Never copy a file over a running program: scp and cp write into the file that runs, and into the copy that a rollback
needs. The program must be stopped. What you put there counts as confirmed, older versions too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``adopt``."""
    add_file(parser, "a signed release")
    add_installed(parser)
    parser.add_argument(
        "--without-manifest",
        action="store_true",
        help="take a file without FILE.manifest beside it though this device knows manifests of the owner",
    )


def run(args: argparse.Namespace) -> int:
    """Put the file there.

    Raises:
        ArtifactError: it is no release for this device.
        CannotReplaceError, OSError: it cannot be done here, or the program runs.
    """
    from pypatcher.artifact.replace import open_program
    from pypatcher.cli.adopted_word import keep_word, prepare

    with open_program(args.file) as source:
        installation = open_installation(args, may_be_new=True)
        try:
            _check_fits(source, installation.program)
        except ArtifactError as error:
            raise type(error)(f"{args.file} is not put there: {error}") from None
        word = None if args.public_key is None else prepare(args, installation, source)
        version = installation.adopt(source)
        if word is not None:
            keep_word(args, installation, word)
    values = {"program": str(installation.program), "version": str(version)}
    return report_done(values, f"{installation.program} is version {version}", as_json=args.json)


def _check_fits(source: int, program: Path) -> None:
    """What every command of the desk asks, and whether it is for this device."""
    from pypatcher.artifact.program import examine_program
    from pypatcher.node.device import own_target

    found = examine_program(source)
    found.check_region()
    interpreter = Path(sys.executable)
    try:
        target = own_target(program if program.is_file() else interpreter, interpreter)
    except PatcherError:
        target = None  # such as a device of the namespace rustpatcher, for which any machine will do
    found.check_for(target, any_machine=True)
