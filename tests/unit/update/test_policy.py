"""What the owner's word lets a device do: every combination of its words with what the device has."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import Manifest, newer_word
from pypatcher.artifact.terms import ALL
from pypatcher.update.policy import Place, Policy, draw
from pypatcher.version import Version
from tests.support.manifests import release, word

DEVICE = bytes(range(16))
OLD, STABLE, WITHDRAWN, NEW = (release(version) for version in ("1.0.0", "1.1.0", "1.2.0", "1.3.0"))
OTHER_NEW = release("1.3.0", content=1)
AHEAD = release("1.4.0")
OUT = draw(DEVICE, NEW.release_id)
"""The share at which this device does not take part yet."""


def words() -> dict[str, Manifest | None]:
    stable = STABLE.to_postcard()
    two_words = newer_word(word("1.3.0"), word("1.3.0", content=1, revision=1))
    return {
        "no manifest ever": None,
        "all": word("1.3.0"),
        "all, stable": word("1.3.0", stable=stable),
        "share 0": word("1.3.0", share=0),
        "share 0, stable": word("1.3.0", share=0, stable=stable),
        "share below": word("1.3.0", share=OUT, stable=stable),
        "share above": word("1.3.0", share=OUT + 1, stable=stable),
        "held": word("1.3.0", hold=1),
        "held, stable": word("1.3.0", hold=1, stable=stable),
        "recalled": word("1.3.0", hold=2),
        "recalled, stable": word("1.3.0", hold=2, stable=stable),
        "unknown must": word("1.3.0", must=[b"cosign"], stable=stable),
        "two releases under one version": replace(two_words),
        "hotfix over a held one": word("1.4.0", stable=STABLE.to_postcard()),
    }


WORDS = words()
TAKEN = {
    # the word                          from OLD   from STABLE  from WITHDRAWN
    "all": (NEW, NEW, NEW),
    "all, stable": (NEW, NEW, NEW),
    "share 0": (None, None, None),
    "share 0, stable": (STABLE, None, NEW),
    "share below": (STABLE, None, NEW),
    "share above": (NEW, NEW, NEW),
    "held": (None, None, None),
    "held, stable": (STABLE, None, None),
    "recalled": (None, None, None),
    "recalled, stable": (STABLE, None, None),
    "unknown must": (STABLE, None, None),
    "two releases under one version": (None, None, None),
    "hotfix over a held one": (AHEAD, AHEAD, AHEAD),
}


def nothing(_: PatchInfo) -> bool:
    return False


@pytest.mark.parametrize("name", TAKEN)
@pytest.mark.parametrize("at", [0, 1, 2], ids=["old", "stable", "withdrawn"])
def test_which_release_a_device_takes(name: str, at: int) -> None:
    program = (OLD, STABLE, WITHDRAWN)[at]
    policy = Policy(WORDS[name], device_id=DEVICE)
    assert policy.wanted(program, program.version, nothing) == TAKEN[name][at]
    for info in (OLD, STABLE, WITHDRAWN, NEW, OTHER_NEW, AHEAD):
        assert policy.allows(info, program, program.version, nothing) == (info == TAKEN[name][at])


@pytest.mark.parametrize("name", TAKEN)
def test_a_refused_release_falls_through_to_stable(name: str) -> None:
    policy = Policy(WORDS[name], device_id=DEVICE)
    wanted = policy.wanted(OLD, OLD.version, lambda info: info.version > STABLE.version)
    assert wanted == (STABLE if policy.manifest is not None and policy.manifest.terms.stable else None)


@pytest.mark.parametrize("name", TAKEN)
def test_nothing_older_than_what_was_confirmed_is_taken(name: str) -> None:
    assert Policy(WORDS[name], device_id=DEVICE).wanted(AHEAD, AHEAD.version, nothing) is None


def test_without_any_manifest_everything_goes_on_as_ever() -> None:
    policy = Policy()
    for info in (OLD, NEW):
        assert policy.allows(info, OLD, OLD.version, nothing)
        assert policy.may_stay_staged(info)
        assert policy.may_be_announced(info)
        assert policy.may_be_confirmed_by_time(info)
        assert not policy.gives_way(info)
        assert not policy.must_go_back(info)


def test_where_a_manifest_is_required_nothing_is_taken_without() -> None:
    policy = Policy(is_required=True)
    assert not policy.allows(NEW, OLD, OLD.version, nothing)
    assert not policy.may_stay_staged(NEW)
    assert Policy(WORDS["all"], is_required=True).allows(NEW, OLD, OLD.version, nothing)


STAGED = {
    "all": {NEW},
    "all, stable": {NEW, STABLE},
    "share 0": {NEW},
    "share 0, stable": {NEW, STABLE},
    "share below": {NEW, STABLE},
    "share above": {NEW, STABLE},
    "held": set(),
    "held, stable": {STABLE},
    "recalled": set(),
    "recalled, stable": {STABLE},
    "unknown must": {STABLE},
    "two releases under one version": set(),
    "hotfix over a held one": {AHEAD, STABLE},
}


@pytest.mark.parametrize("name", STAGED)
def test_what_a_guard_without_a_draw_leaves_staged(name: str) -> None:
    policy = Policy(WORDS[name])
    kept = {info for info in (OLD, STABLE, WITHDRAWN, NEW, OTHER_NEW, AHEAD) if policy.may_stay_staged(info)}
    assert kept == STAGED[name]


@pytest.mark.parametrize("name", TAKEN)
def test_what_the_policy_allows_now_may_stay_staged(name: str) -> None:
    policy = Policy(WORDS[name], device_id=DEVICE)
    for program in (OLD, STABLE, WITHDRAWN):
        wanted = policy.wanted(program, program.version, nothing)
        assert wanted is None or policy.may_stay_staged(wanted)


@pytest.mark.parametrize(
    ("name", "trial", "confirmed_by_time", "goes_back"),
    [
        ("all", NEW, True, False),
        ("share 0", NEW, True, False),
        ("share below", NEW, True, False),
        ("share below", WITHDRAWN, False, False),
        ("share below", STABLE, True, False),
        ("held", NEW, False, False),
        ("held", STABLE, True, False),
        ("held, stable", WITHDRAWN, False, False),
        ("recalled", NEW, False, True),
        ("recalled", WITHDRAWN, True, False),
        ("recalled, stable", WITHDRAWN, False, True),
        ("recalled, stable", STABLE, True, False),
        ("recalled, stable", AHEAD, True, False),
        ("unknown must", NEW, False, False),
        ("two releases under one version", NEW, False, False),
        ("two releases under one version", OTHER_NEW, False, False),
        ("hotfix over a held one", NEW, False, False),
    ],
)
def test_what_becomes_of_a_trial(name: str, trial: PatchInfo, confirmed_by_time: bool, goes_back: bool) -> None:
    policy = Policy(WORDS[name], device_id=DEVICE)
    assert policy.may_be_confirmed_by_time(trial) == confirmed_by_time
    assert policy.gives_way(trial) != confirmed_by_time
    assert policy.must_go_back(trial) == goes_back


@pytest.mark.parametrize(
    ("name", "announced"),
    [
        ("all", {NEW}),
        ("all, stable", {NEW, STABLE}),
        ("share above", {STABLE}),
        ("held", set()),
        ("recalled, stable", {STABLE}),
        ("unknown must", {STABLE}),
    ],
)
def test_older_nodes_hear_of_open_releases_alone(name: str, announced: set[PatchInfo]) -> None:
    policy = Policy(WORDS[name])
    assert {info for info in (OLD, STABLE, WITHDRAWN, NEW, AHEAD) if policy.may_be_announced(info)} == announced


def test_a_release_above_the_newest_word_lacks_one() -> None:
    assert Policy(WORDS["all"]).lacks_word(AHEAD)
    assert not Policy(WORDS["all"]).lacks_word(NEW)
    assert not Policy().lacks_word(AHEAD)


def test_the_draw_is_the_formula_and_even() -> None:
    ids = [random.Random(number).randbytes(16) for number in range(4000)]
    numbers = [draw(each, NEW.release_id) for each in ids]
    assert all(0 <= number < ALL for number in numbers)
    assert 800 < sum(number < 2500 for number in numbers) < 1200
    assert draw(DEVICE, NEW.release_id) != draw(DEVICE, STABLE.release_id)
    assert draw(bytes(16), bytes(32)) == 267


def test_a_device_may_be_first_or_last() -> None:
    first, last = (Policy(word("1.3.0", share=1), device_id=DEVICE, place=place) for place in (Place.FIRST, Place.LAST))
    assert first.wanted(OLD, OLD.version, nothing) == NEW
    assert last.wanted(OLD, OLD.version, nothing) is None
    almost = Policy(word("1.3.0", share=ALL - 1), device_id=DEVICE, place=Place.LAST)
    assert almost.wanted(OLD, OLD.version, nothing) is None
    assert Policy(word("1.3.0"), device_id=DEVICE, place=Place.LAST).wanted(OLD, OLD.version, nothing) == NEW


infos = st.sampled_from([release(f"1.{minor}.0", content=content) for minor in range(4) for content in (0, 1)])


@st.composite
def any_words(draw: st.DrawFn) -> Manifest:
    minor, keys = draw(st.integers(1, 3)), {}
    if draw(st.booleans()):
        keys["stable"] = release(f"1.{draw(st.integers(0, minor - 1))}.0").to_postcard()
    if hold := draw(st.integers(0, 2)):
        keys["hold"] = hold  # type: ignore[assignment]
    if (share := draw(st.sampled_from([0, OUT, OUT + 1, ALL]))) < ALL:
        keys["share"] = share  # type: ignore[assignment]
    return word(f"1.{minor}.0", content=draw(st.integers(0, 1)), revision=draw(st.integers(0, 3)), **keys)


@given(st.lists(any_words(), max_size=6), st.sampled_from([OLD, STABLE, WITHDRAWN]))
def test_no_order_of_words_moves_a_device_back_or_past_the_owner(heard: list[Manifest], program: PatchInfo) -> None:
    known: Manifest | None = None
    newest = program.version
    for each in heard:
        known = newer_word(known, each)
        wanted = Policy(known, device_id=DEVICE).wanted(program, newest, nothing)
        if wanted is not None:
            assert wanted.version > newest
            assert wanted in (known.terms.info, known.terms.stable)
            program, newest = wanted, wanted.version


@given(st.lists(any_words(), max_size=6), st.sampled_from([OLD, STABLE, WITHDRAWN, NEW]))
def test_no_device_is_stuck_once_the_owner_opens_a_higher_version(heard: list[Manifest], program: PatchInfo) -> None:
    known: Manifest | None = None
    for each in heard:
        known = newer_word(known, each)
    opened = newer_word(known, word("2.0.0"))
    assert Policy(opened, device_id=DEVICE).wanted(program, program.version, nothing) == release("2.0.0")
    assert Version(2, 0, 0) > program.version
