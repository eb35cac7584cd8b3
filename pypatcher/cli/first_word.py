"""The first word about a release that ``sign`` writes beside it: revision 0, the same bytes every time.

Not here: later words (``rollout``), and what the words mean (``artifact.rollout``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pypatcher.artifact.beside import manifest_path, read_manifest, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, describe, first_word, parse_share
from pypatcher.artifact.sign import Signed
from pypatcher.artifact.terms import Hold
from pypatcher.cli.terms import check_stable_is_said, with_stable
from pypatcher.errors import ManifestError, SettingError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import Target

__all__ = ["read_terms", "write_word"]


def read_terms(args: argparse.Namespace, key: KeyPair) -> Change | None:
    """What revision 0 says; None for no manifest.

    Raises:
        SettingError, ArtifactError: the arguments make no sense.
    """
    if args.no_manifest:
        if args.stable is not None or args.no_stable:
            raise SettingError("--no-manifest says nothing about other releases: leave --stable and --no-stable away")
        return None
    share = None if args.share is None else parse_share(args.share)
    change = with_stable(Change(share, Hold.HELD if args.hold else None), args, OwnerKey(key.public))
    check_stable_is_said(change, None)
    return change


def write_word(file: Path, key: KeyPair, signed: Signed, change: Change, target: Target | None) -> ManifestFile | None:
    """Write revision 0 beside a signed file, unless a word about this very release is there; what is there then.

    Raises:
        ManifestError: a manifest is there that says something else than was asked for, or that is none.
        CannotReplaceError: it cannot be written.
    """
    targets = signed.fits if target is None else (target.name,)
    if not targets:
        return None
    path = manifest_path(file)
    known, word = read_manifest(path), first_word(key, signed.info, targets, change)
    if known is None:
        write_manifest(path, word, replace=False)
        return word
    if known.terms.info != signed.info:
        kept = path.with_name(f"{path.name.removesuffix('.manifest')}-{known.terms.info.version}.manifest")
        path.replace(kept)
        if known.terms.info.version == signed.info.version:
            print(
                f"pypatcher sign: another build of version {signed.info.version} was signed before ({kept}): if that "
                "one was handed out, devices take neither, so sign a higher version",
                file=sys.stderr,
            )
        write_manifest(path, word, replace=False)
        return word
    if change != Change() and known.value != word.value:
        raise ManifestError(
            f"the file is signed; {path} is there and says: {describe(known)}. `pypatcher rollout` changes it"
        )
    return known
