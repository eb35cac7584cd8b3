"""What is given of a download that is under way: chunks that are right, from a descriptor of one's own."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.artifact.patch import make_info
from pypatcher.errors import PatcherError
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.version import Version
from tests.support.manifests import OWNER
from tests.unit.transfer.v1.test_plan import plan_for

NEW = random.Random(5).randbytes(400_000)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[PartHeld]:
    """Of which the first nine chunks are there; what lies behind them on the disk is not theirs to give."""
    plan = plan_for(NEW, tmp_path)
    plan.is_there(0, 9)
    (tmp_path / "part").write_bytes(NEW[: len(NEW) // 2])
    info = make_info(Version(2, 0, 0), bytes(32), len(NEW) - 176, OWNER)
    yield PartHeld(info, bytes(16), {}, plan, os.open(tmp_path / "part", os.O_RDONLY))


def test_only_chunks_that_are_there_are_given(held: PartHeld) -> None:
    there = sum(held.plan.chunk(number)[0] for number in range(9))
    with held.open() as file:
        assert file.has(there, 0)
        assert file.whole(there, 0) == NEW[:there]
        assert not file.has(1, there)
        assert not file.has(there + 1, 0)
        assert not file.has(len(NEW), 0)


def test_an_answer_reads_on_when_the_download_is_over(held: PartHeld) -> None:
    with held.open() as file:
        held.close()
        other = os.open("/dev/zero", os.O_RDONLY)  # gets the number that was closed
        try:
            assert file.whole(1000, 500) == NEW[500:1500]
        finally:
            os.close(other)


def test_a_file_that_was_cut_is_given_no_further(held: PartHeld, tmp_path: Path) -> None:
    with held.open() as file:
        os.truncate(tmp_path / "part", 100)
        with pytest.raises(PatcherError, match="cut"):
            file.whole(1000, 0)
