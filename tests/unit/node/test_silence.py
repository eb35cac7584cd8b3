"""A device that hears neither its owner nor its fleet says so, by its own uptime."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.mutable_item import MutableItem
from pypatcher.node.report import NodeReport, decode_report
from pypatcher.node.silence import DAY, SilenceWatch, WordlessWatch
from pypatcher.update.policy import Policy
from pypatcher.update.word import Kept, OwnersWord
from tests.support.manifests import OWNER_KEY, TARGET, release, word

GIVERS = [(f"198.51.{number}.7", 4433) for number in range(4)]
START, LATER = 1000.0, 1000.0 + DAY + 1


class Listening:
    """A word in memory, and a clock that is set."""

    def __init__(self, kept: Kept) -> None:
        self.kept = kept
        self.now = START
        self.word = OwnersWord(OWNER_KEY, TARGET, self, clock=lambda: self.now)
        self.watch = SilenceWatch(self.word, START)

    def read(self) -> Kept:
        return self.kept

    def keep(self, word: object) -> None:
        pass

    def hear(self, number: int, *, forged: bool = False, version: str = "1.2.0") -> None:
        item = word(version).item(0)
        assert item is not None
        if forged:
            item = MutableItem(item.public_key, item.salt, item.seq + 1, item.value, item.signature)
        asyncio.run(self.word.hear(item, GIVERS[number]))

    def reasons(self) -> str:
        return "; ".join(self.watch.reasons(self.now, self.now))


@pytest.fixture
def device() -> Listening:
    return Listening(Kept(word().encode_kept(), word().seq))


def test_a_day_without_the_owner_is_said_until_he_is_heard(device: Listening) -> None:
    assert device.reasons() == ""
    device.now = LATER
    assert device.reasons() == "the owner's manifest was heard of nobody for 24 hours"
    device.hear(0)
    assert device.reasons() == ""
    assert device.watch.heard(LATER + 5) == (5.0, 1)


def test_an_older_word_is_no_word_of_the_owner(device: Listening) -> None:
    device.now = LATER
    device.hear(0, version="1.1.0")
    assert "heard of nobody" in device.reasons()


def test_without_any_manifest_only_the_fleet_is_missed() -> None:
    watch = Listening(Kept()).watch
    assert watch.reasons(None, START + DAY) == []
    assert watch.reasons(None, LATER) == ["no member of the fleet was met for 24 hours: is a seed up?"]
    assert watch.reasons(LATER - 5, LATER) == []
    assert watch.heard(LATER) == (None, 0)


def test_who_is_in_the_way_is_said(device: Listening) -> None:
    device.hear(0)
    device.hear(1, forged=True)
    assert "1 networks hand out manifests that he did not sign" in device.reasons()
    device.now = LATER + DAY
    for giver in GIVERS[:2]:
        device.word.miss(giver)
    assert "gone from" not in device.reasons()
    device.word.miss(GIVERS[2])
    assert "his manifest is gone from 3 networks that kept it" in device.reasons()


def test_a_release_without_its_manifest_is_said_after_a_day() -> None:
    policy, watch = Policy(word("1.2.0")), WordlessWatch()
    named = [release("1.1.0"), release("1.3.0")]
    assert watch.overdue(named, policy.lacks_word, START) == []
    assert watch.overdue(named, policy.lacks_word, LATER) == ["1.3.0"]
    assert watch.overdue([], policy.lacks_word, LATER) == []
    assert watch.overdue(named, policy.lacks_word, LATER + 1) == []


def test_the_report_tells_how_the_owner_is_heard() -> None:
    report = NodeReport(now=lambda: 5000.0)
    report.listens("version 1.2.0", 60.0, 4, "nobody")
    told = decode_report(report.take())
    assert told is not None
    assert (told.word, told.word_heard, told.word_networks, told.fleet) == ("version 1.2.0", 4940.0, 4, "nobody")
    report.listens("version 1.2.0", None, 0, "")
    told = decode_report(report.take())
    assert told is not None
    assert (told.word_heard, told.fleet) == (4940.0, "")
