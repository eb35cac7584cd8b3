"""Keeps the owner's word beside the program of a device, by the rule of its node.

install.md "The owner's word". Not here: the order of the writes (``install.words``), and who obeys (``orders``).
"""

from __future__ import annotations

from collections.abc import Callable

from pypatcher.artifact.manifest import Manifest
from pypatcher.install import Installation
from pypatcher.install.orders import Rule
from pypatcher.install.words import NewWord
from pypatcher.keys import OwnerKey
from pypatcher.update.orders import word_name
from pypatcher.update.word import Kept, newest_kept, read_floor, write_floor

__all__ = ["InstallationStore"]


class InstallationStore:
    """Keeps a word beside the program; see ``word.WordStore``.

    Args:
        rule: what the device does by a word; asked for each that is kept.
    """

    def __init__(self, installation: Installation, owner: OwnerKey, rule: Callable[[Manifest], Rule]) -> None:
        self._installation = installation
        self._name = word_name(owner)
        self._rule = rule

    def read(self) -> Kept:
        """See ``WordStore``."""
        data, flag = self._installation.words.read(self._name)
        return Kept(data or b"", None if flag is None else read_floor(flag))

    def keep(self, word: Manifest) -> Manifest:
        """See ``WordStore``; what it forbids is set aside before, what it permits is staged after."""
        kept = word

        def choose(stored: bytes | None) -> NewWord:
            nonlocal kept
            kept = newest_kept(word, stored)
            return NewWord(kept.encode_kept(), write_floor(kept.seq), self._rule(kept))

        self._installation.words.keep(self._name, choose)
        return kept
