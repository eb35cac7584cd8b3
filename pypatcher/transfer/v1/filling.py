"""Fills a file whose chunks are known: what lies in old files is copied, what peers send is checked and written.

What of it is there is given on from then on (``part_held``). Not here: which peers there are (``swarm``), and which of
them is asked for what (``picker``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

from pypatcher.artifact.chunks import Chunk, leaf_id
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.errors import CodecError, PeerError
from pypatcher.tasks import in_thread
from pypatcher.transfer.exchange import Parts
from pypatcher.transfer.taking import CHUNK
from pypatcher.transfer.v1.changed import Checked, copy_run, right_ones
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.messages import PARTS
from pypatcher.transfer.v1.old_files import Files
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.transfer.v1.picker import Asked, Picker
from pypatcher.transfer.v1.plan import Run

__all__ = ["Filling"]

_SYNC_MOST = 1 << 20
"""Bytes that a power cut may take back, of those that were fetched."""
_SYNC_SOME, _SYNC_EVERY = 1 << 16, 0.25
"""Where so few take longer than that, in seconds, it may take back no more than come in that time."""
_WRITE_EVERY = 0.05
"""Seconds after which what is right of a request is written, though it is little: a kill takes the rest."""
_TIMES = 9
"""How often as long as the last write, or fsync, took: a busy device or a slow card has no more than so many."""


class Filling:
    """One file's.

    Args:
        held: what is there.
        picker: told what comes.
        parts: the file.
        old: the chunks of what is here, and the files that they are in.
        grew: called whenever more is there.
    """

    def __init__(
        self, held: PartHeld, picker: Picker, parts: Parts, old: tuple[OldChunks, Files], grew: Callable[[], None]
    ) -> None:
        self.held, self.picker = held, picker
        self._parts, self._grew = parts, grew
        self._old, self._files = old
        self._clock = asyncio.get_running_loop().time
        self._taking: dict[Asked, asyncio.Task[None]] = {}
        self._disk = asyncio.Lock()
        self._write_took = self._sync_took = 0.0
        self._unsynced, self._synced_at = 0, self._clock()

    @property
    def has_all(self) -> bool:
        """Whether nothing is left to do."""
        return not self.held.plan.missing and not any(True for _ in self.held.plan.copies())

    async def keep(self, left: int) -> None:
        """What an earlier download left, ``left`` bytes, as far as it is right."""
        number = offset = 0
        while offset < left and number < len(self.held.plan):
            look = partial(right_ones, self.held.plan, self._parts, number, offset)
            async with self._disk:
                good, number, offset = await in_thread(look)
                for each in good:
                    self.picker.is_here(each)
            self._grew()

    async def copy(self, parts: Iterable[int] = range(PARTS)) -> None:
        """What of these parts lies in old files; what does not lie there after all is missing."""
        plan = self.held.plan
        async with self._disk:
            for run in plan.copies(parts):
                good = await in_thread(partial(copy_run, plan, self._old, self._files, self._parts, run))
                plan.is_there(good.first, good.last)
                self.picker.lacks(good.last, run.last)
        self._grew()

    async def make(self, made: Iterator[tuple[Chunk, bytes]], numbers: Mapping[int, int]) -> set[int]:
        """Chunks that are made here of something else, as far as they are right; the parts in which those lie.

        Args:
            numbers: of the chunks, by their offsets.

        Raises:
            ContentMismatchError, OSError: what they are made of is not there any more, or nothing can be kept.
        """
        parts, is_over = set[int](), False
        while not is_over:
            async with self._disk:
                right, is_over = await in_thread(partial(self._make_some, made))
            for number in (numbers[chunk.offset] for chunk in right):
                self.picker.is_here(number)
                parts.update(self.held.plan.parts(number))
            self._grew()
        return parts

    def _make_some(self, made: Iterator[tuple[Chunk, bytes]]) -> tuple[list[Chunk], bool]:
        """Those that are right of some, and whether these were the last ones."""
        right, count = list[Chunk](), 0
        for chunk, data in made:
            if leaf_id(data) == chunk.id:
                self._write_now(data, chunk.offset)
                right.append(chunk)
            count += len(data)
            if count >= CHUNK:
                return right, False
        return right, True

    async def take(self, member: SwarmMember, asked: Asked, share: int) -> None:
        """See one request to its end, or until others brought all of it; then the parts that it was about are copied.

        Args:
            share: see ``SwarmMember.pieces``.

        Raises:
            PeerBusyError: the peer serves as many as it may.
            PeerError, CodecError: it lied, stalled, broke the protocol or went away.
            OSError: whatever the sink raises.
        """
        taking = self._taking[asked] = asyncio.create_task(self._take(member, asked, share))
        is_whole = False
        try:
            await asyncio.wait([taking])
            if not taking.cancelled():
                taking.result()
                is_whole = True
        finally:
            taking.cancel()
            try:
                await asyncio.gather(taking, return_exceptions=True)
            finally:
                del self._taking[asked]
                parts = self.picker.end(asked, self._clock(), is_whole=is_whole)
        # So that they can be given to others.
        await self.copy(parts)

    async def _take(self, member: SwarmMember, asked: Asked, share: int) -> None:
        checked = Checked(self.held.plan, asked.runs)
        wrote = self._clock()
        ranges = [(run.offset, run.size) for run in asked.runs]
        pending = 0
        try:
            async with contextlib.aclosing(member.pieces(self.held.info, ranges, share)) as answer:
                async for pieces in answer:
                    pending += sum(len(piece) for _, piece in pieces)
                    for offset, piece in pieces:
                        is_early = self._clock() - wrote < max(_WRITE_EVERY, _TIMES * self._write_took)
                        enough = CHUNK if is_early else 1
                        for run, block in checked.feed(offset, piece, enough):
                            await self._write(member, asked, run, block)
                            pending -= len(block)
                            wrote = self._clock()
        except asyncio.CancelledError:
            # That others were quicker is no fault of its.
            member.good += pending
            raise
        except (PeerError, CodecError):
            for run, block in checked.so_far():
                await self._write(member, asked, run, block)
            raise
        if not checked.is_complete:
            raise PeerError("the peer does not have what it said to have, or ended its answer early")

    async def _write(self, member: SwarmMember, asked: Asked, run: Run, block: bytes) -> None:
        began = self._clock()
        async with self._disk:
            await in_thread(partial(self._write_now, block, run.offset))
        self._write_took = self._clock() - began
        member.watch.pause(self._write_took)
        member.good += len(block)
        self.picker.came(asked, run, self._clock())
        self._grew()
        for each in self.picker.needless():
            taking = self._taking.get(each)
            if taking is not None and taking is not asyncio.current_task():
                taking.cancel()

    def _write_now(self, block: bytes, offset: int) -> None:
        self._parts.write_part(block, offset)
        self._unsynced += len(block)
        began = self._clock()
        is_late = began - self._synced_at >= max(_SYNC_EVERY, _TIMES * self._sync_took)
        if self._unsynced >= (_SYNC_SOME if is_late else _SYNC_MOST):
            self._unsynced = 0
            self._parts.sync()
            self._synced_at = self._clock()
            self._sync_took = self._synced_at - began
