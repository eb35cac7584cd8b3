"""``pypatcher inspect``: everything that a file says about itself, and what is wrong with it. It decides nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypatcher.cli.options import add_file, add_json, print_json
from pypatcher.cli.owners import add_public_key, one_owner
from pypatcher.errors import ManifestError

if TYPE_CHECKING:
    from pypatcher.artifact.survey import Survey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "show a program's region, carrier, targets and sections, and whether it verifies"
EXAMPLES = """\
  pypatcher inspect app
  pypatcher inspect app --public-key K --json

Exit status 0: the file could be read, whatever was found; for a judgement use 'pypatcher verify'."""

_INTACT = {None: "no signature yet", True: "yes", False: "no"}
_SIGNED = {None: "not checked: it is not intact", True: "by that key", False: "not by that key"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``inspect``."""
    add_file(parser, "any file")
    add_public_key(parser, "check the signature against this public key", required=False)
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Show what is in the file."""
    from pypatcher.artifact.replace import open_program
    from pypatcher.artifact.survey import survey_file

    owner = None if args.public_key is None else one_owner(args.public_key, None)[0]
    with open_program(args.file) as fd:
        found = survey_file(fd, owner)
    word = _manifest(args.file, found)
    if args.json:
        print_json({"file": str(args.file)} | _as_json(found) | {"manifest": word})
    else:
        for name, text in [*_lines(found, has_key=owner is not None), ("manifest", word or "none")]:
            print(f"{name:<12}{text}")
    return 0


def _manifest(file: Path, found: Survey) -> str | None:
    """What lies beside the file, in words."""
    from pypatcher.artifact.beside import manifest_path, read_manifest, word_about
    from pypatcher.artifact.rollout import describe

    try:
        if found.info is None:
            word, useless = read_manifest(manifest_path(file)), ""
        else:
            word, useless = word_about(file, found.info)
    except (ManifestError, OSError) as error:
        return str(error)
    return useless or (None if word is None else describe(word))


def _as_json(found: Survey) -> dict[str, Any]:
    info = found.info
    return {
        "bytes": found.file_size,
        "kind": found.kind,
        "targets": list(found.targets),
        "regions": list(found.regions),
        "carrier": found.carrier.value if found.carrier else None,
        "offset": found.offset,
        "version": str(info.version) if info else None,
        "size": info.size if info else None,
        "hash": info.hash.hex() if info else None,
        "signature": info.signature.hex() if info else None,
        "intact": found.is_intact,
        "signed_by_owner": found.is_signed_by_owner,
        "problems": list(found.problems),
        "sections": [
            {"name": section.name, "offset": section.offset, "size": section.size} for section in found.sections
        ],
    }


def _lines(found: Survey, *, has_key: bool) -> list[tuple[str, str]]:
    carrier = found.carrier.value if found.carrier else "not where a device takes it"
    region = "none" if found.offset is None else f"at {found.offset}, carrier: {carrier}"
    lines = [
        ("file", f"{found.file_size} bytes, {found.kind}"),
        ("targets", ", ".join(found.targets) or "none"),
        ("region", region),
    ]
    if found.info:
        lines += [
            ("version", str(found.info.version)),
            ("size", f"{found.info.size} bytes without the region"),
            ("hash", found.info.hash.hex()),
            ("intact", _INTACT[found.is_intact]),
            ("signed", _SIGNED[found.is_signed_by_owner] if has_key else "not checked (give --public-key)"),
        ]
    lines += [("problem", problem) for problem in found.problems]
    # A name is the file's own bytes: nothing in it may steer the terminal.
    return lines + [
        ("section", f"{section.offset:>12} {section.size:>12}  {ascii(section.name)[1:-1]}")
        for section in found.sections
    ]
