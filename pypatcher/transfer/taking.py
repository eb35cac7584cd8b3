"""What every exchange does with a stream of bulk that it takes: reads it under the stall rule, writes in a thread.

Knows no protocol. Not here: how slow is too slow (``stall``).
"""

from __future__ import annotations

import asyncio

from pypatcher.errors import PeerError
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.stall import StalledError, StallWatch
from pypatcher.transport.stream import Stream
from pypatcher.waiting import wait_to_the_end

__all__ = ["CHUNK", "WINDOW", "Writing", "read_watched"]

CHUNK = 1 << 18
"""Bytes that are handed to a disk at once."""
WINDOW = 1 << 21
"""Bytes that a peer may send ahead of us."""
_NUDGE_AFTER, _NUDGES = 2.0, 6


class Writing:
    """Hands bytes to a sink in a worker thread, in order, never twice at once; the next may be read meanwhile."""

    def __init__(self, sink: Sink) -> None:
        self._write = sink.write
        self._under_way: asyncio.Future[object] | None = None

    async def put(self, chunk: bytes) -> None:
        """Write it once what came before is written.

        Raises:
            OSError: whatever the sink raised at what came before.
        """
        await self.end()
        self._under_way = asyncio.get_running_loop().run_in_executor(None, self._write, chunk)

    async def end(self) -> None:
        """Wait for what is under way: the caller may delete the file as soon as we are gone."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            await wait_to_the_end(under_way)


async def read_watched(stream: Stream, limit: int, watch: StallWatch) -> bytes:
    """The next 1 to ``limit`` bytes, or ``b""`` at the end of the stream.

    Raises:
        StalledError: the peer is too slow.
        PeerError: it went away.
    """
    unanswered = 0
    while True:
        try:
            async with asyncio.timeout(min(watch.remaining(), _NUDGE_AFTER)):
                data = await stream.read(limit)
        except TimeoutError:
            if not watch.remaining():
                raise StalledError("the peer stalled: it is too slow to wait for") from None
            # Who only takes sends nothing. If our router forgot us, or we are in another network, the peer's packets
            # are lost until one of ours shows where we are now.
            unanswered = unanswered + 1 if stream.nudge(_NUDGE_AFTER) else 0
            if unanswered > _NUDGES:
                raise PeerError("the peer does not answer any more: it went away, or is somewhere else") from None
            continue
        watch.progressed(len(data))
        if watch.intake is not None and (delay := watch.intake.took(len(data), stream.peer_address)):
            watch.pause(delay)
            await asyncio.sleep(delay)
        return data
