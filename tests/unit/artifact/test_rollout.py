"""Revisions of the owner's word: what each command changes, and what it leaves as it was."""

from __future__ import annotations

import pytest

from pypatcher.artifact.rollout import FIRST, Change, describe, next_word, parse_share, steps_and_brake
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.errors import ManifestError, SettingError
from tests.support.manifests import OWNER, STRANGER, file_word, release

MADE = 1_790_000_000


@pytest.mark.parametrize(
    ("text", "share"),
    [("25%", 2500), ("0.5%", 50), ("0.01%", 1), ("100%", ALL), ("0%", 0), ("all", ALL), ("first", FIRST)],
)
def test_a_share_is_a_percentage_or_a_word(text: str, share: int) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", ["", "25", "101%", "-1%", "0.001%", "1e1%", "25 %", "٢٥%", "some"])
def test_anything_else_is_no_share(text: str) -> None:
    with pytest.raises(SettingError, match="share"):
        parse_share(text)


def test_a_revision_changes_what_it_is_told_and_nothing_else() -> None:
    first = file_word(change=Change(share=100, hold=Hold.HELD, stable=release("1.1.0"), note="a note"))
    second = next_word(first, OWNER, Change(share=2500), MADE)
    assert (second.revision, second.terms.share, second.terms.hold) == (1, 2500, Hold.HELD)
    assert (second.terms.stable, second.terms.note, second.terms.made) == (release("1.1.0"), "a note", MADE)
    third = next_word(second, OWNER, Change(hold=Hold.GO_ON, stable=None, note=""), MADE)
    assert (third.revision, third.terms.share, third.terms.hold) == (2, 2500, Hold.GO_ON)
    assert (third.terms.stable, third.terms.note) == (None, "")
    assert next_word(third, OWNER, Change(share=ALL), MADE).terms.keys == {b"i": first.terms.keys[b"i"], b"made": MADE}


def test_a_word_of_another_key_or_an_impossible_one_is_not_written() -> None:
    with pytest.raises(ManifestError):
        next_word(file_word(), STRANGER, Change(share=5), MADE)
    with pytest.raises(ManifestError):
        next_word(file_word(), OWNER, Change(stable=release("1.2.0", content=5)), MADE)
    with pytest.raises(ManifestError):
        next_word(file_word(), OWNER, Change(note="x" * 81), MADE)


def test_a_lost_word_is_followed_only_by_one_that_says_everything() -> None:
    first = file_word()
    above = first.seq + 7
    with pytest.raises(SettingError, match="all three"):
        next_word(first, OWNER, Change(share=5, hold=Hold.GO_ON), MADE, above=above)
    whole = Change(share=5, hold=Hold.GO_ON, stable=None)
    assert next_word(first, OWNER, whole, MADE, above=above).seq == above + 1
    assert next_word(first, OWNER, Change(hold=Hold.HELD), MADE, above=first.seq).seq == first.seq + 1
    with pytest.raises(SettingError, match="above"):
        next_word(next_word(first, OWNER, whole, MADE, above=above), OWNER, whole, MADE, above=above)
    with pytest.raises(SettingError, match="not of version"):
        next_word(first, OWNER, whole, MADE, above=above + 4096)


def test_after_revision_4095_a_higher_version_is_asked_for() -> None:
    last = next_word(file_word(), OWNER, Change(5, Hold.GO_ON, None), MADE, above=file_word().seq + 4094)
    assert last.revision == 4095
    with pytest.raises(SettingError, match="higher version"):
        next_word(last, OWNER, Change(hold=Hold.HELD), MADE)
    with pytest.raises(SettingError, match="higher version"):
        steps_and_brake(next_word(file_word(), OWNER, Change(5, Hold.GO_ON, None), MADE, above=file_word().seq + 3839),
                        OWNER, [1, ALL], Change(), MADE)  # fmt: skip


def test_steps_open_in_turn_and_the_brake_stands_above_them() -> None:
    held = file_word(change=Change(hold=Hold.HELD, stable=release("1.1.0")))
    steps, brake = steps_and_brake(held, OWNER, [100, 1000, 5000, ALL], Change(), MADE)
    assert [(step.revision, step.terms.share, step.terms.hold) for step in steps] == [
        (1, 100, 0),
        (2, 1000, 0),
        (3, 5000, 0),
        (4, ALL, 0),
    ]
    assert (brake.revision, brake.terms.hold) == (256, Hold.HELD)
    assert brake.terms.stable == release("1.1.0")
    _, later = steps_and_brake(brake, OWNER, [100], Change(), MADE)
    assert later.revision == 512


@pytest.mark.parametrize("shares", [[], [5, 5], [10, 5]])
def test_steps_that_do_not_grow_are_refused(shares: list[int]) -> None:
    with pytest.raises(SettingError, match="grow"):
        steps_and_brake(file_word(), OWNER, shares, Change(), MADE)


def test_a_word_is_described_in_one_line() -> None:
    stable = release("1.1.0")
    assert describe(file_word()) == "version 1.2.0, revision 0: all may take it, as soon as it runs anywhere"
    described = {
        Change(share=FIRST): "only devices with PYPATCHER_ROLLOUT=first take it; the others stay where they are",
        Change(share=2550, stable=stable): "25.5 % of the devices may take it; the others may take 1.1.0",
        Change(hold=Hold.HELD): "nobody takes it now; the others stay where they are",
        Change(hold=Hold.RECALLED, stable=stable): "nobody takes it, and who is on trial of it goes back; "
        "the others may take 1.1.0",
    }
    for change, text in described.items():
        assert describe(file_word(change=change)) == f"version 1.2.0, revision 0: {text}"
