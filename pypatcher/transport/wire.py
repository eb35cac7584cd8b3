"""The bytes of the v0 exchange, and the codes that end a connection. No stream, no file, no clock.

protocol.md "The v0 exchange":

    request   SHA-512(owner_public_key || unix_minute_le)                       64 bytes
    accepted  1 || u64_be(length of what follows) || postcard(Patch)
              postcard(Patch) = postcard(PatchInfo) || varint(length of data) || data (the whole signed file)
    refused   0, and in our own ALPNs unix_minute_le of the server               1 or 9 bytes

Everything in the request is public: it keeps strangers' scanners off and is no access control.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from dataclasses import dataclass

from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.postcard import Reader, encode_unsigned
from pypatcher.errors import CodecError, PeerBusyError, PeerError
from pypatcher.keys import OwnerKey

__all__ = [
    "ACCEPTED",
    "HEADER_LIMIT",
    "LENGTH_SIZE",
    "REFUSED",
    "REQUEST_SIZE",
    "CloseCode",
    "PatchHeader",
    "auth_value",
    "check_auth",
    "close_error",
    "decode_patch_header",
    "encode_acceptance",
    "encode_refusal",
    "tells_minute",
]

REQUEST_SIZE = 64
LENGTH_SIZE = 8
ACCEPTED, REFUSED = b"\x01", b"\x00"
HEADER_LIMIT = 3 * 5 + 10 + 32 + 64 + 10
"""Most bytes that postcard(PatchInfo) and the length of the data can take."""

_U64 = 1 << 64
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


@dataclass(frozen=True, slots=True)
class PatchHeader:
    """What comes before the data of a Patch."""

    info: PatchInfo
    data_size: int


def auth_value(owner: OwnerKey, minute: int) -> bytes:
    """The 64 bytes that a client opens the exchange with at ``minute`` (unix time / 60)."""
    return hashlib.sha512(owner + (minute % _U64).to_bytes(8, "little")).digest()


def check_auth(request: bytes, owner: OwnerKey, minute: int) -> bool:
    """Whether ``request`` is for ``owner`` at ``minute`` or one minute to either side; in constant time."""
    matches = 0
    for candidate in (minute - 1, minute, minute + 1):
        matches |= hmac.compare_digest(request, auth_value(owner, candidate))
    return bool(matches)


def encode_acceptance(info: PatchInfo, data_size: int) -> bytes:
    """Everything of an accepted answer that comes before the ``data_size`` bytes of the signed file."""
    header = info.to_postcard() + encode_unsigned(data_size)
    return ACCEPTED + (len(header) + data_size).to_bytes(LENGTH_SIZE, "big") + header


def tells_minute(alpn: str) -> bool:
    """Whether a refusal carries the server's minute: in our own namespaces, not in the Rust program's."""
    return alpn.startswith("/pypatcher/")


def encode_refusal(minute: int | None) -> bytes:
    """A refusal, with the server's minute where the namespace is ours."""
    return REFUSED if minute is None else REFUSED + (minute % _U64).to_bytes(8, "little")


def decode_patch_header(start: bytes, length: int) -> tuple[PatchHeader, bytes]:
    """Read the beginning of a postcard(Patch) of ``length`` bytes; also returns the data that follows the header.

    ``start`` is its first ``HEADER_LIMIT`` bytes, or all of a shorter one.

    Raises:
        CodecError: it is no Patch, or its data does not end where the answer does.
    """
    reader = Reader(start)
    info = PatchInfo.read(reader)
    size = reader.unsigned()
    rest = reader.rest()
    header_size = len(start) - len(rest)
    if header_size + size != length:
        raise CodecError(f"an answer of {length} bytes cannot hold {header_size} bytes of header and {size} of data")
    return PatchHeader(info, size), rest


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
