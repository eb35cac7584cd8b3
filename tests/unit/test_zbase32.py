"""z-base-32 as the package of that name does it, and strictly."""

from __future__ import annotations

import contextlib

import pytest
import zbase32 as oracle
from hypothesis import given
from hypothesis import strategies as st

from pypatcher import zbase32

ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


@given(st.binary(max_size=80))
def test_bytes_have_the_text_of_the_package_and_come_back(data: bytes) -> None:
    text = zbase32.encode(data)
    assert text == oracle.encode(data)
    assert zbase32.decode(text) == data


@given(st.text(ALPHABET, max_size=60) | st.text(max_size=60))
def test_what_is_read_the_package_reads_too_as_its_one_text(text: str) -> None:
    try:
        data = zbase32.decode(text)
    except ValueError:
        with contextlib.suppress(oracle.DecodeError):  # the package also reads texts whose last bits are left over
            assert oracle.encode(oracle.decode(text)) != text
    else:
        assert data == oracle.decode(text)
        assert zbase32.encode(data) == text


@pytest.mark.parametrize("text", ["0", "l", "y y", "Y", "\u0131y", "n\n", "yb", "yyy"])
def test_another_alphabet_case_or_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"z-base-32|left over"):
        zbase32.decode(text)
