"""The codes that end a connection or reset a stream, and what they mean to whoever waits on it.

protocol.md "The v0 exchange". Only numbers and words: what is exchanged lives in ``transfer/``.
"""

from __future__ import annotations

import enum

from pypatcher.errors import PeerBusyError, PeerError, PeerLacksError

__all__ = ["CloseCode", "close_error", "refusal"]

_REASON_LIMIT = 80
_CONNECTION_REFUSED = 0x2


class CloseCode(enum.IntEnum):
    """Why the application closed a connection or reset a stream (RFC 9000 section 20.2)."""

    DONE = 0
    PROTOCOL = 1
    """The other side broke the protocol."""
    REFUSED = 2
    """It did not know the owner's key, or the minute twice."""
    BUSY = 3
    """Upload limits are reached: ask somebody else, come back later."""
    STALLED = 4
    """It was too slow."""
    UNAVAILABLE = 5
    """There is no release to give just now."""
    STOPPING = 6
    """The node stops."""
    UNKNOWN = 7
    """It does not know that request; nobody is to blame."""


def refusal(code: int) -> PeerError:
    """What it means that a peer answered a request with this code instead of what was asked for."""
    if code == CloseCode.BUSY:
        return PeerBusyError("the peer is busy serving others")
    name = CloseCode(code).name.lower() if code in set(CloseCode) else f"0x{code:x}"
    kind = PeerLacksError if code == CloseCode.UNAVAILABLE else PeerError
    return kind(f"the peer refused a request: {name}")


def close_error(code: int, by_application: bool, reason: str) -> PeerError:
    """What a connection that the peer or QUIC ended means to whoever waits on it."""
    said = f" ({reason[:_REASON_LIMIT]!r})" if reason else ""
    if not by_application:
        if code == _CONNECTION_REFUSED:
            return PeerBusyError("the peer has no place for another connection")
        return PeerError(f"the connection failed with QUIC error 0x{code:x}{said}")
    if code == CloseCode.BUSY:
        return PeerBusyError("the peer is busy serving others")
    name = CloseCode(code).name.lower() if code in set(CloseCode) else f"0x{code:x}"
    return PeerError(f"the peer closed the connection: {name}{said}")
