"""The owner's word as a node keeps it: the newest one wins, an older one is never believed again, and it is on disk."""

from __future__ import annotations

import asyncio
import errno
import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypatcher.artifact.manifest import Manifest, newer_word
from pypatcher.artifact.terms import Hold
from pypatcher.discovery.word import Heard, WordKeeper
from pypatcher.mutable_item import MutableItem
from pypatcher.node.conflicts import Conflicts
from pypatcher.update.word import FolderStore, Kept, OwnersWord
from tests.support.manifests import OWNER_KEY, STRANGER, TARGET, release, unchecked, word
from tests.support.node_fakes import EventLog

GIVER = ("198.51.100.7", 4433)


class MemoryStore:
    """Keeps what it is given, or fails as a full disk does."""

    def __init__(self) -> None:
        self.kept = Kept()
        self.is_full = False
        self.read_errors = 0
        self.writes = 0

    def read(self) -> Kept:
        if self.read_errors:
            self.read_errors -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self.kept

    def keep(self, word: Manifest) -> Manifest:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.writes += 1
        self.kept = Kept(word.encode_kept(), word.seq)
        return word


def owners_word(store: MemoryStore | FolderStore) -> OwnersWord:
    return OwnersWord(OWNER_KEY, TARGET, store, clock=lambda: 5.0)


def item(manifest: Manifest, position: int = 0) -> MutableItem:
    found = manifest.item(position)
    assert found is not None
    return found


def hear(known: OwnersWord, told: bytes | MutableItem | Manifest) -> Heard:
    return asyncio.run(known.hear(told.encode() if isinstance(told, Manifest) else told, GIVER))


def test_the_first_word_is_kept_before_it_is_told() -> None:
    async def scene() -> None:
        store = MemoryStore()
        known = owners_word(store)
        keeper: WordKeeper = known
        news = keeper.news.next
        assert (known.current, known.seq, known.had_one) == (None, -1, False)
        assert await keeper.hear(item(word()), GIVER) is Heard.NEW
        assert news.is_set()
        assert store.kept.floor == known.seq == word().seq
        assert known.contact.networks == {"198.51.100.0/24": 5.0}

    asyncio.run(scene())


def test_an_older_word_is_not_believed_after_a_restart(tmp_path: Path) -> None:
    assert hear(owners_word(FolderStore(tmp_path / "word")), word("1.3.0", revision=2)) is Heard.NEW
    known = owners_word(FolderStore(tmp_path / "word"))
    for old in (word("1.2.0"), word("1.3.0"), word("1.3.0", revision=1)):
        assert hear(known, old) is Heard.OLDER
        assert hear(known, item(old)) is Heard.OLDER
    assert known.current == word("1.3.0", revision=2)


def test_a_newer_word_that_another_process_kept_stays(tmp_path: Path) -> None:
    first, second = owners_word(FolderStore(tmp_path)), owners_word(FolderStore(tmp_path))
    hear(first, word(revision=2, hold=2))
    assert hear(second, word(revision=1)) is Heard.NEW
    for known in (second, owners_word(FolderStore(tmp_path))):
        assert known.current == word(revision=2, hold=2)
        assert hear(known, word(revision=1)) is Heard.OLDER


@pytest.mark.parametrize("damage", [b"", b"d", b"\0" * 300])
def test_a_damaged_file_is_said_and_forgets_no_seq(tmp_path: Path, damage: bytes) -> None:
    hear(owners_word(FolderStore(tmp_path)), word("1.3.0"))
    (tmp_path / "manifest").write_bytes(damage)
    known = owners_word(FolderStore(tmp_path))
    assert known.problem
    assert (known.current, known.seq, known.had_one) == (None, word("1.3.0").seq, True)
    assert hear(known, word("1.2.0")) is Heard.OLDER
    assert known.current is None
    assert hear(known, word("1.3.0")) is Heard.NEW
    assert (known.current, known.problem) == (word("1.3.0"), "")


def test_what_could_not_be_looked_at_counts_as_a_word_until_it_is() -> None:
    store = MemoryStore()
    store.read_errors = 1
    known = owners_word(store)
    assert (known.current, known.had_one) == (None, True)
    known.listened()
    assert (known.had_one, known.problem) == (False, "")
    store.kept, store.read_errors = Kept(word("1.2.0").encode_kept(), word("1.2.0").seq), 1
    known = owners_word(store)
    known.listened()
    assert (known.current, known.had_one, known.problem) == (word("1.2.0"), True, "")
    store.read_errors = 2
    known = owners_word(store)
    known.listened()
    assert known.had_one
    assert hear(known, word("1.3.0")) is Heard.NEW
    assert (known.had_one, known.problem) == (True, "")


def test_a_damaged_flag_still_says_that_there_was_a_word(tmp_path: Path) -> None:
    hear(owners_word(FolderStore(tmp_path)), word("1.3.0"))
    (tmp_path / "manifest").unlink()
    (tmp_path / "manifest.seen").write_bytes(b"\xff\xff")
    assert owners_word(FolderStore(tmp_path)).had_one


def test_signatures_of_one_word_are_merged() -> None:
    store = MemoryStore()
    known = owners_word(store)
    told = word()
    assert [hear(known, item(told, position)) for position in (0, 2, 0)] == [Heard.NEW, Heard.MORE, Heard.SAME]
    assert known.current is not None
    assert known.current.mask == 0b101
    assert store.writes == 2


def test_what_the_owner_did_not_sign_changes_nothing() -> None:
    known = owners_word(MemoryStore())
    hear(known, word())
    keys = {b"i": release("9.0.0", key=STRANGER).to_postcard()}
    bad = item(word("9.0.0"))
    forged = MutableItem(bad.public_key, bad.salt, bad.seq, bad.value, bytes(64))
    no_release = unchecked({b"x": 1}, word("9.0.0").seq)
    assert hear(known, forged) is Heard.FORGED
    assert hear(known, unchecked(keys, word("9.0.0").seq, STRANGER)) is Heard.FORGED
    assert hear(known, unchecked(keys, word("9.0.0").seq)) is Heard.FORGED
    assert hear(known, no_release) is Heard.FORGED
    assert hear(known, b"nothing") is Heard.FORGED
    assert known.seq == word().seq
    assert known.contact.forged == {"198.51.100.0/24": 5.0}


@pytest.mark.parametrize("other", [word("1.2.0", content=1), word("1.2.0", share=5)], ids=["release", "terms"])
def test_what_was_signed_twice_is_news_once(other: Manifest) -> None:
    """Each time that half of a fleet gave the other one, every device went through its files and locks anew."""
    known, first = owners_word(MemoryStore()), word("1.2.0")
    for told in (first, other, first, other):
        hear(known, told)
    news = known.news.next
    for told in (first, other):
        hear(known, told)
    assert not news.is_set()


def test_nobody_but_the_owner_has_a_release_contested() -> None:
    """The attack: the true word, and beside it the note that a device makes for itself, which no signature covers."""
    known = owners_word(MemoryStore())
    hear(known, word("1.3.0"))
    assert hear(known, replace(word("1.3.0"), is_contested=True).encode_kept()) is Heard.SAME
    assert known.current is not None
    assert (known.current.is_contested, known.current.hold) == (False, Hold.GO_ON)
    fresh = owners_word(MemoryStore())
    hear(fresh, replace(word("1.3.0"), is_contested=True).encode_kept())
    assert fresh.current == word("1.3.0")


def test_two_words_about_one_release_under_one_seq_are_noted() -> None:
    known = owners_word(MemoryStore())
    said = EventLog()
    conflicts = Conflicts(said.append, newer=False)
    for told in (word("1.2.0", share=100), word("1.2.0", share=200), word("1.2.0", share=100)):
        hear(known, told)
        conflicts.look_at_word(known.current, known.signed_twice)
    assert [(event.name, "two manifests as revision 0" in str(event)) for event in said] == [
        ("release.conflicts", True)
    ]
    hear(known, word("1.2.0", revision=1))
    conflicts.look_at_word(known.current, known.signed_twice)
    assert len(said) == 1


def test_another_release_at_a_lower_revision_holds_the_known_one() -> None:
    known = owners_word(MemoryStore())
    hear(known, word("1.3.0", revision=3))
    assert hear(known, item(word("1.3.0", content=1))) is Heard.NEW
    assert known.current is not None
    assert (known.current.revision, known.current.is_contested) == (3, True)
    assert hear(known, item(word("1.3.0", content=1))) is Heard.OLDER


def test_a_full_disk_forgets_nothing_while_the_node_lives() -> None:
    store = MemoryStore()
    known = owners_word(store)
    store.is_full = True
    assert hear(known, word()) is Heard.NEW
    assert known.current == word()
    store.is_full = False
    assert hear(known, word()) is Heard.SAME
    assert store.kept.floor == word().seq


WORDS = [
    word("1.2.0"),
    word("1.2.0", revision=1, hold=1),
    word("1.2.0", revision=1, hold=2),
    word("1.2.0", content=1, revision=2),
    word("1.3.0", share=5),
    word("1.3.0", share=9),
]


@settings(max_examples=60, deadline=None)
@given(st.permutations(WORDS), st.integers(0, len(WORDS)))
def test_no_order_of_words_makes_a_difference(order: list[Manifest], restart: int) -> None:
    store = MemoryStore()
    known = owners_word(store)
    highest = -1
    for number, told in enumerate(itertools.chain(order, order)):
        if number == restart:
            known = owners_word(store)
        hear(known, told)
        assert known.seq >= highest
        highest = known.seq
    assert known.current == newer_word(word("1.3.0", share=5), word("1.3.0", share=9))


def test_a_peer_that_repeats_the_word_puts_no_device_to_rest() -> None:
    """The attack: where the DHT is kept from a device, tell it twice a day what it knows: it rested."""
    known = owners_word(MemoryStore())
    assert hear(known, word()) is Heard.NEW
    assert hear(known, word()) is Heard.SAME
    assert known.contact.heard == 5.0
    assert not known.is_heard
    assert hear(known, item(word())) is Heard.SAME
    assert known.is_heard
