"""Who is said to hold what: bounded, forgotten in time, and never crowded out by something older."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any
from unittest import mock

from pypatcher.addresses import Address
from pypatcher.discovery.candidates import Candidate, Candidates
from tests.support.discovery import node, release

OLD, NEW = release("1.0.0"), release("2.0.0")


def candidate(number: int, info=NEW, port: int = 1) -> Candidate:  # type: ignore[no-untyped-def]
    return Candidate(info, node(number).public, (f"10.{number >> 8}.{number & 255}.1", port), "a test")


def test_the_newest_release_comes_first_and_who_was_heard_last_leads() -> None:
    candidates = Candidates()
    candidates.add([candidate(1), candidate(2, OLD), candidate(3)], 0.0)
    candidates.add([candidate(1)], 1.0)
    found = candidates.releases(2.0)
    assert list(found) == [NEW, OLD]
    assert [each.node_id for each in found[NEW]] == [node(1).public, node(3).public]


def test_a_nodes_newer_word_replaces_its_older_one() -> None:
    candidates = Candidates()
    candidates.add([candidate(1, OLD)], 0.0)
    candidates.add([candidate(1, NEW)], 1.0)
    assert list(candidates.releases(1.0)) == [NEW]


def test_a_word_is_forgotten_after_15_minutes_unless_heard_again() -> None:
    candidates = Candidates()
    candidates.add([candidate(1), candidate(2)], 0.0)
    candidates.add([candidate(1)], 600.0)
    assert len(candidates.releases(899.0)[NEW]) == 2
    assert [each.node_id for each in candidates.releases(901.0)[NEW]] == [node(1).public]
    assert candidates.releases(1500.0) == {}


def test_one_more_of_too_many_costs_no_look_at_all_of_them() -> None:
    """The attack: each word of 48 that talk to a device cost it 2.4 ms, once it knew as many as it keeps."""
    candidates, looks = Candidates(), 0
    look = candidates._first_to_go

    def counted(proven: Container[Address]) -> Iterator[Any]:
        nonlocal looks
        looks += 1
        return look(proven)

    with mock.patch.object(candidates, "_first_to_go", counted):
        for number in range(1200):
            candidates.add([candidate(number)], 0.0)
    assert looks < 30
    assert len(candidates.releases(0.0)[NEW]) > 450


def test_the_oldest_words_go_when_there_are_too_many() -> None:
    candidates = Candidates()
    candidates.add([candidate(number) for number in range(600)], 0.0)
    assert {each.node_id for each in candidates.releases(0.0)[NEW]} == {
        node(number).public for number in range(88, 600)
    }


def test_holders_of_something_older_never_crowd_out_the_newer_ones() -> None:
    candidates = Candidates()
    candidates.add([candidate(0), *(candidate(number, OLD) for number in range(1, 2000))], 0.0)
    candidates.add([candidate(number, OLD) for number in range(2000, 4000)], 1.0)
    found = candidates.releases(1.0)
    assert [each.node_id for each in found[NEW]] == [node(0).public]
    assert sum(map(len, found.values())) == 512
