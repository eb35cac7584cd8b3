"""Postcard: one encoding for every value, and no way to read past the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.postcard import Reader, encode_bytes, encode_signed, encode_unsigned
from pypatcher.errors import CodecError


@given(st.integers(0, 2**64 - 1))
def test_unsigned_numbers_read_back(value: int) -> None:
    reader = Reader(encode_unsigned(value) + b"rest")
    assert reader.unsigned() == value
    assert reader.rest() == b"rest"


@given(st.integers(-(2**31), 2**31 - 1))
def test_signed_numbers_read_back(value: int) -> None:
    assert Reader(encode_signed(value)).signed() == value


@given(st.binary(max_size=300))
def test_byte_strings_read_back(data: bytes) -> None:
    assert Reader(encode_bytes(data)).byte_string(300) == data


@given(st.binary(max_size=12), st.sampled_from([8, 16, 32, 64]))
def test_whatever_reads_as_a_number_is_its_only_encoding(data: bytes, bits: int) -> None:
    reader = Reader(data)
    try:
        value = reader.unsigned(bits)
    except CodecError:
        return
    assert value < 1 << bits
    assert encode_unsigned(value, bits) + reader.rest() == data


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (-1, "01"), (1, "02"), (-65, "8101"), (2**31 - 1, "feffffff0f"), (-(2**31), "ffffffff0f")],
)
def test_signed_numbers_are_zigzag(value: int, encoded: str) -> None:
    assert encode_signed(value).hex() == encoded


@pytest.mark.parametrize(
    "data", ["", "80", "8000", "ff00", "ffffffffffffffffff02", "80808080808080808080", "ffffffffffffffffff8001"]
)
def test_bad_numbers_are_refused(data: str) -> None:
    with pytest.raises(CodecError):
        Reader(bytes.fromhex(data)).unsigned()


@pytest.mark.parametrize(("bits", "data"), [(32, "ffffffff10"), (32, "808080808001"), (16, "808004"), (8, "8002")])
def test_numbers_wider_than_their_type_are_refused(bits: int, data: str) -> None:
    with pytest.raises(CodecError):
        Reader(bytes.fromhex(data)).unsigned(bits)


def test_a_byte_string_above_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(CodecError, match="at most 10"):
        Reader(encode_unsigned(2**40)).byte_string(10)


def test_a_truncated_byte_string_is_refused() -> None:
    with pytest.raises(CodecError, match="2 bytes early"):
        Reader(encode_bytes(b"12345")[:-2]).byte_string(10)


@pytest.mark.parametrize("value", [-1, 2**64])
def test_numbers_that_do_not_fit_are_not_written(value: int) -> None:
    with pytest.raises(CodecError):
        encode_unsigned(value)


@pytest.mark.parametrize("value", [-(2**31) - 1, 2**31])
def test_signed_numbers_that_do_not_fit_are_not_written(value: int) -> None:
    with pytest.raises(CodecError):
        encode_signed(value)
