"""Where chunks are cut: the vectors, both twins, and what an edit moves."""

from __future__ import annotations

import hashlib
import json
import random
from array import array
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact import chunks
from pypatcher.artifact.chunks import PARAMETERS, Chunk, Parameters, cut_file, leaf_id, parameters_for
from pypatcher.errors import ContentMismatchError
from tests.unit.artifact.conftest import CHUNKS, Opened, vector_bytes

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "tree.json").read_text())
CASES = VECTORS["cases"]
GEAR = array(
    "Q", [int.from_bytes(hashlib.sha512(b"pypatcher gear" + bytes([i])).digest()[:8], "little") for i in range(256)]
)
TINY = (2, 4, 9, 61, 63)


def test_the_gear_is_the_one_of_the_vectors() -> None:
    assert {place: f"{GEAR[int(place)]:016x}" for place in VECTORS["gear"]} == VECTORS["gear"]


@pytest.mark.parametrize("case", [case for case in CASES if case["input"].get("n", 0) <= 300_000])
def test_cuts_are_those_of_the_vectors(cutter: ModuleType, case: dict[str, Any]) -> None:
    data = vector_bytes(case["input"])
    limits, sizes, start = PARAMETERS[case["parameters"]].limits, [], 0
    while start < len(data):
        sizes.append(cutter.find_cut(memoryview(data), start, GEAR, limits))
        start += sizes[-1]
    assert sizes[: len(case["first_lengths"])] == case["first_lengths"]
    packed = b"".join(size.to_bytes(4, "little") for size in sizes)
    assert hashlib.sha256(packed).hexdigest() == case["lengths_sha256"]
    assert leaf_id(data[: sizes[0]]).hex() == case["first_leaf"]


@given(st.binary(max_size=200), st.integers(0, 200))
def test_both_twins_cut_alike(data: bytes, start: int) -> None:
    start = min(start, len(data))
    answers = {twin.find_cut(memoryview(data), start, GEAR, TINY) for twin in CHUNKS}
    assert len(answers) == 1
    [size] = answers
    assert size <= min(9, len(data) - start)


@pytest.mark.parametrize(
    ("start", "limits"),
    [(-1, TINY), (6, TINY), (0, (0, 4, 9, 5, 6)), (0, (5, 4, 9, 5, 6)), (0, (2, 10, 9, 5, 6)), (0, (2, 4, 9, 64, 6)),
     (0, (2, 4, 9, 5, 0))],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(cutter: ModuleType, start: int, limits: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="find_cut"):
        cutter.find_cut(memoryview(b"12345"), start, GEAR, limits)
    with pytest.raises(ValueError, match="find_cut"):
        cutter.find_cut(memoryview(b"12345"), 0, GEAR[:255], TINY)


def cut(opened: Opened, data: bytes, parameters: Parameters) -> list[Chunk]:
    return list(cut_file(opened(data), len(data), parameters))


def test_a_file_is_its_chunks(opened: Opened) -> None:
    data = random.Random(7).randbytes(3_000_000)
    for parameters in PARAMETERS.values():
        found = cut(opened, data, parameters)
        assert [chunk.offset for chunk in found] == [0, *(chunk.offset + chunk.size for chunk in found)][:-1]
        assert all(leaf_id(data[chunk.offset : chunk.offset + chunk.size]) == chunk.id for chunk in found)
        assert sum(chunk.size for chunk in found) == len(data)
        assert all(parameters.minimum < chunk.size <= parameters.maximum for chunk in found[:-1])


def test_an_edit_moves_few_cuts(opened: Opened) -> None:
    data = random.Random(8).randbytes(1_000_000)
    before = {chunk.id for chunk in cut(opened, data, PARAMETERS[1])}
    after = cut(opened, data[:500_000] + b"a line more" + data[500_000:], PARAMETERS[1])
    assert sum(chunk.size for chunk in after if chunk.id not in before) <= 3 * PARAMETERS[1].maximum


def test_a_file_that_became_shorter_is_an_error(opened: Opened) -> None:
    with pytest.raises(ContentMismatchError, match="truncated"):
        list(cut_file(opened(bytes(5000)), 5001, PARAMETERS[1]))


def test_large_files_have_larger_chunks() -> None:
    assert parameters_for(256 << 20) is PARAMETERS[1]
    assert parameters_for((256 << 20) + 1) is PARAMETERS[2]
    assert chunks.ID_SIZE == 16
