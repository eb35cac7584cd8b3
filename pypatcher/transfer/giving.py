"""What every exchange does with a release that it gives: reads it from disk, paces it, drops a taker that is too slow.

Knows no protocol. Not here: who may have how much (``budgets``), and how slow is too slow (``stall``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

from pypatcher.budgets.upload import FIRST_FLIGHT, Upload
from pypatcher.errors import PatcherError
from pypatcher.install.local_release import LocalRelease
from pypatcher.regular_file import open_regular
from pypatcher.transfer.stall import StalledError, StallWatch
from pypatcher.transport.stream import WRITE_LIMIT, Stream

__all__ = ["CHUNK", "OpenRelease", "give", "wait_delivered", "work"]

CHUNK = 1 << 18
"""Bytes that are read from a disk at once."""


class OpenRelease:
    """The file of a release, read as long as nobody writes to it.

    Raises:
        OSError: it cannot be opened.
        PatcherError: it is not as long as its release.
    """

    def __init__(self, held: LocalRelease) -> None:
        self.info = held.info
        self._path = held.path
        self._descriptor = open_regular(held.path)
        self._verified = self._stamp()
        if self._verified[0] != held.info.file_size:
            self.close()
            raise PatcherError(f"{held.path} is not as long as it was")

    async def read(self, size: int, offset: int) -> bytes | bytearray:
        """1 to ``size`` bytes from there; a thread waits for the disk, where that is to be waited for.

        Raises:
            PatcherError: the file was changed.
        """
        data = self._at_hand(size, offset)
        return await asyncio.to_thread(self._some, size, offset) if data is None else data

    def has(self, _size: int, _offset: int) -> bool:
        """Whether these bytes are there."""
        return True

    def cost(self, _size: int, _offset: int) -> int:
        """What reading them costs beside their own bytes."""
        return 0

    def whole(self, size: int, offset: int) -> bytes:
        """All of the ``size`` bytes from there; blocks.

        Raises:
            PatcherError: the file was changed.
        """
        parts: list[bytes] = []
        while size:  # a read may end early
            parts.append(self._some(size, offset))
            offset, size = offset + len(parts[-1]), size - len(parts[-1])
        return b"".join(parts)

    def _some(self, size: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        if not data:
            raise PatcherError(f"{self._path} was changed while it was served")
        self._check()
        return data

    def _check(self) -> None:
        if self._stamp() != self._verified:
            raise PatcherError(f"{self._path} was changed while it was served")

    def _at_hand(self, size: int, offset: int) -> bytearray | None:
        """All ``size`` bytes, if they are in memory; some file systems never say so."""
        data = bytearray(size)
        try:
            if os.preadv(self._descriptor, [data], offset, os.RWF_NOWAIT) < size:
                return None
        except OSError:
            return None
        self._check()
        return data

    def close(self) -> None:
        """End it."""
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stamp(self) -> tuple[int, int]:
        """What a write to the file changes; a rename over it, or away, does not."""
        found = os.fstat(self._descriptor)
        return found.st_size, found.st_mtime_ns


async def _pay(upload: Upload, cost: Callable[[], float], watch: StallWatch) -> None:
    """Wait as long as something costs; of one taker's requests one at a time, or many would get the share of many."""
    async with upload.turn:
        if delay := cost():
            watch.pause(delay)
            await asyncio.sleep(delay)


async def work(upload: Upload, cost: Callable[[int], float], count: int, watch: StallWatch) -> None:
    """Wait as long as work costs that is worth so many bytes; in pieces, or it would outweigh what others are sent."""
    while count > 0:
        piece = min(count, upload.piece)
        count -= piece
        await _pay(upload, partial(cost, piece), watch)


async def give(stream: Stream, data: bytes | bytearray, upload: Upload, watch: StallWatch) -> None:
    """Write these bytes of a release as fast as the limits and the taker let us.

    As much ahead again as it has taken: who takes nothing uses up next to nothing of the pace that all share.

    Raises:
        StalledError: the taker is too slow.
        PeerError: it went away.
    """
    start, view = 0, memoryview(data)
    while start < len(data):
        ahead = min(WRITE_LIMIT, FIRST_FLIGHT + stream.acknowledged)
        piece = view[start : start + min(upload.piece, ahead // 8)]
        start += len(piece)
        await _pay(upload, partial(upload.spend, len(piece), stream), watch)
        goal = stream.written + len(piece)
        while left := goal - stream.written:
            try:
                async with asyncio.timeout(watch.remaining()):
                    await stream.write(piece[-left:], ahead)
            except TimeoutError:
                # Another request of the same peer may have moved meanwhile, and this one waits for its turn.
                if not watch.remaining():
                    raise StalledError("the peer stalled: it takes its bytes too slowly") from None
        watch.progressed(len(piece))


async def wait_delivered(stream: Stream, watch: StallWatch) -> None:
    """Wait for the peer to acknowledge the rest, as long as it does so fast enough.

    Raises:
        StalledError: it is too slow.
        PeerError: it went away.
    """
    while True:
        left = stream.unacknowledged
        try:
            async with asyncio.timeout(watch.remaining()):
                return await stream.delivered()
        except TimeoutError:
            watch.progressed(left - stream.unacknowledged)
            if watch.remaining() <= 0:
                raise StalledError("the peer stalled: it takes its bytes too slowly") from None
