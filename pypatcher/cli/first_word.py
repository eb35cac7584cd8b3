"""The first word about a release that ``sign`` writes beside it: revision 0, the same bytes every time.

Not here: later words (``rollout``), and what the words mean (``artifact.rollout``).
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from pypatcher.artifact.beside import check_manifest_place, manifest_path, read_manifest, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.opened import stated_opened_root
from pypatcher.artifact.rollout import Change, describe, first_word, parse_share
from pypatcher.artifact.sign import Signed
from pypatcher.artifact.terms import Hold
from pypatcher.artifact.tree import stated_root
from pypatcher.cli.terms import check_stable_is_said, read_must, with_stable
from pypatcher.errors import CannotReplaceError, ManifestError, SettingError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import Target

__all__ = ["FirstWord", "plan_word", "read_terms"]


def read_terms(args: argparse.Namespace, key: KeyPair) -> Change | None:
    """What revision 0 says; None for no manifest.

    Raises:
        SettingError, ArtifactError: the arguments make no sense.
        CannotReplaceError: where it would lie is something else.
    """
    if args.no_manifest:
        if args.stable is not None or args.no_stable or args.must is not None:
            raise SettingError("--no-manifest says nothing: leave --stable, --no-stable and --must away")
        return None
    path = manifest_path(args.out or args.file)
    check_manifest_place(path)
    if (known := read_manifest(path)) is not None:
        check_manifest_place(_kept_path(path, known))
    share = None if args.share is None else parse_share(args.share)
    asked = Change(share, Hold.HELD if args.hold else None, must=read_must(args))
    change = with_stable(asked, args, OwnerKey(key.public))
    check_stable_is_said(change, None)
    return change


@dataclass(frozen=True, slots=True)
class FirstWord:
    """What will lie beside a file that is signed.

    Attributes:
        path: where.
        word: revision 0, or what is there about this very release.
        known: what is there.
    """

    path: Path
    word: ManifestFile
    known: ManifestFile | None

    def write(self) -> None:
        """Write it, unless it is there; what is there about another release is kept.

        Raises:
            CannotReplaceError: it cannot be written, though the file is signed by now.
        """
        try:
            self._write()
        except (CannotReplaceError, OSError) as error:
            raise CannotReplaceError(
                f"the file IS signed, but no manifest says who may take it: {error}. Sign it once more"
            ) from None

    def _write(self) -> None:
        if self.known == self.word:
            return
        if self.known is not None:
            kept = _kept_path(self.path, self.known)
            self.path.replace(kept)
            if self.known.terms.info.version == self.word.terms.info.version:
                print(
                    f"pypatcher sign: another build of version {self.word.terms.info.version} was signed before "
                    f"({kept}): if that one was handed out, devices take neither, so sign a higher version",
                    file=sys.stderr,
                )
        write_manifest(self.path, self.word, replace=False)


def plan_word(
    fd: int, file: Path, key: KeyPair, signed: Signed, change: Change, *, target: Target | None
) -> FirstWord | None:
    """What to write beside ``file`` once it is signed, as ``fd`` is; None for a file that fits no target.

    Raises:
        ManifestError: a manifest is there that says something else than was asked for, or a term is out of range.
        OSError: a file cannot be read.
    """
    targets = signed.fits if target is None else (target.name,)
    if not targets:
        return None
    path = manifest_path(file)
    known = read_manifest(path)
    whole = replace(change, tree=stated_root(fd), opened_tree=stated_opened_root(fd))
    word = first_word(key, signed.info, targets, whole)
    if known is None or known.terms.info != signed.info:
        return FirstWord(path, word, known)
    # Those of older versions state fewer trees.
    older = (first_word(key, signed.info, targets, each) for each in (change, replace(whole, opened_tree=None)))
    if change != Change() and known.value not in (word.value, *(each.value for each in older)):
        raise ManifestError(f"{path} is there and says: {describe(known)}. `pypatcher rollout` changes it")
    return FirstWord(path, known, known)


def _kept_path(path: Path, known: ManifestFile) -> Path:
    """Where the word about another release goes when this one's is written."""
    return path.with_name(f"{path.name.removesuffix('.manifest')}-{known.terms.info.version}.manifest")
