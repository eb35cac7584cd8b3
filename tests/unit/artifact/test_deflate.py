"""What is deflated, and what is not."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact import deflate as room
from pypatcher.artifact.deflate import PIECE, deflate

NOISE = random.Random(1).randbytes(PIECE)
TEXT = b"mov eax, [rbp-%d]\n" * (PIECE // 18)


@given(st.binary(max_size=300))
def test_what_comes_out_is_shorter_or_the_same(data: bytes) -> None:
    packed = deflate(data)
    assert packed == data or (len(packed) < len(data) and zlib.decompress(packed) == data)


def test_a_program_is_deflated() -> None:
    assert zlib.decompress(deflate(TEXT)) == TEXT
    assert len(deflate(TEXT)) < len(TEXT) // 10


@pytest.mark.parametrize("size", [PIECE, PIECE // 2, 20_000])
def test_what_is_deflated_already_is_not_tried_as_a_whole(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small device deflates a few megabytes a second, and a seed gives onefiles to a fleet."""
    tried: list[int] = []
    real = zlib.compress

    def compress(data: bytes, level: int = -1) -> bytes:
        tried.append(len(data))
        return real(data, level)

    monkeypatch.setattr(room.zlib, "compress", compress)
    assert deflate(NOISE[:size]) == NOISE[:size]
    assert tried == [8192]


def test_a_piece_of_which_a_part_becomes_shorter_is_deflated() -> None:
    mixed = NOISE[: PIECE * 3 // 4] + TEXT[: PIECE // 4]
    assert len(deflate(mixed)) < len(mixed) * 0.8
