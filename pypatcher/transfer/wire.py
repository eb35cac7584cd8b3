"""The bytes of the v0 exchange. No stream, no file, no clock.

protocol.md "The v0 exchange":

    request   SHA-512(owner_public_key || unix_minute_le)                       64 bytes
    accepted  1 || u64_be(length of what follows) || postcard(Patch)
              postcard(Patch) = postcard(PatchInfo) || varint(length of data) || data (the whole signed file)
    refused   0, and in our own ALPNs unix_minute_le of the server               1 or 9 bytes

Everything in the request is public: it keeps strangers' scanners off and is no access control.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.postcard import Reader, encode_unsigned
from pypatcher.errors import CodecError
from pypatcher.keys import OwnerKey

__all__ = [
    "ACCEPTED",
    "HEADER_LIMIT",
    "LENGTH_SIZE",
    "REFUSED",
    "REQUEST_SIZE",
    "PatchHeader",
    "auth_value",
    "check_auth",
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
