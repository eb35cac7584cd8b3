"""The owner's word: which bytes are one, what it says, and which of two counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.manifest import FILE_LIMIT, POSITIONS, Manifest, ManifestFile, newer_word, pointer_salt
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.artifact.terms import ALL, Hold, Terms, write_terms
from pypatcher.bencode import decode, encode
from pypatcher.errors import ManifestError, PatcherError
from pypatcher.keys import OwnerKey
from pypatcher.mutable_item import MAX_VALUE
from pypatcher.version import Version
from tests.support.manifests import (
    OWNER,
    OWNER_KEY,
    STRANGER,
    TARGET,
    file_word,
    release,
    unchecked,
    word,
    word_of,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "manifest.json").read_text())


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["what"])
def test_the_bytes_of_the_vectors(vector: dict[str, str]) -> None:
    read = ManifestFile.decode(bytes.fromhex(vector["file"]))
    assert read.encode().hex() == vector["file"]
    assert read.terms.info == release(vector["version"])
    for target, device in vector["devices"].items():
        manifest = read.for_target(target)
        assert manifest is not None
        assert manifest.encode().hex() == device
        assert Manifest.decode(bytes.fromhex(device), OWNER_KEY, target) == manifest


def test_a_word_survives_its_bytes() -> None:
    known = word(share=2500, hold=1, note=b"slowly", made=1_790_000_000, stable=release("1.1.0").to_postcard())
    assert Manifest.decode(known.encode(), OWNER_KEY, TARGET) == known
    contested = replace(known, is_contested=True)
    assert Manifest.decode_kept(contested.encode_kept(), OWNER_KEY, TARGET) == contested
    assert not Manifest.decode_kept(contested.encode(), OWNER_KEY, TARGET).is_contested
    assert not Manifest.decode(contested.encode_kept(), OWNER_KEY, TARGET).is_contested
    assert (known.terms.share, known.hold, known.terms.note) == (2500, Hold.HELD, "slowly")
    assert known.terms.stable == release("1.1.0")


def test_absent_keys_mean_all_may_take_it() -> None:
    terms = word().terms
    assert (terms.share, terms.hold, terms.stable, terms.made, terms.note) == (ALL, Hold.GO_ON, None, None, "")


def test_every_item_is_valid_where_its_position_stores_it() -> None:
    known = word()
    for position in range(POSITIONS):
        item = known.item(position)
        assert item is not None
        assert item.verify()
        one = Manifest.from_item(item, OWNER_KEY, TARGET)
        assert one.mask == 1 << position
        assert one.item((position + 1) % POSITIONS) is None
        known_again = newer_word(one, known)
        assert known_again.signatures == known.signatures


def test_signatures_of_the_same_word_are_merged_and_bad_ones_dropped() -> None:
    whole = word()
    parts = [
        replace(whole, signatures=tuple(s if i == at else b"" for i, s in enumerate(whole.signatures))) for at in (0, 3)
    ]
    assert newer_word(*parts).mask == 0b1001
    data = encode({**decode(whole.encode()), b"s": [whole.signatures[0], bytes(64), b"x", b""]})  # type: ignore[dict-item]
    assert Manifest.decode(data, OWNER_KEY, TARGET).mask == 0b0001


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"le",
        encode({b"k": OWNER_KEY}),
        unchecked({b"i": release("1.2.0").to_postcard()}, Version(1, 2, 0).seq(), target="aarch64"),
        unchecked({b"i": release("1.2.0").to_postcard()}, Version(1, 2, 0).seq(), key=STRANGER),
        unchecked({b"i": release("1.2.0", key=STRANGER).to_postcard()}, Version(1, 2, 0).seq()),
        unchecked({b"i": release("1.2.0").to_postcard() + b"\0"}, Version(1, 2, 0).seq()),
        unchecked({b"i": release("1.2.0").to_postcard()}, Version(1, 2, 1).seq()),
        unchecked({b"i": release("1.2.0").to_postcard()}, Version(1, 1, 9).seq(4095)),
        unchecked({b"i": release("1.2.0").to_postcard()}, -1),
        unchecked({b"share": 5}, Version(1, 2, 0).seq()),
        unchecked([1], Version(1, 2, 0).seq()),
        word().encode()[:-1],
        word().encode() + b" " * 4096,
    ],
)
def test_what_is_not_the_owners_word_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        Manifest.decode(data, OWNER_KEY, TARGET)


@given(
    st.binary(max_size=300) | st.recursive(st.integers() | st.binary(max_size=70), st.lists).map(repr).map(str.encode)
)
def test_no_bytes_do_worse_than_an_error(data: bytes) -> None:
    for read in (ManifestFile.decode, lambda data: Manifest.decode(data, OWNER_KEY, TARGET)):
        with pytest.raises(PatcherError):
            read(data)


@pytest.mark.parametrize(
    "keys",
    [
        {"share": ALL + 1},
        {"share": -1},
        {"share": b"5"},
        {"hold": 3},
        {"hold": 0},
        {"must": [b"cosign"]},
        {"must": b"cosign"},
        {"must": [5]},
        {"must": [[b"share"]]},
        {"must": [{}]},
        {"note": b"x" * 81},
        {"note": b"\xff"},
        {"note": b"\x1b[2J"},
        {"made": -1},
        {"co": b"x" * 64},
        {"tree": b"short"},
        {"stable": b"rubbish"},
        {"stable": release("1.1.0", key=STRANGER).to_postcard()},
        {"stable": release("1.2.0", content=1).to_postcard()},
    ],
)
def test_terms_that_are_not_understood_hold_the_release_and_count(keys: dict[str, object]) -> None:
    known = word(**keys)  # type: ignore[arg-type]
    assert known.hold is Hold.HELD
    assert known.terms.not_understood
    assert known.terms.stable is None
    with pytest.raises(ManifestError):
        write_terms(known.terms.keys, OWNER_KEY, known.seq)


def test_a_recall_stays_one_whatever_else_is_not_understood() -> None:
    assert word(hold=2, must=[b"new"]).hold is Hold.RECALLED


def test_stable_stays_good_beside_terms_that_are_not_understood() -> None:
    assert word(must=[b"new"], stable=release("1.1.0").to_postcard()).terms.stable == release("1.1.0")


def test_unknown_keys_are_kept_and_change_nothing_but_musts() -> None:
    known = word(colour=b"red", must=[b"share", b"tree"])
    assert known.hold is Hold.GO_ON
    assert known.terms.keys[b"colour"] == b"red"
    assert decode(known.value) == known.terms.keys


def test_the_higher_seq_counts_whichever_comes_first() -> None:
    old, new = word("1.2.0", hold=1), word("1.2.0", revision=1)
    assert newer_word(old, new) == new
    assert newer_word(new, old) == new
    assert newer_word(None, old) is old
    assert newer_word(word("1.3.0"), new) == word("1.3.0")


def test_of_two_words_under_one_seq_the_one_that_holds_more_counts() -> None:
    free, held, recalled = word(share=5), word(share=6, hold=1), word(share=7, hold=2)
    for first, second in ((free, held), (held, recalled), (free, recalled)):
        assert newer_word(first, second).value == newer_word(second, first).value == second.value
        assert not newer_word(first, second).is_contested


def test_devices_agree_on_two_words_that_hold_alike() -> None:
    one, other = word(share=5), word(share=6)
    assert newer_word(one, other) == newer_word(other, one)


@pytest.mark.parametrize("revision", [0, 3])
def test_two_releases_under_one_version_are_held_until_a_higher_one(revision: int) -> None:
    one, other = word("1.2.0"), word("1.2.0", content=1, revision=revision)
    for contested in (newer_word(one, other), newer_word(other, one)):
        assert contested.hold is Hold.HELD
        assert contested.seq == other.seq
        assert newer_word(contested, word("1.2.0", revision=9)).hold is Hold.HELD
        assert newer_word(contested, word("1.2.1")).hold is Hold.GO_ON


words = st.builds(
    word,
    st.sampled_from(["1.2.0", "1.2.1"]),
    content=st.integers(0, 1),
    revision=st.integers(0, 2),
    share=st.integers(0, 2),
    hold=st.integers(1, 2),
)


@given(st.lists(words, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_the_order_in_which_words_come_changes_nothing(heard: list[Manifest], rng: object) -> None:
    def last(order: list[Manifest]) -> Manifest | None:
        known = None
        for each in order:
            known = newer_word(known, each)
        return known

    shuffled = list(heard)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    forwards, otherwise = last(heard), last(shuffled)
    assert forwards is not None and otherwise is not None
    assert (forwards.seq, forwards.value) == (otherwise.seq, otherwise.value)


def test_a_file_names_every_target_and_is_the_same_each_time() -> None:
    change = Change(share=2500, stable=release("1.1.0"))
    one = first_word(OWNER, release("1.2.0"), ["x86_64", "armv7"], change)
    assert one.encode() == first_word(OWNER, release("1.2.0"), ["armv7", "x86_64"], change).encode()
    assert ManifestFile.decode(one.encode()) == one
    assert one.for_target("aarch64") is None
    for target in ("armv7", "x86_64"):
        manifest = one.for_target(target)
        assert manifest is not None
        assert Manifest.decode(manifest.encode(), OWNER_KEY, target) == manifest


def test_a_file_loses_bad_signatures_and_is_refused_without_any() -> None:
    one = file_word(targets=["armv7", "x86_64"])
    keys = decode(one.encode())
    assert isinstance(keys, dict)
    mixed = {b"armv7": [bytes(64)] * 4, b"x86_64": list(one.signatures["x86_64"])}
    assert list(ManifestFile.decode(encode({**keys, b"s": mixed})).signatures) == ["x86_64"]
    for signatures in ({}, {b"armv7": [bytes(64)] * 4}, {b"\xff\xff": list(one.signatures["armv7"])}, [b""] * 4):
        with pytest.raises(ManifestError):
            ManifestFile.decode(encode({**keys, b"s": signatures}))  # type: ignore[dict-item]
    with pytest.raises(ManifestError, match="at most"):
        ManifestFile.decode(bytes(FILE_LIMIT + 1))


def test_a_file_takes_in_the_signatures_of_the_same_word() -> None:
    whole = file_word(targets=["armv7", "x86_64"])
    part = replace(whole, signatures={"armv7": (whole.signatures["armv7"][0], b"", b"", b"")})
    for target in whole.signatures:
        manifest = whole.for_target(target)
        assert manifest is not None
        part = part.merged(manifest)
    assert part == whole


def test_the_largest_word_fits_900_bytes() -> None:
    info = release("8191.16383.16383")
    largest = replace(info, size=(1 << 32) - 1)
    keys = {
        b"i": largest.to_postcard(),
        b"stable": replace(release("8191.16383.16382"), size=(1 << 32) - 1).to_postcard(),
        b"tree": bytes(17),
        b"stree": bytes(17),
        b"otree": bytes(17),
        b"share": ALL - 1,
        b"hold": 2,
        b"must": [b"share", b"tree"],
        b"made": (1 << 53) - 1,
        b"note": b"x" * 80,
        b"co": bytes(65 * 5),
    }
    assert len(encode(keys)) <= 900
    with pytest.raises(ManifestError, match=str(MAX_VALUE)):
        write_terms({b"i": info.to_postcard(), b"padding": bytes(MAX_VALUE)}, OWNER_KEY, info.version.seq())


def test_salts_bind_the_target_and_the_position() -> None:
    assert pointer_salt("armv7", 2) == b"pypatcher:armv7:2"
    item = word().item(0)
    assert item is not None
    for owner, target in ((OwnerKey(STRANGER.public), TARGET), (OWNER_KEY, "aarch64")):
        with pytest.raises(ManifestError):
            Manifest.from_item(item, owner, target)


def test_terms_are_read_for_the_seq_that_was_signed() -> None:
    known = word("1.2.0", revision=5)
    assert known.revision == 5
    assert Terms.read(known.value, OWNER_KEY, known.seq) == known.terms
    assert word_of({b"i": release("1.2.0").to_postcard()}, "1.2.0", 4095).revision == 4095
