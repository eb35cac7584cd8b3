"""Fragments hold what aioquic's own RangeSet would, up to a number of them."""

from __future__ import annotations

import pytest
from aioquic.quic.rangeset import RangeSet
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.established.range_set import Fragments, TooManyFragmentsError

parts = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 8)), max_size=40)


@given(parts, st.integers(0, 40))
def test_fragments_are_the_ranges_that_aioquic_would_have(added: list[tuple[int, int]], shifted_at: int) -> None:
    ours, theirs = Fragments(100), RangeSet()
    for number, (start, size) in enumerate(added):
        if number == shifted_at and len(theirs):
            assert ours.shift() == theirs.shift()
        ours.add(start, start + size)
        theirs.add(start, start + size)
        assert list(ours) == list(theirs)


def test_one_fragment_too_many_is_refused_one_that_joins_two_is_not() -> None:
    fragments = Fragments(3)
    for start in (0, 2, 4):
        fragments.add(start, start + 1)
    with pytest.raises(TooManyFragmentsError):
        fragments.add(6, 7)
    fragments.add(5, 7)
    fragments.add(1, 2)
    assert list(fragments) == [range(3), range(4, 7)]
