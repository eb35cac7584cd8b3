"""What of a file is missing, what is copied and what is there: every byte once, and told by parts."""

from __future__ import annotations

import os
import random
from array import array
from pathlib import Path

import pytest

from pypatcher.artifact.chunks import PARAMETERS, cut_file
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.transfer.v1.messages import NO_PARTS, PARTS
from pypatcher.transfer.v1.plan import Plan, part_at, parts_of

OLD = random.Random(1).randbytes(500_000)


def plan_for(new: bytes, folder: Path, old: bytes = OLD) -> Plan:
    sizes, ids, known = array("I"), bytearray(), OldChunks(PARAMETERS[1])
    for name, data in (("new", new), ("old", old)):
        (folder / name).write_bytes(data)
    with (folder / "old").open("rb") as file:
        known.add(file.fileno(), len(old), 0)
    fd = os.open(folder / "new", os.O_RDONLY)
    for chunk in cut_file(fd, len(new), PARAMETERS[1]):
        sizes.append(chunk.size)
        ids += chunk.id
    os.close(fd)
    return Plan(sizes, ids, known)


def covered(plan: Plan) -> list[tuple[int, int]]:
    """Start and end of every chunk that is fetched, and of every run that is copied, in order."""
    chunks = {chunk for part in range(PARTS) for chunk in plan.chunks_in(part)}
    fetched = [(offset, offset + size) for number, offset, size in chunks if plan.is_wanted(number)]
    return sorted(fetched + [(run.offset, run.offset + run.size) for run in plan.copies()])


def test_every_byte_is_either_fetched_or_copied(tmp_path: Path) -> None:
    for new in (OLD, OLD[:99_000] + b"x" + OLD[99_000:], b"y" + OLD + b"z", OLD[250_000:] + OLD[:250_000], b"new"):
        parts = covered(plan_for(new, tmp_path))
        assert [start for start, _ in parts] == [0, *(end for _, end in parts[:-1])]
        assert parts[-1][1] == len(new)


def test_what_is_missing_counts_until_it_is_there(tmp_path: Path) -> None:
    plan = plan_for(random.Random(2).randbytes(300_000), tmp_path)
    assert (plan.missing, plan.bitmap()) == (300_000, NO_PARTS)
    for _ in range(2):
        plan.is_there(0, len(plan))
    assert (plan.missing, plan.bitmap()) == (0, b"\xff" * 32)
    assert plan.has(0, 300_000)


def test_what_does_not_lie_there_after_all_is_fetched(tmp_path: Path) -> None:
    plan = plan_for(OLD, tmp_path)
    (run, *_) = plan.copies()
    plan.is_there(run.first, run.first + 2)
    plan.is_missing(run.first + 2, run.last)
    assert not list(plan.copies())
    assert plan.missing == sum(plan.chunk(number)[0] for number in range(2, len(plan)))
    assert [plan.is_wanted(number) for number in range(len(plan))] == [False, False] + [True] * (len(plan) - 2)


def test_what_lies_in_some_parts_is_copied_once(tmp_path: Path) -> None:
    plan = plan_for(OLD, tmp_path)
    for run in plan.copies([3, 4, 9]):
        plan.is_there(run.first, run.last)
    assert {3, 4, 9} <= whole_parts(plan) < set(range(12))
    assert len({run.first for run in plan.copies()}) == len(list(plan.copies()))
    assert sum(run.size for run in plan.copies()) == sum(
        plan.chunk(number)[0] for number in range(len(plan)) if not plan.has(*place(plan, number))
    )


def whole_parts(plan: Plan) -> set[int]:
    told = plan.bitmap()
    return {part for part in range(PARTS) if told[part // 8] >> (7 - part % 8) & 1}


def place(plan: Plan, number: int) -> tuple[int, int]:
    part = plan.parts(number).start
    return next((offset, size) for each, offset, size in plan.chunks_in(part) if each == number)


@pytest.mark.parametrize("size", [1, 200, 256, 1000, 65_537, 4 << 30])
def test_256_parts_cover_a_file(size: int) -> None:
    ends = [(part + 1) * size // PARTS for part in range(PARTS)]
    for part, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if start < end:
            assert part_at(start, size) == part_at(end - 1, size) == part
    assert parts_of(0, size, size).stop == PARTS


def test_a_chunk_that_lies_in_two_parts_makes_neither_whole_alone(tmp_path: Path) -> None:
    plan = plan_for(random.Random(4).randbytes(1_000_000), tmp_path)
    for part in (7, 8):
        for number, _, _ in plan.chunks_in(part):
            plan.is_there(number, number + 1)
    assert {7, 8} <= whole_parts(plan) <= {6, 7, 8, 9}
    assert plan.has(7 * 1_000_000 // PARTS, 1)
    assert not plan.has(0, 1_000_000)


def test_what_is_there_is_not_missing_any_more(tmp_path: Path) -> None:
    """A chunk that an earlier download left may be found while the old file that has it, too, turns out to be changed:
    counted twice, a part would be told to peers before it is there."""
    plan = plan_for(OLD, tmp_path)
    plan.is_there(0, len(plan))
    plan.is_missing(0, len(plan))
    assert plan.missing == 0
    assert plan.bitmap() == b"\xff" * 32
