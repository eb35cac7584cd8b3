"""The owner's word as ``seed`` has it: beside the file, or heard before; and who may be told of the file.

Kept in the seed's own state folder. Blocks, for it reads the disk. Not here: how a word gets about (``discovery``,
``transfer``).
"""

from __future__ import annotations

import logging
import os

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.beside import add_word, manifest_path, read_manifest, word_about
from pypatcher.artifact.rollout import describe
from pypatcher.errors import ManifestError, PatcherError
from pypatcher.node.cache import cache_folder
from pypatcher.node.seedfile import SeedFile
from pypatcher.settings import Settings
from pypatcher.update.policy import Policy
from pypatcher.update.word import FolderStore, NoStore, OwnersWord

__all__ = ["SeedWord"]

_log = logging.getLogger("pypatcher")


class SeedWord:
    """That of one file.

    Args:
        without_manifest: a file without its own manifest is offered though one of the owner's is known.

    Attributes:
        file: what is offered.
        word: the newest one; None in the namespace ``rustpatcher``, which has none.
    """

    def __init__(self, file: SeedFile, settings: Settings, *, without_manifest: bool = False) -> None:
        self.file = file
        self._without_manifest = without_manifest
        self.word: OwnersWord | None = None
        namespace = file.namespace
        if namespace.target_name is not None:
            folder = cache_folder(settings.state, os.environ, f"{namespace.name}-seed")
            store = NoStore() if folder is None else FolderStore(folder)
            self.word = OwnersWord(namespace.owner, namespace.target_name, store)

    def hear_beside(self) -> None:
        """Hear what lies beside the file.

        Raises:
            ManifestError: what is there is none, or the file is newer than the known word and has none of its own.
        """
        held, word = self.file.held, self.word
        if held is None or word is None:
            return
        try:
            found, useless = word_about(self.file.path, held.info, word.owner)
        except OSError as error:
            raise ManifestError(f"{manifest_path(self.file.path)}: {error.strerror}") from None
        mine = None if found is None else found.for_target(word.target)
        if mine is not None:
            word.hear_at_once(mine.encode())
        elif self._policy.lacks_word(held.info) and not self._without_manifest:
            why = useless or f"there is no {manifest_path(self.file.path)} for {word.target}"
            raise ManifestError(
                f"{self.file.path} is not offered: {why}, and the owner's manifests of older releases are known, so "
                "no device would take it: put its own beside it, or say --without-manifest"
            )

    def keep_beside(self) -> None:
        """Put signatures of the word that lies beside the file into it, where it lacks some; no other word."""
        path = manifest_path(self.file.path)
        try:
            known, word = read_manifest(path), None if self.word is None else self.word.current
            if known is not None and word is not None and (known.seq, known.value) == (word.seq, word.value):
                add_word(path, word)
        except (PatcherError, OSError) as error:
            _log.debug("%s gets no signatures: %s", path, error)

    def may_be_announced(self, info: PatchInfo) -> bool:
        """See ``Policy.may_be_announced``; by v1 alone until it is known what the network has of the owner."""
        has_listened = self.word is None or self.word.has_listened
        return has_listened and self._policy.may_be_announced(info)

    @property
    def says(self) -> str:
        """Who may take what, in a line; empty without a word."""
        return "" if self._policy.manifest is None else describe(self._policy.manifest)

    @property
    def _policy(self) -> Policy:
        return Policy(None if self.word is None else self.word.current)
