"""The 176-byte signature region: its layout, and nothing about where in a file it is.

protocol.md "The signed file". Byte-compatible with the Rust program ``rustpatcher`` 0.2:

    offset  bytes  what
         0     28  bounds marker
        28     32  hash: first 32 bytes of SHA-512 over the file without its region
        60      8  size: length of the file without its region, u64 little-endian
        68     64  ed25519 signature
       132     16  version, ASCII, NUL-padded
       148     28  bounds marker

The marker is never written down whole, here or in any module: a program that contains pypatcher must hold it only
where its own region is.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache

from pypatcher.errors import RegionError, VersionError
from pypatcher.keys import SIGNATURE_SIZE
from pypatcher.version import Version

__all__ = ["HASH_SIZE", "MARKER_SIZE", "REGION_SIZE", "SECOND_MARKER", "VERSION_FIELD", "Region", "marker", "template"]

REGION_SIZE = 176
MARKER_SIZE = 28
SECOND_MARKER = 148
"""Offset of the closing marker in a region."""
VERSION_FIELD = slice(132, 148)
HASH_SIZE = 32

_FIELDS = struct.Struct("<28s32sQ64s16s28s")
_WORDS_REVERSED = (b"\x17", b"REHCTAPTSUR", b"DEBME", b"SDNUOB", b"\x17")
_SIZE_LIMIT = 1 << 64


@cache
def marker() -> bytes:
    """The 28 bytes that open and close a region, put together at run time (no compiler may fold them)."""
    return b"B".join(bytes(reversed(word)) for word in _WORDS_REVERSED)


@dataclass(frozen=True, slots=True)
class Region:
    """What a region says.

    Attributes:
        hash: 32 bytes, of the file without its region.
        size: bytes of the file without its region.
        signature: 64 bytes, by the owner.
        version: the application's version.

    Raises:
        RegionError: a field is not of its size.
    """

    hash: bytes
    size: int
    signature: bytes
    version: Version

    def __post_init__(self) -> None:
        if len(self.hash) != HASH_SIZE or len(self.signature) != SIGNATURE_SIZE or not 0 <= self.size < _SIZE_LIMIT:
            raise RegionError("a region holds a hash of 32 bytes, a size of 64 bits and a signature of 64 bytes")

    def pack(self) -> bytes:
        """The 176 bytes."""
        bounds = marker()
        return _FIELDS.pack(bounds, self.hash, self.size, self.signature, self.version.to_field(), bounds)

    @classmethod
    def unpack(cls, data: bytes) -> Region:
        """Read 176 bytes.

        Raises:
            RegionError: another length, no markers around, or a version field that is not canonical.
        """
        if len(data) != REGION_SIZE:
            raise RegionError(f"a region has {REGION_SIZE} bytes, not {len(data)}: the file is truncated or damaged")
        opening, digest, size, signature, version, closing = _FIELDS.unpack(data)
        if opening != marker() or closing != marker():
            raise RegionError("the bytes where the region belongs are no region: the file is damaged or was changed")
        try:
            return cls(digest, size, signature, Version.from_field(version))
        except VersionError as error:
            raise RegionError(f"the region is damaged: {error}") from None


def template(version: Version) -> bytes:
    """A region that nobody signed yet: only markers and version, the rest zeros."""
    return Region(bytes(HASH_SIZE), 0, bytes(SIGNATURE_SIZE), version).pack()
