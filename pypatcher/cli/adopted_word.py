"""The manifest that lies beside a file which ``adopt`` puts to a program's path: looked at before, kept after.

Not here: the steps on disk (``install``).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pypatcher.artifact import check_release
from pypatcher.artifact.beside import manifest_path, word_about
from pypatcher.cli.installed import read_owner
from pypatcher.errors import ManifestError
from pypatcher.update.policy import Policy
from pypatcher.update.rule import DeviceRule
from pypatcher.update.stored_word import InstallationStore
from pypatcher.update.word import OwnersWord

if TYPE_CHECKING:
    from pypatcher.artifact.manifest import Manifest
    from pypatcher.install import Installation

__all__ = ["keep_word", "prepare"]


def prepare(args: argparse.Namespace, installation: Installation, source: int) -> Manifest | None:
    """The file's own manifest, for this device's target.

    Raises:
        ManifestError: it has none and is newer than the newest manifest that this device knows, unless that is what
            the person wants; or what is there is none.
    """
    owner, target, _ = read_owner(args)
    info = check_release(source, owner, target).info
    found, useless = word_about(args.file, info, owner)
    mine = None if found is None else found.for_target(target.name)
    if mine is not None:
        return mine
    known = _word(args, installation).current
    if known is not None and info.version > known.terms.info.version and not args.without_manifest:
        why = useless or f"there is no {manifest_path(args.file)} for {target.name}"
        raise ManifestError(
            f"{why}, and this device knows manifests of the owner: copy it along, or say --without-manifest"
        )
    return None


def keep_word(args: argparse.Namespace, installation: Installation, word: Manifest) -> None:
    """The device's node hears it from here."""
    _word(args, installation).hear_at_once(word.encode())


def _word(args: argparse.Namespace, installation: Installation) -> OwnersWord:
    owner, target, _ = read_owner(args)

    def rule(_word: object) -> DeviceRule:
        # A person's command knows no draw: it takes nothing away, and permits nothing; the node does.
        return DeviceRule(Policy(), owner, lambda _: False)

    return OwnersWord(owner, target.name, InstallationStore(installation, owner, rule))
