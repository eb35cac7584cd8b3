"""The 176-byte signature region: what the owner says about a release (``PatchInfo``), as a file carries it.

protocol.md "The signed file". Byte-compatible with the Rust program ``rustpatcher`` 0.2:

    offset  bytes  what
         0     28  bounds marker
        28     32  hash: first 32 bytes of SHA-512 over the file without its region
        60      8  size: length of the file without its region, u64 little-endian
        68     64  ed25519 signature
       132     16  version, ASCII, NUL-padded
       148     28  bounds marker

Where in a file it lies is told by ``locate``. The marker is never written down whole, here or in any module: a program
that contains pypatcher must hold it only where its own region is.
"""

from __future__ import annotations

import struct
from functools import cache

from pypatcher.artifact.patch import HASH_SIZE, REGION_SIZE, PatchInfo
from pypatcher.errors import RegionError, VersionError
from pypatcher.keys import SIGNATURE_SIZE
from pypatcher.version import Version

__all__ = [
    "HASH_SIZE",
    "MARKER_SIZE",
    "REGION_SIZE",
    "SECOND_MARKER",
    "VERSION_FIELD",
    "marker",
    "pack_region",
    "template",
    "unpack_region",
]

MARKER_SIZE = 28
SECOND_MARKER = 148
"""Offset of the closing marker in a region."""
VERSION_FIELD = slice(132, 148)

_FIELDS = struct.Struct("<28s32sQ64s16s28s")
_WORDS_REVERSED = (b"\x17", b"REHCTAPTSUR", b"DEBME", b"SDNUOB", b"\x17")


@cache
def marker() -> bytes:
    """The 28 bytes that open and close a region, put together at run time (no compiler may fold them)."""
    return b"B".join(bytes(reversed(word)) for word in _WORDS_REVERSED)


def pack_region(info: PatchInfo) -> bytes:
    """The 176 bytes that a file of this release carries."""
    bounds = marker()
    return _FIELDS.pack(bounds, info.hash, info.size, info.signature, info.version.to_field(), bounds)


def unpack_region(data: bytes) -> PatchInfo:
    """Read 176 bytes; nothing is verified.

    Raises:
        RegionError: another length, no markers around, or a version field that is not canonical.
    """
    if len(data) != REGION_SIZE:
        raise RegionError(f"a region has {REGION_SIZE} bytes, not {len(data)}: the file is truncated or damaged")
    opening, digest, size, signature, version, closing = _FIELDS.unpack(data)
    if opening != marker() or closing != marker():
        raise RegionError("the bytes where the region belongs are no region: the file is damaged or was changed")
    try:
        return PatchInfo(Version.from_field(version), size, digest, signature)
    except VersionError as error:
        raise RegionError(f"the region is damaged: {error}") from None


def template(version: Version) -> bytes:
    """A region that nobody signed yet: only markers and version, the rest zeros."""
    return pack_region(PatchInfo(version, 0, bytes(HASH_SIZE), bytes(SIGNATURE_SIZE)))
