"""Makes chunks of a release out of opened content, where that spares most of what would be fetched of it.

protocol.md "Opened streams". A source of chunks of the file beside old files and peers: what comes out wrong is fetched
as ever, and nobody is to blame. Not here: what opened content is and what is worth it (``artifact``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Collection, Sequence
from functools import partial

from pypatcher.artifact.chunks import Chunk, leaf_id
from pypatcher.artifact.new_content import NewContent
from pypatcher.artifact.opened import TABLE_LIMIT, Content, Streams
from pypatcher.errors import ArtifactError, CodecError, PeerError, PeerLacksError
from pypatcher.file_parts import read_part
from pypatcher.tasks import in_thread
from pypatcher.transfer.v1.asking import Asking, NoTreeError
from pypatcher.transfer.v1.filling import Filling
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.messages import Flags
from pypatcher.transfer.v1.old_files import Files, OldOpened
from pypatcher.transfer.v1.walking import Walking, WrongTreeError

__all__ = ["Opening"]

_log = logging.getLogger("pypatcher")
_INDEX = 8
"""The index may have that part of what is missing."""
_REQUEST, _RANGES = 1 << 16, 256
_PATIENCE = 4.0
_SECONDS = 30.0
"""After which what did not come is fetched as ever."""


class Opening:
    """One download's.

    Args:
        stated: the root of the opened content's tree, as the owner states it.
        asking: of who has all of the release; who fetches it itself has no opened content.
    """

    def __init__(
        self,
        stated: bytes,
        filling: Filling,
        asking: Asking,
        old: OldOpened,
        files: Files,
    ) -> None:
        self._stated, self._filling, self._asking, self._old = stated, filling, asking, old
        self._info = filling.held.info
        self._content = Content(partial(read_part, files[0][0]), old.streams)

    async def run(self) -> None:
        """Make what is worth it.

        Raises:
            PeerBusyError, NobodyLeftError: nobody is left to ask.
            OSError: nothing can be kept.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                new, chosen = await self._learn()
        except (NoTreeError, WrongTreeError, CodecError, ArtifactError, TimeoutError) as error:
            _log.debug(
                "%s is fetched without opening its streams: %s", self._info.version, str(error) or "it takes too long"
            )
            return
        numbers = {chunk.offset: number for number, chunk in chosen.items()}
        with contextlib.suppress(ArtifactError):
            parts = await self._filling.make(new.make(chosen.values()), numbers)
            await self._filling.copy(sorted(parts))

    async def _learn(self) -> tuple[NewContent, dict[int, Chunk]]:
        """The new file's opened content, as far as it is needed, and what can be made of it."""
        plan = self._filling.held.plan
        walking = Walking(
            self._info, self._stated[1:], self._asking, opened=self._stated[0], most=plan.missing // _INDEX
        )
        walk = await walking.walk(self._old.chunks.nodes)
        new = await in_thread(lambda: NewContent(*walk.finish(), self._old.chunks, self._content))
        size = Streams.table_size(await self._end(new, Streams.table_size(b"")))
        if size > min(TABLE_LIMIT, new.size):
            raise CodecError("a table of streams that is larger than any")
        new.follow(Streams.decode(await self._end(new, size), self._info.file_size, new.size))
        missing = dict(self._missing())
        chosen, needed = await in_thread(partial(new.choose, missing.values()))
        await self._fetch(new, needed)
        offsets = {chunk.offset for chunk in chosen}
        return new, {number: chunk for number, chunk in missing.items() if chunk.offset in offsets}

    def _missing(self) -> Collection[tuple[int, Chunk]]:
        """Number and place of the chunks of the file that are to be fetched."""
        plan, offset, found = self._filling.held.plan, 0, list[tuple[int, Chunk]]()
        for number in range(len(plan)):
            size, name = plan.chunk(number)
            if plan.is_wanted(number):
                found.append((number, Chunk(offset, size, name)))
            offset += size
        return found

    async def _end(self, new: NewContent, size: int) -> bytes:
        """The last bytes of it."""
        if size > new.size:
            raise CodecError("opened content without a table")
        await self._fetch(new, new.lacking(size, new.size - size))
        return await in_thread(partial(new.table, size))

    async def _fetch(self, new: NewContent, numbers: Sequence[int]) -> None:
        """These chunks, some at once, each checked."""
        asked, together = list[int](), 0
        for number in [*numbers, None]:
            if number is not None and number in new.fetched:
                continue
            size = 0 if number is None else new.chunk(number).size
            if asked and (number is None or together + size > _REQUEST or len(asked) == _RANGES):
                new.fetched |= await self._asking.ask(partial(self._take, new, asked), _PATIENCE)
                asked, together = [], 0
            if number is not None:
                asked.append(number)
                together += size

    async def _take(self, new: NewContent, numbers: Sequence[int], member: SwarmMember) -> dict[int, bytes] | None:
        """Them from one peer; None where it has none."""
        chunks = [new.chunk(number) for number in numbers]
        ranges = list[tuple[int, int]]()
        for chunk in chunks:
            if ranges and sum(ranges[-1]) == chunk.offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + chunk.size
            else:
                ranges.append((chunk.offset, chunk.size))
        data = bytearray()
        try:
            pieces = member.pieces(self._info, ranges, 1, Flags.ZLIB | Flags.OPENED)
            async with contextlib.aclosing(pieces) as answer:
                async for some in answer:
                    data += b"".join(piece for _, piece in some)
        except PeerLacksError:
            return None
        if len(data) != sum(chunk.size for chunk in chunks):
            raise PeerError("the peer does not have what it said to have, or ended its answer early")
        found, at = dict[int, bytes](), 0
        for number, chunk in zip(numbers, chunks, strict=True):
            found[number] = bytes(data[at : at + chunk.size])
            at += chunk.size
            if leaf_id(found[number]) != chunk.id:
                raise PeerError("the peer sent bytes that are not those of the release")
        member.good += len(data)
        return found
