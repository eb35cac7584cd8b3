"""What ``sign`` and ``rollout`` share: who may take a release, as arguments, and the other releases that they name.

No command lives here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.errors import ArtifactError, SettingError

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo
    from pypatcher.artifact.rollout import Change
    from pypatcher.artifact.terms import Terms
    from pypatcher.keys import OwnerKey

__all__ = ["add_must", "add_stable", "check_stable_is_said", "read_must", "with_stable"]


def add_stable(parser: argparse.ArgumentParser) -> None:
    """``--stable FILE`` and ``--no-stable``."""
    stable = parser.add_mutually_exclusive_group()
    stable.add_argument(
        "--stable",
        metavar="FILE",
        type=Path,
        help="an older release, signed by the same key: devices that do not take part may take it, and what lies "
        "between the two is taken back",
    )
    stable.add_argument("--no-stable", action="store_true", help="devices that do not take part stay where they are")


def add_must(parser: argparse.ArgumentParser) -> None:
    """``--must KEY,...``."""
    parser.add_argument(
        "--must",
        metavar="KEY,...",
        help="keys of the manifest, such as stable,co, that a device has to understand before it goes on with the "
        "release; empty: none",
    )


def read_must(args: argparse.Namespace) -> tuple[bytes, ...] | None:
    """The keys that ``--must`` names; None where it says nothing.

    Raises:
        SettingError: this version does not know one, so that it could not state it either.
    """
    from pypatcher.artifact.terms import KEYS

    if args.must is None:
        return None
    names = tuple(dict.fromkeys(name.encode() for name in args.must.split(",") if name))
    if unknown := [name.decode() for name in names if name not in KEYS]:
        known = ", ".join(sorted(key.decode() for key in KEYS))
        raise SettingError(f"--must: a manifest has no key {unknown[0]!r} that this version knows: {known}")
    return names


def _read_stable(path: Path, owner: OwnerKey) -> tuple[PatchInfo, bytes]:
    """The release in a file, and the root of its tree.

    Raises:
        ArtifactError: it is none of this owner's.
    """
    from pypatcher.artifact import check_release
    from pypatcher.artifact.replace import open_program
    from pypatcher.artifact.tree import stated_root

    try:
        with open_program(path) as fd:
            return check_release(fd, owner, None).info, stated_root(fd)
    except ArtifactError as error:
        raise type(error)(f"--stable {path}: {error}") from None


def with_stable(change: Change, args: argparse.Namespace, owner: OwnerKey) -> Change:
    """The change with what the two arguments say.

    Raises:
        ArtifactError: the file holds no release of this owner.
    """
    from dataclasses import replace

    if args.stable is not None:
        stable, tree = _read_stable(args.stable, owner)
        return replace(change, stable=stable, stable_tree=tree)
    return replace(change, stable=None) if args.no_stable else change


def check_stable_is_said(change: Change, known: Terms | None) -> None:
    """Below a share of all somebody has to have thought of the other devices.

    Raises:
        SettingError: nobody has.
    """
    from pypatcher.artifact.rollout import KEEP
    from pypatcher.artifact.terms import ALL

    is_said = change.stable is not KEEP or (known is not None and known.stable is not None)
    if change.share is not None and change.share < ALL and not is_said:
        raise SettingError(
            "say what devices may take that do not take part: --stable FILE, or --no-stable (they stay where they are)"
        )
