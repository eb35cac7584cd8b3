"""Chunks of files that are here are found by their ids, in whichever file they lie."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pypatcher.artifact.chunks import PARAMETERS, cut_file
from pypatcher.artifact.old_chunks import NOWHERE, OldChunks
from pypatcher.errors import ContentMismatchError

Opened = Callable[[bytes], int]
ONE, TWO = random.Random(1).randbytes(300_000), random.Random(2).randbytes(200_000)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made: list[int] = []

    def make(data: bytes) -> int:
        path = tmp_path / str(len(made))
        path.write_bytes(data)
        made.append(os.open(path, os.O_RDONLY))
        return made[-1]

    yield make
    for fd in made:
        os.close(fd)


def test_every_chunk_of_every_file_is_found_where_it_lies(opened: Opened) -> None:
    old = OldChunks(PARAMETERS[1])
    files = [(opened(data), data) for data in (ONE, TWO, ONE[:100_000] + TWO)]
    for fd, data in files:
        old.add(fd, len(data), fd)
    for fd, data in files:
        for chunk in cut_file(fd, len(data), PARAMETERS[1]):
            where, offset = old.locate(old.find(chunk.id))
            assert os.pread(where, chunk.size, offset) == data[chunk.offset : chunk.offset + chunk.size]


def test_what_is_in_no_file_is_nowhere(opened: Opened) -> None:
    old = OldChunks(PARAMETERS[1])
    assert old.find(bytes(16)) == NOWHERE
    old.add(opened(ONE), len(ONE), 0)
    # Ids that begin alike fall into the same slots.
    known = next(cut_file(opened(ONE), len(ONE), PARAMETERS[1])).id
    assert old.find(known[:8] + bytes(8)) == NOWHERE


def test_a_chunk_of_one_file_never_goes_on_in_the_next(opened: Opened) -> None:
    old = OldChunks(PARAMETERS[1])
    for data in (ONE, TWO):
        old.add(opened(data), len(data), 0)
    last = list(cut_file(opened(ONE), len(ONE), PARAMETERS[1]))[-1]
    first = next(cut_file(opened(TWO), len(TWO), PARAMETERS[1]))
    assert old.find(first.id) > old.find(last.id) + last.size


def test_a_file_that_ended_meanwhile_adds_nothing(opened: Opened) -> None:
    old = OldChunks(PARAMETERS[1])
    with pytest.raises(ContentMismatchError):
        old.add(opened(ONE), len(ONE) + 1, 0)
    assert not old.nodes
    assert old.find(next(cut_file(opened(ONE), len(ONE), PARAMETERS[1])).id) == NOWHERE


def test_a_chunk_costs_numbers_and_no_object(opened: Opened) -> None:
    old = OldChunks(PARAMETERS[1])
    data = random.Random(3).randbytes(4_000_000)
    old.add(opened(data), len(data), 0)
    chunks = sum(1 for _ in cut_file(opened(data), len(data), PARAMETERS[1]))
    size = sum(sys.getsizeof(each) for each in (old._ids, old._places, old._slots))
    assert size < 60 * chunks
