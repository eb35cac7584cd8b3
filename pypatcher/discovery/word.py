"""The interface to the owner's word on this node, for the sources that hear it and the exchanges that pass it on.

Here stand the protocol and the answers to a word that was heard. Not here: which of two words counts
(``artifact.manifest``), where it is kept (``update.word``), and what it lets a device do (``update.policy``).
"""

from __future__ import annotations

import enum
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.artifact.manifest import Manifest
from pypatcher.keys import OwnerKey
from pypatcher.mutable_item import MutableItem
from pypatcher.waiting import News

__all__ = ["Heard", "WordKeeper"]


class Heard(enum.Enum):
    """What became of a word that somebody told."""

    NEW = "it is the owner's word from now on"
    MORE = "it is the word that is known, with signatures that were lacking here"
    SAME = "it is the word that is known"
    OLDER = "the owner has said something newer"
    FORGED = "the owner did not sign it, not for this target, or it names no release of his"


class WordKeeper(Protocol):
    """The newest word of one owner for one target; it is verified, and never replaced by an older one.

    Attributes:
        news: told whenever ``current`` changed.
    """

    owner: OwnerKey
    target: str
    news: News

    @property
    def current(self) -> Manifest | None:
        """The newest word; None: none was ever heard, or what was kept of it cannot be read."""

    @property
    def seq(self) -> int:
        """The highest seq that was ever believed here, -1 for none; ``current`` may be lost, this is not."""

    @property
    def is_heard(self) -> bool:
        """Whether the DHT gave ``current`` whole of late: the owner's word gets here, whatever peers say."""

    async def hear(self, word: bytes | MutableItem, giver: Address | None = None) -> Heard:
        """Take a whole word: an item of the DHT, or the bytes of a device's form. When it returns it is kept.

        Args:
            giver: who sent it; None: it came from this device itself.
        """

    def miss(self, giver: Address) -> None:
        """A node that should have the word, for it was stored there, has nothing."""

    def listened(self) -> None:
        """Whoever could tell a word was asked, or could not be for a minute: none may mean now that there is none."""
