"""``pypatcher compare``: how much of a new build devices that run the old one must fetch, and which parts cause it.

Prints. Not here: the comparison (``artifact.compare``).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.cli.options import add_json, print_json

if TYPE_CHECKING:
    from pypatcher.artifact.compare import Comparison

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show how much of a new build is new to devices that run the old one"
EXAMPLES = """\
  pypatcher compare app-1.0.0 app-1.1.0
  pypatcher compare old.pyz new.pyz --json

What is new is found by content, so that a part that only moved costs nothing.
Devices move so much of a release that has its manifest, and the whole of one that has none. docs/small-updates.md says
what makes it little."""

_MEMBERS = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``compare``."""
    parser.add_argument("old", metavar="OLD", type=Path, help="what devices run")
    parser.add_argument("new", metavar="NEW", type=Path, help="what they are to get")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Compare the files and say what is new.

    Raises:
        ArtifactError, OSError: one of them cannot be read.
    """
    from pypatcher.artifact.compare import compare_files

    found = compare_files(args.old, args.new)
    if args.json:
        print_json(_as_json(found))
    else:
        for line in _lines(found):
            print(line)
    return 0


def _as_json(found: Comparison) -> dict[str, object]:
    return {
        "old_size": found.old_size,
        "new_size": found.new_size,
        "moved": found.moved,
        "packed": found.packed,
        "index": found.index,
        "opened": found.opened,
        "ranges": [list(each) for each in found.ranges],
        "members": [{"name": member.name, "size": member.size, "new": new} for member, new in found.members],
        "elsewhere": found.elsewhere,
    }


def _lines(found: Comparison) -> list[str]:
    share = 100 * found.moved / found.new_size
    count = len(found.ranges)
    lines = [
        f"{found.new_size} bytes, of which {found.moved} are new ({share:.2f} %): "
        f"{found.packed} in {count} range{'' if count == 1 else 's'}, packed, and {found.index} of index"
    ]
    if found.opened is not None:
        share = 100 * found.opened / found.new_size
        lines.append(f"{found.opened} bytes move ({share:.2f} %) where devices open zlib streams")
    lines += [f"{new:>12} of {member.size:>12}  {_printable(member.name)}" for member, new in found.members[:_MEMBERS]]
    if (more := len(found.members) - _MEMBERS) > 0:
        lines.append(f"{sum(new for _, new in found.members[_MEMBERS:]):>12} in {more} more members")
    if found.members and found.elsewhere:
        lines.append(f"{found.elsewhere:>12} in no member: tables, headers, and what stands between")
    return lines


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name) or "(no name)"
