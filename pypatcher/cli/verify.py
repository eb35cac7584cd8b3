"""``pypatcher verify``: the checks of a device, on a file. Changes nothing; the checks are ``artifact.verify``'s."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from pypatcher.cli.options import add_any, add_file, add_json, add_target, print_json
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.errors import ArtifactError, RegionError
from pypatcher.keys import encode_key

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo
    from pypatcher.keys import OwnerKey
    from pypatcher.targets import Target

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "check that a program is exactly what its owner signed"
EXAMPLES = """\
  pypatcher verify app --public-key K
  pypatcher verify app --public-key ... --target aarch64 --json
  pypatcher verify app --public-key ... --scan        take the region wherever it is; no device does that

Exit status 0: a device that trusts the key would take it (with --scan: content and signature are good)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``verify``."""
    add_file(parser)
    add_public_key(parser, required=True)
    add_target(parser, "the target that the file must be for")
    add_any(parser)
    parser.add_argument("--scan", action="store_true", help="search the whole file for the region")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Verify the file and say what was found.

    Raises:
        SettingError: the keys and the target do not say by which key.
        ArtifactError, OSError: it does not verify, or cannot be read.
    """
    from pypatcher.artifact.beside import word_about
    from pypatcher.artifact.inside import foreign_keys
    from pypatcher.artifact.replace import open_program
    from pypatcher.artifact.rollout import describe

    owner, target = one_owner(args.public_key, args.target)
    try:
        with open_program(args.file) as fd:
            if args.scan:
                info, offset, carrier, fits = _scanned(fd, owner, target)
            else:
                info, offset, carrier, fits = _checked(fd, owner, target, any_machine=args.any)
            others = sorted(map(encode_key, foreign_keys(fd, owner)))
        word, useless = word_about(args.file, info, owner)
    except ArtifactError as error:
        raise type(error)(f"{args.file} does not verify: {error}") from None
    if others:
        print(
            f"pypatcher verify: the program carries the public key {', '.join(others)} and not the one that signed it: "
            "on devices its own start() would take it for somebody else's, and it would be taken back (previous=)",
            file=sys.stderr,
        )
    if useless:
        print(f"pypatcher verify: {useless}", file=sys.stderr)
    if args.json:
        print_json(
            {
                "file": str(args.file),
                "verifies": True,
                "trusts_others": others,
                "version": str(info.version),
                "carrier": carrier,
                "offset": offset,
                "fits": fits,
                "hash": info.hash.hex(),
                "size": info.size,
                "manifest": None if word is None else {"seq": word.seq, "says": describe(word)},
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
    if word is not None:
        print(describe(word))
    return 0


def _checked(
    fd: int, owner: OwnerKey, target: Target | None, *, any_machine: bool
) -> tuple[PatchInfo, int, str, list[str]]:
    """The checks of a device, after those that every command makes first."""
    from pypatcher.artifact import check_release
    from pypatcher.artifact.program import examine_program

    program = examine_program(fd)
    program.check_for(target, any_machine=any_machine)
    program.check_region()
    release = check_release(fd, owner, target)
    located = release.located
    return release.info, located.offset, located.carrier.value, sorted(program.fits)


def _scanned(fd: int, owner: OwnerKey, target: Target | None) -> tuple[PatchInfo, int, str, list[str]]:
    """Content and signature alone, wherever the region is and whatever the file."""
    from pypatcher.artifact import check_target, locate_region, program_target, scan_regions
    from pypatcher.artifact.program import check_size
    from pypatcher.artifact.verify import read_region, verify_content

    check_size(fd)
    offsets = scan_regions(fd)
    if len(offsets) != 1:
        raise RegionError(f"it carries {len(offsets)} regions instead of one")
    info = read_region(fd, offsets[0])
    verify_content(fd, info, offsets[0], owner)
    if target is not None:
        check_target(fd, target)
    try:
        carrier = locate_region(fd).carrier.value
    except ArtifactError:
        carrier = "none"
    try:
        fits = sorted(program_target(fd))
    except ArtifactError:
        fits = []
    return info, offsets[0], carrier, fits
