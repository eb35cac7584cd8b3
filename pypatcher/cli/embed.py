"""``pypatcher embed``: gives a finished program its region, unsigned. Not here: how (``artifact.embed``)."""

from __future__ import annotations

import argparse
import sys

from pypatcher.artifact.embed import CARRIERS
from pypatcher.cli.options import add_any, add_file, add_json, add_out, report_done, version
from pypatcher.errors import ArtifactError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "give a finished program its signature region, unsigned"
EXAMPLES = """\
  pypatcher embed dist/app --version 1.4.0 && pypatcher sign dist/app --key-file owner.key
  pypatcher embed app.pyz --version 1.4.0

An ELF program gets a section .embedded_signature, of any architecture and without objcopy; a PyInstaller onefile
gets the region at its end, a zipapp in its zip comment, and they run as before. A program to which a packager
appended something else is refused until --carrier says where the region goes: docs/packagers.md says which holds.
Strip and pack before, not after."""
_NO_FIXED_ORDER = (
    "it was built without PYTHONHASHSEED, so the next build differs by some 400 kB whatever changed, and devices fetch "
    "those: build with PYTHONHASHSEED=0 (pypatcher check-build says whether that is all)"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``embed``."""
    add_file(parser)
    parser.add_argument("--version", metavar="X.Y.Z", type=version, required=True, help="the program's version")
    parser.add_argument(
        "--carrier",
        choices=CARRIERS,
        default="auto",
        help="where the region goes (default: what is safe for the file)",
    )
    add_any(parser)
    add_out(parser)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Embed the region and say where it is.

    Raises:
        ArtifactError: the file can have no region, or cannot be replaced; nothing was changed.
    """
    from pypatcher.artifact import embed_region
    from pypatcher.artifact.builds import has_fixed_order
    from pypatcher.artifact.replace import open_program

    file = args.out or args.file
    try:
        with open_program(args.file) as fd:
            fixed_order = has_fixed_order(fd)
        located = embed_region(args.file, args.version, carrier=args.carrier, any_machine=args.any, out=args.out)
    except ArtifactError as error:
        raise type(error)(f"{args.file} gets no region: {error}") from None
    values = {
        "file": str(file),
        "version": str(args.version),
        "carrier": located.carrier.value,
        "offset": located.offset,
        "fixed_order": fixed_order,
    }
    place = f"at {located.offset} ({located.carrier.value})"
    said = f"{file}: region for version {args.version} {place}; now sign it"
    if fixed_order is False:
        print(f"{file}: {_NO_FIXED_ORDER}", file=sys.stderr)
    return report_done(values, said, as_json=args.json)
