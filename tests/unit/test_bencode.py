"""Bencode: one encoding a value, everything else refused, hostile bytes cheap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher import bencode
from pypatcher.errors import CodecError

_INTS = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.recursive(
    _INTS | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def _depth(value: object) -> int:
    match value:
        case list():
            return 1 + max(map(_depth, value), default=0)
        case dict():
            return 1 + max(map(_depth, value.values()), default=0)
    return 0


@given(VALUES.filter(lambda value: _depth(value) <= bencode.MAX_DEPTH))
def test_what_is_encoded_decodes_to_itself(value: bencode.Value) -> None:
    assert bencode.decode(bencode.encode(value)) == value


@given(st.binary(max_size=60) | st.text(alphabet="dlie0123456789:-a", max_size=40).map(str.encode))
def test_any_bytes_are_refused_or_the_one_encoding_of_their_value(data: bytes) -> None:
    try:
        value = bencode.decode(data)
    except CodecError:
        return
    assert bencode.encode(value) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"i",
        b"ie",
        b"i-e",
        b"i-0e",
        b"i01e",
        b"i-01e",
        b"i+1e",
        b"i 1e",
        b"i1_0e",
        b"i9223372036854775808e",
        b"i-9223372036854775809e",
        b"i" + b"1" * 100 + b"e",
        b"1",
        b"1:",
        b"01:a",
        b"-1:a",
        b"2:a",
        b"999999999:a",
        b"9" * 40 + b":a",
        b"l",
        b"li1e",
        b"d",
        b"d1:a",
        b"d1:ai1e",
        b"di1e1:ae",
        b"d1:bi1e1:ai1ee",
        b"d1:ai1e1:ai1ee",
        b"x",
        b"i1ei2e",
        b"e",
    ],
)
def test_whatever_is_not_strict_is_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        bencode.decode(data)


def test_nesting_ends_at_its_limit() -> None:
    deepest = b"l" * bencode.MAX_DEPTH + b"e" * bencode.MAX_DEPTH
    assert bencode.decode(deepest) is not None
    for data in (b"l" + deepest + b"e", b"l" * 10_000, b"d0:" * 10_000):
        with pytest.raises(CodecError):
            bencode.decode(data)


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63) - 1, True, "text", None, 1.0])
def test_what_bencode_cannot_carry_is_not_encoded(value: object) -> None:
    with pytest.raises(CodecError):
        bencode.encode(value)  # type: ignore[arg-type]
