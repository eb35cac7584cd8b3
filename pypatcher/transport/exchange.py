"""The v0 exchange over a connection: a release from disk, and a release to disk. Neither end holds it in memory.

DESIGN "Transport and transfer". Who dialed does not matter: the one who wants the release opens the stream. Sizes are
checked before a byte is written, against what the OWNER signed; whether the bytes are the release is for
``pypatcher.artifact`` to say afterwards. The bytes themselves are in ``wire``, the limits in ``limiter`` and ``pace``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pypatcher.addresses import Address
from pypatcher.artifact.patch import MAX_FILE_SIZE, PatchInfo
from pypatcher.errors import CodecError, ContentMismatchError, MinuteRefusedError, PatcherError, PeerError
from pypatcher.keys import OwnerKey
from pypatcher.transport import wire
from pypatcher.transport.connection import Connection
from pypatcher.transport.endpoint import Endpoint
from pypatcher.transport.limiter import Upload, UploadLimiter
from pypatcher.transport.pace import DEFAULT_STALL, StallRule, StallWatch
from pypatcher.transport.stream import Stream
from pypatcher.transport.wire import CloseCode

__all__ = ["Served", "fetch_from", "fetch_release", "serve_release"]

_OWN_NAMESPACE = "/pypatcher/"
_CHUNK = 1 << 18
_FETCH_WINDOW = 1 << 21
_ANSWER_SECONDS = 15.0
_REQUESTS = 2


@dataclass(frozen=True, slots=True)
class Served:
    """A release on disk that is given to others.

    Attributes:
        info: what the owner signed about it.
        path: the whole signed file; opened for each upload, so that a rename over it harms none that runs.
    """

    info: PatchInfo
    path: Path


async def fetch_release(
    connection: Connection,
    *,
    owner: OwnerKey,
    expect: PatchInfo | None,
    write: Callable[[bytes], None],
    max_size: int = MAX_FILE_SIZE,
    minute: int | None = None,
    now: Callable[[], float] = time.time,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
    stall: StallRule = DEFAULT_STALL,
    clock: Callable[[], float] = time.monotonic,
) -> PatchInfo:
    """Fetch the peer's release and hand its bytes to ``write``, whole file, in order.

    Args:
        connection: to the peer, whichever side opened it; it is left open.
        owner: whose release.
        expect: the announcement that was heard; what the peer sends must be exactly that. None takes any release.
        write: called in a worker thread with up to 256 KiB at a time, never twice at once.
        max_size: most bytes of the file that are taken.
        minute: unix time / 60 to ask with, from a ``MinuteRefusedError``; None asks with ours and, when the peer names
            its own, once more with that on the same connection.
        now: unix time.
        on_progress: called with bytes written and bytes in all.
        stall: how slow is too slow.
        clock: monotonic seconds, for ``stall``.

    Returns:
        What the peer says that the file is; its signature by the owner was checked. The file was not.

    Raises:
        PeerBusyError: the peer serves as many as it may.
        MinuteRefusedError: the peer refused our minute and ended the connection: dial it again with that one.
        PeerError: the peer refused, stalled, broke the protocol or went away.
        ContentMismatchError: the peer has another release, or another length, than announced.
        SignatureMismatchError: the owner did not sign it.
        OSError: whatever ``write`` raises.
    """
    asked = int(now() // 60) if minute is None else minute
    try:
        stream = await _request(connection, owner, asked)
    except MinuteRefusedError as error:
        if minute is not None or connection.is_closed:
            raise
        try:
            stream = await _request(connection, owner, error.minute)
        except PeerError:
            if connection.is_closed:
                raise error from None
            raise
    code = CloseCode.PROTOCOL
    try:
        info = await _receive(
            stream,
            StallWatch(stall, clock),
            owner=owner,
            expect=expect,
            write=write,
            max_size=max_size,
            on_progress=on_progress,
        )
        code = CloseCode.DONE
    except _StalledError:
        code = CloseCode.STALLED
        raise
    finally:
        if code != CloseCode.DONE:
            stream.reset(code)
    return info


async def fetch_from(
    endpoint: Endpoint,
    address: Address,
    *,
    node_id: bytes | None,
    alpn: str,
    owner: OwnerKey,
    expect: PatchInfo | None,
    write: Callable[[bytes], None],
    **options: Any,
) -> PatchInfo:
    """Dial a peer and ``fetch_release``; a peer of another minute is dialed once more with that minute.

    ``options`` are those of ``fetch_release``. Nothing was given to ``write`` when the second try begins.

    Raises:
        PeerError, ArtifactError, OSError: as ``Endpoint.connect`` and ``fetch_release``.
    """
    minute: int | None = None
    while True:
        connection = await endpoint.connect(address, node_id=node_id, alpn=alpn)
        try:
            return await fetch_release(connection, owner=owner, expect=expect, write=write, minute=minute, **options)
        except MinuteRefusedError as error:
            if minute is not None:
                raise
            minute = error.minute
        finally:
            connection.close(CloseCode.DONE)


async def serve_release(
    connection: Connection,
    *,
    owner: OwnerKey,
    release: Served | Callable[[], Served | None] | None,
    limiter: UploadLimiter,
    now: Callable[[], float] = time.time,
    stall: StallRule = DEFAULT_STALL,
    clock: Callable[[], float] = time.monotonic,
) -> int:
    """Answer a peer's requests on ``connection``: one upload at most, streamed from disk.

    Args:
        connection: from the peer, whichever side opened it; it is closed at the end.
        owner: whose release.
        release: what we give, or a function that says so when the peer asked rightly; None gives nothing.
        limiter: the node's upload limits.
        now: unix time.
        stall: a peer that takes its bytes slower than this is dropped.
        clock: monotonic seconds, for ``stall``.

    Returns:
        Bytes of the file that the peer acknowledged: all or 0.

    Raises:
        PeerError: the peer broke the protocol, stalled or went away.
    """
    tell_minute = connection.alpn.startswith(_OWN_NAMESPACE)
    for _ in range(_REQUESTS):
        async with _answer_time():
            stream = await connection.accept_stream()
            request = await stream.read_exactly(wire.REQUEST_SIZE)
        minute = int(now() // 60)
        if wire.check_auth(request, owner, minute):
            break
        await stream.write(wire.encode_refusal(minute if tell_minute else None))
        await stream.finish()
    else:
        async with _answer_time():
            await stream.delivered()
        connection.close(CloseCode.REFUSED)
        return 0
    served = release() if callable(release) else release
    if served is None:
        connection.close(CloseCode.UNAVAILABLE)
        return 0
    upload = limiter.admit(connection.peer_address, served.info.file_size)
    if upload is None:
        connection.close(CloseCode.BUSY)
        return 0
    try:
        return await _send(connection, stream, served, upload, StallWatch(stall, clock))
    finally:
        upload.end()


class _StalledError(PeerError):
    """Told apart so that the peer can be told, too."""


@contextlib.asynccontextmanager
async def _answer_time() -> AsyncIterator[None]:
    """A peer may take so long for a few bytes."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            yield
    except TimeoutError:
        raise PeerError(f"the peer was silent for {_ANSWER_SECONDS:g} s") from None


async def _request(connection: Connection, owner: OwnerKey, minute: int) -> Stream:
    """Ask, and return the stream behind the byte that accepts."""
    async with _answer_time():
        stream = await connection.open_stream()
        stream.expect_much(_FETCH_WINDOW)
        await stream.write(wire.auth_value(owner, minute))
        await stream.finish()
        verdict = await stream.read_exactly(1)
        if verdict == wire.ACCEPTED:
            return stream
        if verdict != wire.REFUSED:
            stream.reset(CloseCode.PROTOCOL)
            raise PeerError("the peer answered with something else than the v0 exchange")
        theirs = await stream.read_exactly(8) if connection.alpn.startswith(_OWN_NAMESPACE) else b""
        if await stream.read(1):
            stream.reset(CloseCode.PROTOCOL)
    if not theirs:
        raise PeerError("the peer refused us: its clock or its owner's key is another one")
    raise MinuteRefusedError(int.from_bytes(theirs, "little"))


async def _receive(
    stream: Stream,
    watch: StallWatch,
    *,
    owner: OwnerKey,
    expect: PatchInfo | None,
    write: Callable[[bytes], None],
    max_size: int,
    on_progress: Callable[[int, int], None],
) -> PatchInfo:
    async with _answer_time():
        length = int.from_bytes(await stream.read_exactly(wire.LENGTH_SIZE), "big")
        start = await stream.read_exactly(min(length, wire.HEADER_LIMIT))
    try:
        header, data = wire.decode_patch_header(start, length)
    except CodecError as error:
        raise PeerError(f"the peer's answer makes no sense: {error}") from None
    info, total = header.info, header.data_size
    if expect is not None and info != expect:
        raise ContentMismatchError(
            f"the peer sends {info.version}, which is not the {expect.version} that was announced"
        )
    info.verify(owner)
    if total != info.file_size:
        raise ContentMismatchError(f"the peer sends {total} bytes of a file of {info.file_size}")
    if total > max_size:
        raise ContentMismatchError(f"a file of {total} bytes is more than the {max_size} that are taken here")
    loop = asyncio.get_running_loop()
    writing: asyncio.Future[None] | None = None
    done = 0
    try:
        while done < total:
            chunk = await _read_chunk(stream, data, min(_CHUNK, total - done), watch)
            data = b""
            if writing is not None:
                await _settled(writing)
            writing = loop.run_in_executor(None, write, chunk)
            done += len(chunk)
            on_progress(done, total)
    finally:
        # The caller may delete the file as soon as we are gone: no write of ours may come after that.
        if writing is not None:
            await _settled(writing)
    if await _read_watched(stream, 1, watch):
        raise ContentMismatchError(f"the peer sends more than the {total} bytes that it announced")
    return info


async def _settled(writing: asyncio.Future[None]) -> None:
    """Wait for a write that runs in a thread to its end, even if we are cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not writing.done():
        try:
            await asyncio.wait([writing])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    writing.result()


async def _read_chunk(stream: Stream, start: bytes, size: int, watch: StallWatch) -> bytes:
    """``start`` and what follows it, ``size`` bytes together."""
    parts = [start]
    missing = size - len(start)
    while missing > 0:
        part = await _read_watched(stream, missing, watch)
        if not part:
            raise PeerError("the peer ended its answer early")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


async def _read_watched(stream: Stream, limit: int, watch: StallWatch) -> bytes:
    try:
        async with asyncio.timeout(watch.remaining()):
            data = await stream.read(limit)
    except TimeoutError:
        raise _StalledError("the peer stalled: it is too slow to wait for") from None
    watch.moved(len(data))
    return data


async def _send(
    connection: Connection,
    stream: Stream,
    served: Served,
    upload: Upload,
    watch: StallWatch,
) -> int:
    total = served.info.file_size
    try:
        descriptor = os.open(served.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        connection.close(CloseCode.UNAVAILABLE)
        return 0
    try:
        if os.fstat(descriptor).st_size != total:
            connection.close(CloseCode.UNAVAILABLE)
            return 0
        await stream.write(wire.encode_acceptance(served.info, total))
        offset = 0
        while offset < total:
            chunk = await asyncio.to_thread(os.pread, descriptor, min(_CHUNK, total - offset), offset)
            if not chunk:
                raise PatcherError(f"{served.path} became shorter while it was served")
            for start in range(0, len(chunk), upload.piece):
                piece = chunk[start : start + upload.piece]
                if delay := upload.spend(len(piece)):
                    watch.pause(delay)
                    await asyncio.sleep(delay)
                await _write_watched(stream, piece, watch)
            offset += len(chunk)
        await stream.finish()
        try:
            await _delivered(stream, watch)
        except PeerError:
            # A peer that has all of it may leave before its last acknowledgement.
            if not connection.peer_is_done:
                raise
    except _StalledError:
        connection.close(CloseCode.STALLED)
        raise
    finally:
        os.close(descriptor)
    return total


async def _write_watched(stream: Stream, piece: bytes, watch: StallWatch) -> None:
    try:
        async with asyncio.timeout(watch.remaining()):
            await stream.write(piece)
    except TimeoutError:
        raise _StalledError("the peer stalled: it takes its bytes too slowly") from None
    watch.moved(len(piece))


async def _delivered(stream: Stream, watch: StallWatch) -> None:
    """Wait for the peer to acknowledge the rest, as long as it does so fast enough."""
    while True:
        left = stream.unacknowledged
        try:
            async with asyncio.timeout(watch.remaining()):
                return await stream.delivered()
        except TimeoutError:
            watch.moved(left - stream.unacknowledged)
            if watch.remaining() <= 0:
                raise _StalledError("the peer stalled: it takes its bytes too slowly") from None
