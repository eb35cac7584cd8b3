"""How far a giver goes ahead of its taker."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

import pytest

from pypatcher.transfer import UploadLimiter
from pypatcher.transfer.giving import give
from pypatcher.transfer.stall import DEFAULT_STALL, StallWatch
from pypatcher.transport.stream import Stream
from tests.support.node_fakes import run_alone

_SIZE = 1 << 22


class _Taker:
    """A stream whose peer acknowledges so many bytes, and no more."""

    def __init__(self, takes: int) -> None:
        self._takes, self._written = takes, 0

    @property
    def acknowledged(self) -> int:
        return min(self._takes, self._written)

    async def write(self, data: bytes, ahead: int) -> None:
        self._written += len(data)
        if self._written - self.acknowledged > ahead:
            await asyncio.Event().wait()


@pytest.mark.parametrize(("takes", "most"), [(0, 32), (64 << 10, 192), (_SIZE, _SIZE >> 10)])
def test_a_taker_is_charged_for_as_much_again_as_it_took(takes: int, most: int) -> None:
    """The attack: ask, take nothing, and have a mebibyte of everybody's pace kept for oneself."""

    async def charged() -> int:
        clock = asyncio.get_running_loop().time
        upload = UploadLimiter(clock=clock).admit(("20.0.0.1", 1), _SIZE)
        assert upload is not None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(30.0):
                await give(cast("Stream", _Taker(takes)), bytes(_SIZE), upload, StallWatch(DEFAULT_STALL, clock))
        return _SIZE - upload.left

    assert takes <= run_alone(charged()) <= most << 10
