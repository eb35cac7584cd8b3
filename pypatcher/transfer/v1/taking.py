"""Takes a whole release by v1: its bytes in order, by RANGES, two requests at once so that latency sets no pace.

Sizes are checked before a byte is written, against what the OWNER signed. Not here: whether the bytes are the release
(``artifact``), and whom to ask (the updater).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from pypatcher.artifact.patch import MAX_FILE_SIZE, PatchInfo
from pypatcher.errors import CodecError, ContentMismatchError, PeerBusyError, PeerError
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.stall import StalledError, StallRule, StallWatch
from pypatcher.transfer.taking import CHUNK, WINDOW, Writing, read_watched
from pypatcher.transfer.v1.answers import RangesAnswer
from pypatcher.transfer.v1.messages import Flags, Kind, RangesRequest
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport import CloseCode

__all__ = ["fetch_whole"]

_AT_ONCE = 2
_REQUEST = 4 << 20
_AHEAD = 2
"""Chunks that a request may be ahead of the disk."""


async def fetch_whole(session: SessionV1, info: PatchInfo, sink: Sink, stall: StallRule) -> None:
    """Fetch a release, and hand its bytes to ``sink``, whole file, in order.

    Args:
        info: the owner signed it; the caller checked that.

    Raises:
        PeerBusyError: the peer serves as many as it may, and nothing came.
        PeerError: it refused, stalled, broke the protocol or went away.
        ContentMismatchError: no file of that length may be fetched.
        OSError: whatever ``sink`` raises.
    """
    total = info.file_size
    if total > MAX_FILE_SIZE:
        raise ContentMismatchError(f"a file of {total} bytes is more than the {MAX_FILE_SIZE} that are allowed")
    # Who dialed us and gives has its place as surely as who takes.
    session.connection.keep_place()
    done = 0

    def moved(count: int) -> None:
        nonlocal done
        done += count
        session.moved(count)
        sink.received(done, total)

    writing = Writing(sink)
    watch = StallWatch(stall, time.monotonic)
    ranges = [(start, min(_REQUEST, total - start)) for start in range(0, total, _REQUEST)]
    under_way: list[_Part] = []
    try:
        with session.moving():
            while ranges or under_way:
                while ranges and len(under_way) < _AT_ONCE:
                    under_way.append(_Part(session, info, ranges.pop(0), watch, moved))
                await under_way[0].take(writing)
                under_way.pop(0)
    except PeerBusyError:
        if not done:
            raise
        # It had begun: nobody may waste a transfer and call it none.
        raise PeerError("the peer gave up a transfer that it had begun") from None
    except StalledError:
        session.connection.close(CloseCode.STALLED)
        raise
    except CodecError as error:
        session.connection.close(CloseCode.PROTOCOL)
        raise PeerError(f"the peer's answer makes no sense: {error}") from None
    finally:
        await asyncio.gather(*(part.end() for part in under_way))
        await writing.end()


class _Part:
    """One request for one range; its first bytes may come while those before are read."""

    def __init__(
        self,
        session: SessionV1,
        info: PatchInfo,
        part: tuple[int, int],
        watch: StallWatch,
        moved: Callable[[int], None],
    ) -> None:
        self._session = session
        self._size = part[1]
        self._watch = watch
        self._moved = moved
        self._asked = RangesRequest(info.release_id, Flags(0), (part,))
        self._chunks: asyncio.Queue[bytes] = asyncio.Queue()
        self._room = asyncio.Semaphore(_AHEAD)
        self._reading = asyncio.create_task(self._read())

    async def take(self, writing: Writing) -> None:
        """Write what comes of it, to its end."""
        while chunk := await self._chunks.get():
            self._room.release()
            await writing.put(chunk)
        await self._reading

    async def end(self) -> None:
        """Give it up."""
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        answer = RangesAnswer(self._asked.ranges, zlib_welcome=False)
        missing, chunk = self._size, bytearray()
        try:
            async with self._session.request(Kind.RANGES, self._asked.encode(), window=WINDOW // _AT_ONCE) as stream:
                while data := await read_watched(stream, CHUNK, self._watch):
                    for _, piece in answer.feed(data):
                        missing -= len(piece)
                        chunk += piece
                        self._moved(len(piece))
                    if len(chunk) >= CHUNK or not missing:
                        await self._room.acquire()
                        self._chunks.put_nowait(bytes(chunk))
                        chunk.clear()
                if missing:
                    raise PeerError("the peer does not have what it said to have, or ended its answer early")
        finally:
            self._chunks.put_nowait(b"")
