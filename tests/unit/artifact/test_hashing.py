"""The walk over a file, on both twins, and the hashes made of it."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypatcher.artifact import hashing
from pypatcher.artifact.region import marker
from pypatcher.errors import ContentMismatchError, RegionError

Opened = Callable[[bytes], int]
CHUNK = 256 * 1024
KNOWN = random.Random(1).randbytes(3 * CHUNK + 1234)


@pytest.mark.parametrize(
    ("start", "stop"),
    [(0, 0), (0, 1), (5, 5), (0, CHUNK), (1, CHUNK + 1), (CHUNK - 1, 2 * CHUNK + 7), (17, len(KNOWN))],
)
def test_feed_gives_exactly_the_bytes_asked_for(walk: ModuleType, opened: Opened, start: int, stop: int) -> None:
    pieces: list[bytes] = []
    assert walk.feed(lambda piece: pieces.append(bytes(piece)), opened(KNOWN), start, stop) == stop - start
    assert b"".join(pieces) == KNOWN[start:stop]
    assert all(len(piece) <= CHUNK for piece in pieces)


def test_feed_stops_at_the_end_of_the_file_and_says_so(walk: ModuleType, opened: Opened) -> None:
    pieces: list[bytes] = []
    assert walk.feed(lambda piece: pieces.append(bytes(piece)), opened(b"12345"), 2, 100) == 3
    assert b"".join(pieces) == b"345"


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4)])
def test_feed_refuses_impossible_ranges(walk: ModuleType, opened: Opened, start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="start <= stop"):
        walk.feed(lambda piece: None, opened(b"12345"), start, stop)


def test_what_the_callback_raises_comes_through(walk: ModuleType, opened: Opened) -> None:
    def fail(piece: memoryview) -> None:
        raise KeyError(len(piece))

    with pytest.raises(KeyError, match="5"):
        walk.feed(fail, opened(b"12345"), 0, 5)


def test_reading_errors_are_raised(walk: ModuleType, tmp_path: os.PathLike[str]) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(IsADirectoryError):
            walk.feed(lambda piece: None, fd, 0, 5)
        with pytest.raises(IsADirectoryError):
            walk.find_all(fd, b"x", 5)
    finally:
        os.close(fd)


def _occurrences(data: bytes, needle: bytes, limit: int) -> list[int]:
    return [at for at in range(len(data)) if data.startswith(needle, at)][:limit]


@given(data=st.binary(max_size=400).map(lambda data: bytes(byte % 3 for byte in data)), size=st.integers(1, 4))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_find_all_finds_overlapping_occurrences(walk: ModuleType, opened: Opened, data: bytes, size: int) -> None:
    needle = bytes([1, 0, 1, 0][:size])
    assert walk.find_all(opened(data), needle, 1000) == _occurrences(data, needle, 1000)
    assert walk.find_all(opened(data), needle, 3) == _occurrences(data, needle, 3)


@pytest.mark.parametrize("shift", range(-30, 31, 5))
def test_a_marker_across_the_buffer_s_edge_is_found_once(walk: ModuleType, opened: Opened, shift: int) -> None:
    data = bytearray(2 * CHUNK + 100)
    places = [0, CHUNK + shift, 2 * CHUNK + shift, len(data) - 28]
    for at in places:
        data[at : at + 28] = marker()
    expected = [at for at in range(len(data)) if data[at] == 0x17 and data.startswith(marker(), at)]
    assert walk.find_all(opened(bytes(data)), marker(), 100) == expected


@pytest.mark.parametrize("needle", [b"", bytes(4097)])
def test_find_all_refuses_needles_of_no_use(walk: ModuleType, opened: Opened, needle: bytes) -> None:
    with pytest.raises(ValueError, match="needle"):
        walk.find_all(opened(b"12345"), needle, 5)


@pytest.mark.parametrize("at", [0, 1, CHUNK - 100, CHUNK, len(KNOWN)])
def test_a_hash_is_that_of_the_file_with_the_region_cut_out(opened: Opened, at: int) -> None:
    data = KNOWN[:at] + bytes(176) + KNOWN[at:]
    fd = opened(data)
    assert hashing.hash_without_region(fd, len(data), at) == hashlib.sha512(KNOWN).digest()
    assert hashing.hash_file(fd) == hashlib.sha512(data).digest()
    assert hashing.hash_both(fd, len(data), at) == (hashlib.sha512(KNOWN).digest(), hashlib.sha512(data).digest())


def test_a_long_rest_after_the_region_is_hashed_the_same(opened: Opened) -> None:
    data = KNOWN * 8
    cut = data[:100] + data[276:]
    assert len(data) > 5 * 1024 * 1024
    expected = hashlib.sha512(cut).digest(), hashlib.sha512(data).digest()
    assert hashing.hash_both(opened(data), len(data), 100) == expected


@pytest.mark.parametrize("size", [1000, 8_000_000])
def test_a_file_that_ends_early_is_refused(opened: Opened, size: int) -> None:
    fd = opened(bytes(500))
    with pytest.raises(ContentMismatchError, match="truncated"):
        hashing.hash_without_region(fd, size, 10)
    with pytest.raises(ContentMismatchError, match="truncated"):
        hashing.hash_both(fd, size, 10)


def test_a_file_full_of_markers_is_refused_in_little_memory(opened: Opened) -> None:
    assert hashing.find_markers(opened(marker() * 500)) == list(range(0, 500 * 28, 28))
    with pytest.raises(RegionError, match="no program"):
        hashing.find_markers(opened(marker() * 100_000))
