"""What a holder says of the parts that others took."""

from __future__ import annotations

from pypatcher.transfer.v1.given_parts import GivenParts
from pypatcher.transfer.v1.messages import NO_PARTS

SIZE = 256_000


def parts(given: GivenParts) -> set[int]:
    return {part for part in range(256) if given.bitmap()[part // 8] & 0x80 >> part % 8}


def test_a_part_is_given_by_its_middle_or_by_what_lies_in_it_alone() -> None:
    given = GivenParts(SIZE)
    given.note([(900, 2000), (5_400, 10)], 0.0)
    assert parts(given) == {1, 2, 5}, "the chunk at its end does not make it part 0"


def test_when_all_was_given_once_it_begins_anew() -> None:
    given = GivenParts(SIZE)
    given.note([(0, SIZE - 1000)], 0.0)
    assert parts(given) == set(range(255))
    given.note([(SIZE - 1000, 1000)], 1.0)
    assert given.bitmap() == NO_PARTS


def test_what_was_given_long_ago_does_not_count() -> None:
    given = GivenParts(SIZE)
    given.note([(0, 1000)], 0.0)
    given.note([(9000, 1000)], 59.0)
    assert parts(given) == {0, 9}
    given.note([(7000, 1000)], 120.0)
    assert parts(given) == {7}
