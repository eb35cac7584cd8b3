"""The answers of the v1 exchange: what comes is what was asked for, and costs no more."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.postcard import encode_bytes, encode_unsigned
from pypatcher.errors import CodecError
from pypatcher.transfer.v1.answers import (
    ABSENT,
    TREE_LIMIT,
    Piece,
    RangesAnswer,
    decode_nodes,
    encode_nodes,
    encode_piece,
)

TEXT = b"the same words again " * 500
NOISE = random.Random(1).randbytes(3000)


def piece(kind: int, data: bytes, length: int | None = None) -> bytes:
    return encode_unsigned(kind) + encode_unsigned(len(data) if length is None else length) + data


def joined(found: list[tuple[int, bytes]]) -> dict[int, bytes]:
    """The bytes by the offset at which each run of them begins."""
    runs: dict[int, bytes] = {}
    for offset, data in found:
        for start, run in runs.items():
            if start + len(run) == offset:
                runs[start] += data
                break
        else:
            runs[offset] = data
    return runs


@given(st.integers(1, 4000), st.booleans())
def test_ranges_come_out_however_the_stream_is_cut(size: int, zlib_welcome: bool) -> None:
    asked = [(0, len(TEXT)), (20_000, len(NOISE)), (50_000, 7), (60_000, len(TEXT))]
    given_bytes = [TEXT, NOISE, None, TEXT]
    stream = b"".join(encode_piece(data, zlib_welcome=zlib_welcome) for data in given_bytes)
    answer, found = RangesAnswer(asked, zlib_welcome=zlib_welcome), []
    for at in range(0, len(stream), size):
        found += answer.feed(stream[at : at + size])
    assert answer.is_complete
    assert joined(found) == {0: TEXT, 20_000: NOISE, 60_000: TEXT}


def test_only_what_becomes_shorter_is_deflated() -> None:
    assert encode_piece(TEXT, zlib_welcome=True)[0] == Piece.ZLIB
    assert encode_piece(TEXT, zlib_welcome=False)[0] == Piece.PLAIN
    assert encode_piece(NOISE, zlib_welcome=True)[0] == Piece.PLAIN


@pytest.mark.parametrize(
    ("stream", "zlib_welcome"),
    [
        (piece(Piece.PLAIN, b"1234"), True),
        (piece(Piece.PLAIN, b"123456"), True),
        (piece(Piece.ABSENT, b"1"), True),
        (piece(3, b"12345"), True),
        (piece(Piece.ZLIB, b"1234"), True),
        (piece(Piece.ZLIB, zlib.compress(b"12345")), True),
        (piece(Piece.ZLIB, zlib.compress(b"")[:4]), False),
        (piece(Piece.PLAIN, b"12345") + b"\0", True),
        (b"\0" + b"\x80" * 11, True),
    ],
)
def test_answers_that_are_none_to_the_question_are_refused(stream: bytes, zlib_welcome: bool) -> None:
    answer = RangesAnswer([(0, 5)], zlib_welcome=zlib_welcome)
    with pytest.raises(CodecError):
        answer.feed(stream)


@pytest.mark.parametrize("behind", [b"", b"x", b"x" * 50])
@pytest.mark.parametrize("content", [bytes(999), bytes(1001), bytes(10_000_000)])
def test_a_deflated_range_of_another_length_is_refused(content: bytes, behind: bytes) -> None:
    packed = zlib.compress(content)[:900] + behind
    answer = RangesAnswer([(0, 1000)], zlib_welcome=True)
    with pytest.raises(CodecError):
        for byte in piece(Piece.ZLIB, packed):
            answer.feed(bytes([byte]))
        if not answer.is_complete:
            raise CodecError("it ended early")


def test_a_deflated_range_with_bytes_behind_its_end_is_refused() -> None:
    answer = RangesAnswer([(0, 1000)], zlib_welcome=True)
    with pytest.raises(CodecError):
        answer.feed(piece(Piece.ZLIB, zlib.compress(bytes(1000)) + b"x" * 100))


def test_a_bomb_inflates_no_further_than_was_asked() -> None:
    bomb = zlib.compress(bytes(50_000_000))
    answer = RangesAnswer([(0, len(bomb) + 1)], zlib_welcome=True)
    with pytest.raises(CodecError, match="inflates"):
        answer.feed(piece(Piece.ZLIB, bomb))


def test_nodes_come_in_the_order_of_the_question() -> None:
    nodes = [b"one", ABSENT, b"three"]
    assert decode_nodes(encode_nodes(nodes), 3) == nodes
    for data, count in ((encode_nodes(nodes), 2), (encode_nodes(nodes), 4), (encode_bytes(bytes(4000)), 1)):
        with pytest.raises(CodecError):
            decode_nodes(data, count)
    with pytest.raises(CodecError, match="at most"):
        decode_nodes(bytes(TREE_LIMIT + 1), 1)


@given(st.binary(max_size=100), st.booleans())
def test_no_bytes_do_worse_than_an_error(data: bytes, zlib_welcome: bool) -> None:
    try:
        found = RangesAnswer([(0, 40), (40, 20)], zlib_welcome=zlib_welcome).feed(data)
    except CodecError:
        return
    assert sum(len(part) for _, part in found) <= 60
