"""Writes the bytes of an answer to RANGES, as fast as the limits and the taker let us. protocol.md "The v1 exchange".

Short ranges are read and deflated together; what that cost, and what is not here, counts in the pace. Not here: who may
ask for how much (``giving``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.budgets.upload import Upload
from pypatcher.transfer.giving import CHUNK, OpenRelease, give, work
from pypatcher.transfer.stall import StallWatch
from pypatcher.transfer.v1.answers import Piece, encode_piece
from pypatcher.transfer.v1.held_trees import OpenContent
from pypatcher.transfer.v1.part_held import OpenPart
from pypatcher.transport.stream import Stream

__all__ = ["PartsWriter"]

_LEAST_WORK, _ABSENT_WORK = 1024, 64
"""Bytes that each range counts in the pace at the least, as any chunk has: its one byte costs a read all the same. One
that is not here costs a look."""

_INFLATING = 4
"""Bytes that are inflated count as one that is sent: it is that much less work."""


class _Range(NamedTuple):
    """One that was asked for, whether it is here, and what reading it costs beside its own bytes."""

    offset: int
    size: int
    is_here: bool
    cost: int


@dataclass(frozen=True, slots=True)
class PartsWriter:
    """Writes ranges of a file one after another."""

    file: OpenRelease | OpenPart | OpenContent
    stream: Stream
    upload: Upload
    watch: StallWatch
    zlib_welcome: bool

    async def give(self, ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Offset and bytes of each; returns those that are here."""
        gave = list[tuple[int, int]]()
        for group in self._groups(ranges):
            await self._give(group)
            gave += [(each.offset, each.size) for each in group if each.is_here]
        return gave

    def _groups(self, ranges: Sequence[tuple[int, int]]) -> Iterator[Sequence[_Range]]:
        """As many at once as a chunk holds: one after the other, ranges of a byte cost a thousand times their bytes."""
        group: list[_Range] = []
        together = 0
        for offset, size in ranges:
            is_here = self.file.has(size, offset)
            cost = self.file.cost(size, offset)
            counted = size + cost if is_here else 0
            if group and together + counted > CHUNK:
                yield group
                group, together = [], 0
            group.append(_Range(offset, size, is_here, cost))
            together += counted
        yield group

    async def _give(self, ranges: Sequence[_Range]) -> None:
        """Some that are short together, or a long one, which is not deflated, so that memory stays flat."""
        (offset, size, is_here, _), *others = ranges
        # Before it is done: who goes away meanwhile must not have it for nothing.
        inflating = sum(each.cost for each in ranges) // _INFLATING
        await work(self.upload, self.upload.overhead, inflating, self.watch)
        if (size > CHUNK or not (others or self.zlib_welcome)) and is_here:
            await self.stream.write(encode_unsigned(Piece.PLAIN) + encode_unsigned(size))
            for start in range(offset, offset + size, CHUNK):
                data = await asyncio.to_thread(self.file.whole, min(CHUNK, offset + size - start), start)
                await give(self.stream, data, self.upload, self.watch)
            return
        packed = await asyncio.to_thread(self._encode, ranges)
        await give(self.stream, packed, self.upload, self.watch)
        # They count as long as they are in the file.
        spared = max(0, sum(each.size for each in ranges if each.is_here) - len(packed))
        overhead = sum(max(0, _LEAST_WORK - each.size) if each.is_here else _ABSENT_WORK for each in ranges)
        self.upload.spared(spared)
        await work(self.upload, self.upload.work, spared, self.watch)
        await work(self.upload, self.upload.overhead, overhead, self.watch)

    def _encode(self, ranges: Sequence[_Range]) -> bytes:
        return b"".join(
            encode_piece(
                self.file.whole(each.size, each.offset) if each.is_here else None, zlib_welcome=self.zlib_welcome
            )
            for each in ranges
        )
