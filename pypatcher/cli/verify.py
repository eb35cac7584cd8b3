"""``pypatcher verify``: the checks of a device, on a file. Changes nothing; the checks are ``artifact.verify``'s."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pypatcher.cli.options import add_file, add_json, add_target, print_json
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.errors import ArtifactError, RegionError
from pypatcher.keys import encode_key

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "check that a program is exactly what its owner signed"
EXAMPLES = """\
  pypatcher verify app --public-key xg4icmwxh3kx1odasrjqtkcmw6eb9bj4h4k57i9yhqeozmer131y
  pypatcher verify app --public-key ... --target aarch64 --json
  pypatcher verify app --public-key ... --scan        take the region wherever it is; no device does that

Exit status 0: a device that trusts the key would take it (with --scan: content and signature are good)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``verify``."""
    add_file(parser)
    add_public_key(parser, required=True)
    add_target(parser, "the target that the file must be for")
    parser.add_argument("--scan", action="store_true", help="search the whole file for the region")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Verify the file and say what was found.

    Raises:
        SettingError: the keys and the target do not say by which key.
        ArtifactError, OSError: it does not verify, or cannot be read.
    """
    from pypatcher.artifact import check_release, check_target, locate_region, program_target
    from pypatcher.artifact.replace import open_program
    from pypatcher.artifact.verify import verify_content

    owner, target = one_owner(args.public_key, args.target)
    try:
        with open_program(args.file) as fd:
            if args.scan:
                info, offset = _scan(fd)
                verify_content(fd, info, offset, owner)
                if target is not None:
                    check_target(fd, target)
                try:
                    carrier = locate_region(fd).carrier.value
                except ArtifactError:
                    carrier = "none"
            else:
                release = check_release(fd, owner, target)
                info, located = release.info, release.located
                offset, carrier = located.offset, located.carrier.value
            try:
                fits = sorted(program_target(fd))
            except ArtifactError:
                fits = []
    except ArtifactError as error:
        raise type(error)(f"{args.file} does not verify: {error}") from None
    if args.json:
        print_json(
            {
                "file": str(args.file),
                "verifies": True,
                "version": str(info.version),
                "carrier": carrier,
                "offset": offset,
                "fits": fits,
                "hash": info.hash.hex(),
                "size": info.size,
            }
        )
        return 0
    place = (
        f"region at {offset} ({carrier})" if carrier != "none" else f"region at {offset}, where no device accepts it"
    )
    print(
        f"{args.file}: version {info.version}, signed by {encode_key(owner)}, "
        f"for {', '.join(fits) or 'no known target'}, {place}"
    )
    return 0


def _scan(fd: int) -> tuple[PatchInfo, int]:
    from pypatcher.artifact import scan_regions
    from pypatcher.artifact.verify import read_region

    offsets = scan_regions(fd)
    if len(offsets) != 1:
        raise RegionError(f"it carries {len(offsets)} regions instead of one")
    return read_region(fd, offsets[0]), offsets[0]
