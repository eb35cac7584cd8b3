"""The client's side of the v0 exchange: a release to disk, never in memory as a whole.

design.md "Transport and transfer". Who dialed does not matter: the one who wants the release opens the stream. Sizes
are checked before a byte is written, against what the OWNER signed. Not here: whether the bytes are the release
(``artifact``), the bytes of the exchange (``wire``), how slow is too slow (``stall``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from pypatcher.addresses import Address
from pypatcher.artifact.patch import MAX_FILE_SIZE, PatchInfo
from pypatcher.errors import CodecError, ContentMismatchError, MinuteRefusedError, PeerBusyError, PeerError
from pypatcher.keys import OwnerKey
from pypatcher.transfer import wire
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.stall import DEFAULT_STALL, StalledError, StallRule, StallWatch, answer_time
from pypatcher.transfer.taking import CHUNK, WINDOW, Writing, read_watched
from pypatcher.transport.close import CloseCode
from pypatcher.transport.connection import Connection
from pypatcher.transport.endpoint import Endpoint
from pypatcher.transport.stream import Stream

__all__ = ["Fetched", "fetch_from", "fetch_release"]


class Fetched(NamedTuple):
    """How a fetch ended.

    Attributes:
        info: what the peer says that the file is; its signature by the owner was checked. The file was not.
        minutes_ahead: by how much the peer's clock is ahead of ours; 0 where it took our minute.
    """

    info: PatchInfo
    minutes_ahead: int


async def fetch_release(
    connection: Connection,
    sink: Sink,
    *,
    owner: OwnerKey,
    expect: PatchInfo | None,
    minute: int | None = None,
    now: Callable[[], float] = time.time,
    stall: StallRule = DEFAULT_STALL,
    clock: Callable[[], float] = time.monotonic,
) -> Fetched:
    """Fetch the peer's release and hand its bytes to ``sink``, whole file, in order.

    Args:
        connection: to the peer, whichever side opened it; it is left open.
        sink: takes up to 256 KiB at a time, and hears of every piece that arrives.
        owner: whose release.
        expect: the announcement that was heard; what the peer sends must be exactly that. None takes any release.
        minute: unix time / 60 to ask with, from a ``MinuteRefusedError``; None asks with ours and, when the peer names
            its own, once more with that on the same connection.
        now: unix time.
        stall: how slow is too slow.
        clock: monotonic seconds, for ``stall``.

    Raises:
        PeerBusyError: the peer serves as many as it may.
        MinuteRefusedError: the peer refused our minute and ended the connection: dial it again with that one.
        PeerError: the peer refused, stalled, broke the protocol or went away.
        ContentMismatchError: the peer has another release, or another length, than announced.
        SignatureMismatchError: the owner did not sign it.
        OSError: whatever ``sink`` raises.
    """
    ours = int(now() // 60)
    used = ours if minute is None else minute
    try:
        stream = await _request(connection, owner, used)
    except MinuteRefusedError as error:
        if minute is not None:
            raise PeerError("the peer refused us twice: the owner's key is another one there") from None
        used = error.minute
        stream = await _request_again(connection, owner, error)
    code = CloseCode.PROTOCOL
    try:
        info = await _receive(stream, StallWatch(stall, clock), sink, owner, expect)
        code = CloseCode.DONE
    except StalledError:
        code = CloseCode.STALLED
        raise
    except PeerBusyError:
        # It had begun: nobody may waste a transfer and call it none.
        raise PeerError("the peer gave up a transfer that it had begun") from None
    finally:
        if code != CloseCode.DONE:
            stream.reset(code)
    return Fetched(info, used - ours)


async def fetch_from(
    endpoint: Endpoint,
    address: Address,
    sink: Sink,
    *,
    node_id: bytes | None,
    alpn: str,
    owner: OwnerKey,
    expect: PatchInfo | None,
    **options: Any,
) -> Fetched:
    """Dial a peer and ``fetch_release``; a peer of another minute is dialed once more with that minute.

    ``options`` are those of ``fetch_release``. Nothing was given to ``sink`` when the second try begins.

    Raises:
        PeerError, ArtifactError, OSError: as ``Endpoint.connect`` and ``fetch_release``.
    """
    minute: int | None = None
    while True:
        connection = await endpoint.connect(address, node_id=node_id, alpn=alpn)
        try:
            return await fetch_release(connection, sink, owner=owner, expect=expect, minute=minute, **options)
        except MinuteRefusedError as error:
            minute = error.minute
        finally:
            connection.close(CloseCode.DONE)


async def _request(connection: Connection, owner: OwnerKey, minute: int) -> Stream:
    """Ask, and return the stream behind the byte that accepts."""
    async with answer_time():
        stream = await connection.open_stream()
        stream.expect_much(WINDOW)
        await stream.write(wire.auth_value(owner, minute))
        await stream.finish()
        verdict = await stream.read_exactly(1)
        if verdict == wire.ACCEPTED:
            return stream
        if verdict != wire.REFUSED:
            stream.reset(CloseCode.PROTOCOL)
            raise PeerError("the peer answered with something else than the v0 exchange")
        theirs = await stream.read_exactly(8) if wire.tells_minute(connection.alpn) else b""
        if await stream.read(1):
            stream.reset(CloseCode.PROTOCOL)
    if not theirs:
        raise PeerError("the peer refused us: its clock or its owner's key is another one")
    raise MinuteRefusedError(int.from_bytes(theirs, "little"))


async def _request_again(connection: Connection, owner: OwnerKey, refusal: MinuteRefusedError) -> Stream:
    """Ask with the peer's own minute on the same connection, unless the peer hung up."""
    try:
        return await _request(connection, owner, refusal.minute)
    except PeerBusyError:
        raise
    except MinuteRefusedError:
        raise PeerError("the peer refused us twice: the owner's key is another one there") from None
    except PeerError:
        if connection.is_closed:
            raise refusal from None
        raise


async def _receive(
    stream: Stream, watch: StallWatch, sink: Sink, owner: OwnerKey, expect: PatchInfo | None
) -> PatchInfo:
    async with answer_time():
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
    if total > MAX_FILE_SIZE:
        raise ContentMismatchError(f"a file of {total} bytes is more than the {MAX_FILE_SIZE} that are allowed")
    writing = Writing(sink)
    done = 0
    try:
        while done < total:
            parts, missing = [], min(CHUNK, total - done)
            while missing > 0:
                part = data or await read_watched(stream, missing, watch)
                data = b""
                if not part:
                    raise PeerError("the peer ended its answer early")
                parts.append(part)
                missing -= len(part)
                done += len(part)
                sink.received(done, total)
            await writing.put(b"".join(parts))
    finally:
        await writing.end()
    if await read_watched(stream, 1, watch):
        raise ContentMismatchError(f"the peer sends more than the {total} bytes that it announced")
    return info
