"""How far a giver goes ahead of its taker."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.errors import PatcherError
from pypatcher.transfer.giving import OpenRelease, give
from pypatcher.transfer.stall import DEFAULT_STALL, StallWatch
from pypatcher.transport.stream import Stream
from tests.support.node_fakes import run_alone
from tests.support.transport import local_release, make_release

_SIZE = 1 << 22


async def test_no_thread_reads_what_is_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, body = make_release(tmp_path, 5000)
    threads: list[int] = []

    async def in_thread(read: Callable[[int, int], bytes], size: int, offset: int) -> bytes:
        threads.append(offset)
        return read(size, offset)

    def at_hand(descriptor: int, buffers: list[bytearray], offset: int, flags: int) -> int:
        """As the kernel answers where all is in memory; on some file systems it never does."""
        assert flags == os.RWF_NOWAIT
        found = os.pread(descriptor, len(buffers[0]), offset)
        buffers[0][: len(found)] = found
        return len(found)

    def refuse(*_: object) -> int:
        raise OSError(errno.EAGAIN, "it would have to wait")

    monkeypatch.setattr(asyncio, "to_thread", in_thread)
    monkeypatch.setattr(os, "preadv", at_hand)
    with OpenRelease(local_release(info, tmp_path / "release")) as file:
        first = await file.read(4000, 0)
        assert first + await file.read(4000, 4000) == body
        assert threads == [4000], "less than was asked for is there, and a disk may be waited for"
        monkeypatch.setattr(os, "preadv", refuse)
        assert await file.read(1000, 1000) == body[1000:2000]
        assert threads == [4000, 1000]
        monkeypatch.setattr(os, "preadv", at_hand)
        (tmp_path / "release").write_bytes(body)
        with pytest.raises(PatcherError, match="changed"):
            await file.read(4000, 0)


class _Taker:
    """A stream whose peer acknowledges so many bytes, and no more."""

    def __init__(self, takes: int) -> None:
        self._takes, self._written = takes, 0

    @property
    def acknowledged(self) -> int:
        return min(self._takes, self._written)

    @property
    def written(self) -> int:
        return self._written

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


def test_what_is_ahead_doubles_in_each_round_trip() -> None:
    """As the window of slow start does: 16 KiB, then 32, up to a mebibyte; once it was a round trip behind and more."""
    trip = 0.05

    class Line:
        """A stream over a line that holds all, and acknowledges it after a round trip."""

        written = acknowledged = 0

        async def write(self, data: bytes, ahead: int) -> None:
            loop = asyncio.get_running_loop()
            while self.written + len(data) > self.acknowledged + ahead:
                await asyncio.sleep(0.001)
            self.written += len(data)
            loop.call_later(trip, self._arrived, len(data))

        def _arrived(self, count: int) -> None:
            self.acknowledged += count

    async def given() -> float:
        clock, stream = asyncio.get_running_loop().time, Line()
        upload = UploadLimiter(clock=clock).admit(("192.168.0.1", 1), _SIZE)
        assert upload is not None
        began = clock()
        await give(cast("Stream", stream), bytes(_SIZE), upload, StallWatch(DEFAULT_STALL, clock))
        return clock() - began

    rounds = (_SIZE >> 14).bit_length()  # 16 KiB + 32 KiB + ... of them make as much
    assert run_alone(given()) < (rounds + 0.5) * trip


def test_many_requests_of_one_taker_get_no_more_than_one() -> None:
    """The attack: ask for one release in sixteen parts at once, beside somebody who asks for it in order."""

    async def shares() -> list[int]:
        clock = asyncio.get_running_loop().time
        limiter, uploads, tasks = UploadLimiter(clock=clock), [], []
        for host, requests in (("20.0.0.1", 16), ("21.0.0.1", 1)):
            upload = limiter.admit((host, 1), 64 * _SIZE)
            assert upload is not None
            uploads.append(upload)
            for _ in range(requests):
                watch = StallWatch(DEFAULT_STALL, clock)
                stream = cast("Stream", _Taker(64 * _SIZE))
                tasks.append(asyncio.create_task(give(stream, bytes(16 * _SIZE), upload, watch)))
        await asyncio.sleep(60.0)
        for task in tasks:
            task.cancel()
        return [64 * _SIZE - upload.left for upload in uploads]

    many, one = run_alone(shares())
    assert 55 << 20 < many + one < 65 << 20
    assert one > 0.45 * (many + one)


def test_who_takes_one_answer_after_another_does_not_stall() -> None:
    """Two requests at once: on a slow line the first takes minutes, in which the second cannot move."""

    class Later:
        """Takes some of what is written at once, and the rest after 150 s."""

        written = acknowledged = 0

        def __init__(self) -> None:
            self._due = asyncio.get_running_loop().time() + 150.0

        async def write(self, data: bytes, ahead: int) -> None:
            some = 0 if self.written else 100
            self.written += some
            await asyncio.sleep(self._due - asyncio.get_running_loop().time())
            self.written += len(data) - some
            self.acknowledged = self.written

    async def given() -> int:
        clock = asyncio.get_running_loop().time
        upload, stream = UploadLimiter(clock=clock).admit(("20.0.0.1", 1), _SIZE), Later()
        assert upload is not None
        watch = StallWatch(DEFAULT_STALL, clock)

        async def first() -> None:
            for _ in range(15):
                await asyncio.sleep(10.0)
                watch.progressed(100_000)

        await asyncio.gather(first(), give(cast("Stream", stream), bytes(1 << 14), upload, watch))
        return stream.written

    assert run_alone(given()) == 1 << 14
