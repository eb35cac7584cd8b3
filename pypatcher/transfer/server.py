"""The server's side of the v0 exchange: a release from disk, never in memory as a whole.

design.md "Transport and transfer". Who dialed does not matter: the one who wants the release opens the stream. Not
here: the bytes of the exchange (``wire``), the upload limits (``budgets``), how slow a taker may be (``stall``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

from pypatcher.artifact import PatchInfo
from pypatcher.budgets.upload import Upload
from pypatcher.errors import PatcherError, PeerError
from pypatcher.install.local_release import LocalRelease
from pypatcher.keys import OwnerKey
from pypatcher.transfer import wire
from pypatcher.transfer.giving import CHUNK, OpenRelease, give, wait_delivered
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.stall import DEFAULT_STALL, StalledError, StallRule, StallWatch, answer_time
from pypatcher.transport.close import CloseCode
from pypatcher.transport.connection import Connection
from pypatcher.transport.stream import Stream

__all__ = ["Served", "serve_release"]

_REQUESTS = 2


class Served(NamedTuple):
    """An upload that its peer acknowledged to the last byte; ``seconds`` is how long it took."""

    info: PatchInfo
    seconds: float


async def serve_release(
    connection: Connection,
    shelf: Shelf,
    *,
    owner: OwnerKey,
    now: Callable[[], float] = time.time,
    stall: StallRule = DEFAULT_STALL,
    clock: Callable[[], float] = time.monotonic,
    begun: asyncio.Event | None = None,
) -> Served | None:
    """Answer a peer's requests on ``connection``: one upload at most, streamed from disk.

    Args:
        connection: from the peer, whichever side opened it; it is closed at the end.
        shelf: what we give, asked once the peer asked rightly, and the limits on it.
        owner: whose release.
        now: unix time.
        stall: a peer that takes its bytes slower than this is dropped.
        clock: monotonic seconds.
        begun: set when an upload has its place; from then on it is one of those that the limits bound.

    Returns:
        None when nothing was given.

    Raises:
        PeerError: the peer broke the protocol, stalled or went away.
    """
    tell_minute = wire.tells_minute(connection.alpn)
    for _ in range(_REQUESTS):
        async with answer_time():
            stream = await connection.accept_stream()
            request = await stream.read_exactly(wire.REQUEST_SIZE)
        minute = int(now() // 60)
        if wire.check_auth(request, owner, minute):
            connection.keep_place()
            break
        await stream.write(wire.encode_refusal(minute if tell_minute else None))
        await stream.finish()
    else:
        async with answer_time():
            await stream.delivered()
        connection.close(CloseCode.REFUSED)
        return None
    release = shelf.release()
    if release is None:
        connection.close(CloseCode.UNAVAILABLE)
        return None
    upload = shelf.limiter.admit(
        connection.peer_address, release.info.file_size, lambda: connection.close(CloseCode.STALLED)
    )
    if upload is None:
        connection.close(CloseCode.BUSY)
        return None
    started = clock()
    if begun is not None:
        begun.set()
    try:
        with upload.answering(stream):
            is_whole = await _send(connection, stream, release, upload, StallWatch(stall, clock))
        return Served(release.info, clock() - started) if is_whole else None
    finally:
        upload.settle(stream.sent)
        upload.end()


async def _send(
    connection: Connection,
    stream: Stream,
    release: LocalRelease,
    upload: Upload,
    watch: StallWatch,
) -> bool:
    """Whether the peer has all of it now."""
    total = release.info.file_size
    try:
        file = OpenRelease(release)
    except (PatcherError, OSError):
        connection.close(CloseCode.UNAVAILABLE)
        return False
    with file:
        try:
            await stream.write(wire.encode_acceptance(release.info, total))
            offset = 0
            while offset < total:
                chunk = await _read(file, min(CHUNK, total - offset), offset, connection)
                await give(stream, chunk, upload, watch)
                offset += len(chunk)
            await stream.finish()
            try:
                await wait_delivered(stream, watch)
            except PeerError:
                # A peer that has all of it may leave before its last acknowledgement.
                if not connection.peer_is_done:
                    raise
        except StalledError:
            connection.close(CloseCode.STALLED)
            raise
    return True


async def _read(file: OpenRelease, size: int, offset: int, connection: Connection) -> bytes | bytearray:
    try:
        return await file.read(size, offset)
    except PatcherError:
        connection.close(CloseCode.UNAVAILABLE)
        raise
