"""Offers: two nodes say what they have, and the one that wants the other's release fetches it on the spot.

design.md "Transport and transfer": who dialed and who fetches are independent, so a holder that nobody can reach gives
to those that it can reach. ALPN ``/pypatcher/<target>/<z32 key>/offer/v0``:

    dialer      postcard(PatchInfo) of what it has, or nothing, on a unidirectional stream, then its end
    other side  wants it: opens a bidirectional stream and is the client of the v0 exchange (``client``, ``server``)
                else: says what it has itself in the same way, or closes with BUSY if it cannot fetch just now

Not here: whether a release is wanted, and who is dialed (``offer_exchange``).
"""

from __future__ import annotations

import asyncio

from pypatcher.artifact.patch import PatchInfo
from pypatcher.errors import CodecError, PeerError
from pypatcher.keys import OwnerKey
from pypatcher.transfer.wire import HEADER_LIMIT
from pypatcher.transport.connection import Connection

__all__ = ["receive_offer", "send_offer"]

_OFFER_SECONDS = 15.0


async def send_offer(connection: Connection, info: PatchInfo | None) -> None:
    """Say what this side has; None is nothing, and asks.

    Raises:
        PeerError: the connection ended.
    """
    stream = await connection.open_uni()
    await stream.write(b"" if info is None else info.to_postcard())
    await stream.finish()


async def receive_offer(
    connection: Connection, owner: OwnerKey, patience: float | None = _OFFER_SECONDS
) -> PatchInfo | None:
    """What the peer says that it has; None is nothing.

    Args:
        patience: seconds; None waits until the connection ends.

    Raises:
        PeerError: it was silent, broke the protocol or went away.
        SignatureMismatchError: the owner did not sign it.
    """
    try:
        async with asyncio.timeout(patience):
            stream = await connection.accept_uni()
            data = b""
            while part := await stream.read(HEADER_LIMIT + 1 - len(data)):
                data += part
                if len(data) > HEADER_LIMIT:
                    raise PeerError("the peer's offer is too long")
    except TimeoutError:
        raise PeerError(f"the peer offered nothing within {patience:g} s") from None
    if not data:
        return None
    try:
        info, _ = PatchInfo.from_postcard(data)
    except CodecError as error:
        raise PeerError(f"the peer's offer makes no sense: {error}") from None
    info.verify(owner)
    return info
