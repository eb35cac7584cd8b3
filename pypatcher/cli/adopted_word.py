"""The manifest that lies beside a file which ``adopt`` puts to a program's path: looked at before, kept after.

Not here: the steps on disk (``install``).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pypatcher.artifact import check_release
from pypatcher.artifact.beside import manifest_path, read_manifest, word_about
from pypatcher.cli.installed import read_owner
from pypatcher.errors import ManifestError
from pypatcher.update.policy import Policy
from pypatcher.update.rule import DeviceRule
from pypatcher.update.stored_word import InstallationStore
from pypatcher.update.word import OwnersWord

if TYPE_CHECKING:
    from pypatcher.install import Installation

__all__ = ["keep_word", "prepare"]


def prepare(args: argparse.Namespace, installation: Installation, source: int) -> bool:
    """Whether the file has a manifest of its own.

    Raises:
        ManifestError: it has none and is newer than the newest manifest that this device knows, unless that is what
            the person wants; or what is there is none.
    """
    owner, target, _ = read_owner(args)
    info = check_release(source, owner, target).info
    found, useless = word_about(args.file, info, owner)
    if found is not None and found.for_target(target.name) is not None:
        return True
    known = _word(args, installation).current
    if known is not None and info.version > known.terms.info.version and not args.without_manifest:
        why = useless or f"there is no {manifest_path(args.file)} for {target.name}"
        raise ManifestError(
            f"{why}, and this device knows manifests of the owner: copy it along, or say --without-manifest"
        )
    return False


def keep_word(args: argparse.Namespace, installation: Installation) -> None:
    """The device's node hears it from here."""
    found = read_manifest(manifest_path(args.file))
    word = _word(args, installation)
    mine = None if found is None else found.for_target(word.target)
    if mine is not None:
        word.hear_at_once(mine.encode())


def _word(args: argparse.Namespace, installation: Installation) -> OwnersWord:
    owner, target, _ = read_owner(args)

    def rule(_word: object) -> DeviceRule:
        # A person's command knows no draw: it takes nothing away, and permits nothing; the node does.
        return DeviceRule(Policy(), owner, lambda _: False)

    return OwnersWord(owner, target.name, InstallationStore(installation, owner, rule))
