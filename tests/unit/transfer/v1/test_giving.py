"""What a giver charges a taker for by v1."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

from pypatcher.transfer import UploadLimiter
from pypatcher.transfer.giving import OpenRelease
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StallWatch
from pypatcher.transfer.v1.giving import Giver, _Parts
from pypatcher.transport.stream import Stream
from tests.support.node_fakes import run_alone
from tests.support.transport import local_release, make_release

_SIZE = 1 << 18


class _Taken:
    """A stream whose peer takes everything at once."""

    def __init__(self) -> None:
        self.acknowledged = self.written = 0

    async def write(self, data: bytes, ahead: int = 0) -> None:
        self.acknowledged += len(data)
        self.written += len(data)


def test_who_asks_for_zeros_uses_up_no_more_of_a_day_than_it_takes(tmp_path: Path) -> None:
    """The attack: zlib welcome, 256 KiB of zeros a time: 300 bytes each, and each was charged whole."""
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    stamp = held.path.stat()
    limiter, taken = UploadLimiter(), _Taken()
    held.path.write_bytes(bytes(_SIZE))
    assert held.path.stat().st_size == stamp.st_size

    async def ask() -> None:
        with OpenRelease(held) as file:
            for number in range(4):
                for _ in range(6):
                    upload = limiter.admit((f"20.{number}.0.1", 1), _SIZE)
                    assert upload is not None
                    watch = StallWatch(DEFAULT_STALL, lambda: 0.0)
                    await _Parts(file, cast("Stream", taken), upload, watch, zlib_welcome=True).give(0, _SIZE)
                    upload.settle(_SIZE)
                    upload.end()

    run_alone(ask())
    assert taken.acknowledged < 24 * 1000


def test_a_tree_that_two_wait_for_and_nobody_can_build_fails_for_both(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path, _SIZE)
    held = local_release(info, tmp_path / "release")
    held.path.unlink()
    shelf = Shelf(UploadLimiter())
    shelf.put([held])
    giver = Giver(shelf, lambda _: None, lambda _: None)

    async def ask() -> list[object]:
        return await asyncio.gather(giver._tree(held), giver._tree(held), return_exceptions=True)

    assert [type(answer) for answer in run_alone(ask())] == [FileNotFoundError] * 2
