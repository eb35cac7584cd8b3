"""The owner's word as this node keeps it: the newest one that was ever heard, verified, on disk before it counts.

design.md "The owner's word". One per owner and target. A lower seq is never believed again, whoever says it and
whatever becomes of the file. No clock decides anything here; monotonic seconds are noted for people, who ask when the
owner was last heard. Not here: which of two words counts (``artifact.manifest``), and what one lets a device do
(``policy``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pypatcher.addresses import Address, network_of
from pypatcher.artifact.manifest import MANIFEST_LIMIT, Manifest, newer_word
from pypatcher.discovery.word import Heard
from pypatcher.errors import ManifestError, PatcherError
from pypatcher.keys import OwnerKey
from pypatcher.mutable_item import MutableItem
from pypatcher.regular_file import read_regular
from pypatcher.version import REVISION_LIMIT
from pypatcher.waiting import News, wait_to_the_end

__all__ = ["FolderStore", "Kept", "NoStore", "OwnersWord", "WordContact", "WordStore", "newest_kept"]

_log = logging.getLogger("pypatcher")
_NETWORKS = 64
_OF_LATE = 13 * 3600.0
_SEQ_DIGITS = 17


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store has.

    Attributes:
        data: a device's form as it was kept; empty: there is none.
        floor: the highest seq that was ever kept, as the flag beside it says; None: there never was one, and 0 where
            it cannot be read any more.
    """

    data: bytes = b""
    floor: int | None = None


class WordStore(Protocol):
    """Where the word is kept over restarts and power cuts."""

    def read(self) -> Kept:
        """What was kept last.

        Raises:
            PatcherError, OSError: it cannot be looked at.
        """

    def keep(self, word: Manifest) -> Manifest:
        """Replace it by one rename; when this returns it outlives a power cut.

        Several processes of one program keep it in one place, and hear what they hear at different times.

        Returns:
            What is kept: ``word``, or what another process kept meanwhile where that counts more.

        Raises:
            PatcherError, OSError: it cannot be kept.
        """


@dataclass(slots=True)
class WordContact:
    """How the owner's word was heard in this run, for people.

    Attributes:
        heard: monotonic seconds at which somebody last gave it whole; None: not yet.
        networks: who gave it whole: network (/24, /48, or a host of the LAN) -> when last.
        forged: networks that gave an item of a higher seq that does not verify -> when last.
        missed: networks that have nothing where it was stored before -> when last.
    """

    heard: float | None
    networks: dict[str, float]
    forged: dict[str, float]
    missed: dict[str, float]

    def since(self, seconds: float, what: dict[str, float]) -> Collection[str]:
        """Those of ``what`` that were noted from that moment on."""
        return [network for network, when in what.items() if when >= seconds]


class OwnersWord:
    """The newest word of one owner for one target.

    Args:
        store: where it is kept; it is read at once.
        clock: monotonic seconds.

    Attributes:
        news: told whenever ``current`` changed.
        contact: how it was heard.
        has_listened: whether whoever could tell a word was asked, or could not be.
        signed_twice: the seq under which the owner signed two words about one release; -1 for none.
        problem: why what was kept cannot be read; empty: it can, or there was nothing.
    """

    def __init__(
        self, owner: OwnerKey, target: str, store: WordStore, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = owner
        self.target = target
        self.news = News()
        self.contact = WordContact(None, {}, {}, {})
        self.signed_twice = -1
        self.problem = ""
        self._store = store
        self._clock = clock
        self._lock = asyncio.Lock()
        self._current: Manifest | None = None
        self._floor: int | None = None
        self._is_kept, self._is_read = True, False
        self._in_dht_at = float("-inf")
        self.has_listened = False
        self._load()

    @property
    def current(self) -> Manifest | None:
        """The newest word; None: none was ever heard, or what was kept of it cannot be read."""
        return self._current

    @property
    def seq(self) -> int:
        """The highest seq that was ever believed here, -1 for none."""
        floor = -1 if self._floor is None else self._floor
        return floor if self._current is None else max(floor, self._current.seq)

    @property
    def is_heard(self) -> bool:
        """See ``discovery.word.WordKeeper``: within 13 hours, two of the reads that take no "the same"."""
        return self._current is not None and self._clock() - self._in_dht_at < _OF_LATE

    @property
    def had_one(self) -> bool:
        """Whether there ever was a word here: from then on none means none of this release, not none at all.

        While it cannot be told, since what is kept could not be looked at, it counts as one.
        """
        return not self._is_read or self._floor is not None or self._current is not None

    async def hear(self, word: bytes | MutableItem, giver: Address | None = None) -> Heard:
        """Take a whole word; see ``discovery.word.WordKeeper``."""
        async with self._lock:
            heard, chosen = self._judge(word)
            if chosen is not None and (chosen != self._current or not self._is_kept):
                await wait_to_the_end(asyncio.ensure_future(asyncio.to_thread(self._keep, chosen)))
            self._note(word, heard, giver)
        return heard

    def hear_at_once(self, word: bytes | MutableItem) -> Heard:
        """The same before the node runs, for what lies on this device: blocks, and there is no giver."""
        heard, chosen = self._judge(word)
        if chosen is not None and (chosen != self._current or not self._is_kept):
            self._keep(chosen)
            self.news.tell()
        return heard

    def miss(self, giver: Address) -> None:
        """A node that should have the word has nothing."""
        _note_network(self.contact.missed, giver, self._clock())

    def listened(self) -> None:
        """See ``discovery.word.WordKeeper``; what could not be looked at before is looked at once more."""
        if not self._is_read:
            self._load()
        self.has_listened = True
        self.news.tell()

    def _load(self) -> None:
        try:
            kept = self._store.read()
        except (PatcherError, OSError) as error:
            self.problem = f"the owner's word cannot be read: {error}"
            _log.warning("%s", self.problem)
            return
        self._is_read, self.problem = True, ""
        self._floor = kept.floor
        if not kept.data:
            if kept.floor is not None:
                self.problem = "the owner's word that was kept here is gone"
        else:
            try:
                self._current = Manifest.decode_kept(kept.data, self.owner, self.target)
            except ManifestError as error:
                self.problem = f"the owner's word that was kept here cannot be read: {error}"
                self._floor = kept.floor or 0
        if self.problem:
            _log.warning("%s; nothing below seq %s is believed", self.problem, self._floor)

    def _judge(self, word: bytes | MutableItem) -> tuple[Heard, Manifest | None]:
        """What it is, and the word that counts from now on if that may be another."""
        if isinstance(word, MutableItem) and self._is_past(word.seq):
            return Heard.OLDER, None
        try:
            if isinstance(word, MutableItem):
                told = Manifest.from_item(word, self.owner, self.target)
            else:
                told = Manifest.decode(word, self.owner, self.target)
        except ManifestError:
            return Heard.FORGED, None
        return (Heard.OLDER, None) if self._is_past(told.seq) else self._compare(self._current, told)

    def _compare(self, known: Manifest | None, told: Manifest) -> tuple[Heard, Manifest | None]:
        chosen = newer_word(known, told)
        is_noted = known is None or told.seq == self.signed_twice or known.value == told.value
        if known is not None and not is_noted and (known.seq, known.terms.info) == (told.seq, told.terms.info):
            self.signed_twice = told.seq
            self.news.tell()
        if known is None or _says(chosen) != _says(known):
            return Heard.NEW, chosen
        if (told.seq, told.value) != (known.seq, known.value):
            return Heard.OLDER, None
        return (Heard.SAME if chosen.signatures == known.signatures else Heard.MORE), chosen

    def _is_past(self, seq: int) -> bool:
        """Whether nothing of that seq can matter; a lower revision of the version that is known can, by its ``i``."""
        known = self._current
        return seq < self.seq and (known is None or seq // REVISION_LIMIT != known.seq // REVISION_LIMIT)

    def _keep(self, word: Manifest) -> None:
        """Durable before it counts; where that fails it counts all the same, for as long as this process lives."""
        try:
            word = self._store.keep(word)
        except (PatcherError, OSError) as error:
            if self._is_kept:
                _log.warning(
                    "the owner's word (seq %d) cannot be kept, and is forgotten at the end: %s", word.seq, error
                )
            self._is_kept = False
        else:
            self._is_kept = self._is_read = True
            self.problem = ""
        self._current = word
        self._floor = max(word.seq, self._floor or 0)

    def _note(self, word: bytes | MutableItem, heard: Heard, giver: Address | None) -> None:
        now = self._clock()
        if heard in (Heard.NEW, Heard.MORE, Heard.SAME):
            self.contact.heard = now
            if isinstance(word, MutableItem):
                self._in_dht_at = now
            if giver is not None:
                _note_network(self.contact.networks, giver, now)
        elif heard is Heard.FORGED and isinstance(word, MutableItem) and word.seq > self.seq and giver is not None:
            _note_network(self.contact.forged, giver, now)
        if heard in (Heard.NEW, Heard.MORE):
            self.news.tell()


def _says(word: Manifest) -> tuple[int, bytes, bool]:
    """All that matters of a word but for its signatures."""
    return word.seq, word.value, word.is_contested


def _note_network(noted: dict[str, float], giver: Address, now: float) -> None:
    network = network_of(giver)
    noted.pop(network, None)
    noted[network] = now
    if len(noted) > _NETWORKS:
        del noted[next(iter(noted))]


class NoStore:
    """For who needs the word for a moment, or has no place for it."""

    def read(self) -> Kept:
        """Nothing."""
        return Kept()

    def keep(self, word: Manifest) -> Manifest:
        """Nowhere."""
        return word


class FolderStore:
    """A folder of our own: ``manifest``, and beside it the flag ``manifest.seen`` with the highest seq as text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self) -> Kept:
        """See ``WordStore``."""
        data = _read(self._folder / "manifest", MANIFEST_LIMIT + 1)
        flag = _read(self._folder / "manifest.seen", _SEQ_DIGITS + 1)
        return Kept(data or b"", None if flag is None else read_floor(flag))

    def keep(self, word: Manifest) -> Manifest:
        """See ``WordStore``."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        word = newest_kept(word, _read(self._folder / "manifest", MANIFEST_LIMIT + 1))
        self._replace("manifest", word.encode_kept())
        self._replace("manifest.seen", write_floor(word.seq))
        return word

    def _replace(self, name: str, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(prefix=f"{name}.", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(temporary).replace(self._folder / name)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def newest_kept(word: Manifest, stored: bytes | None) -> Manifest:
    """Which counts: a word that was heard, or what is stored by now; damaged bytes do not."""
    if stored is None:
        return word
    try:
        return newer_word(Manifest.decode_kept(stored, word.owner, word.target), word)
    except ManifestError:
        return word


def write_floor(seq: int) -> bytes:
    """The flag's bytes."""
    return b"%d\n" % seq


def read_floor(flag: bytes) -> int:
    """The seq that a flag says; 0 where it is damaged: there was a word, and no more is known."""
    text = flag.strip()
    return int(text) if text.isdigit() and len(text) <= _SEQ_DIGITS else 0


def _read(path: Path, limit: int) -> bytes | None:
    try:
        return read_regular(path, limit)
    except FileNotFoundError:
        return None
