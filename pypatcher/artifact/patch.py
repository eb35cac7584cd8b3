"""``PatchInfo`` and ``Patch``: what the owner signs about a release, and a release as it travels.

protocol.md "The signed file": the owner signs the 64-byte digest SHA-512(version_text || hash || size_le) as a plain
ed25519 message. On the wire both are postcard; in a file a ``PatchInfo`` is a region (``region``). Nothing here opens a
file.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pypatcher.artifact.postcard import Reader, encode_bytes, encode_signed, encode_unsigned
from pypatcher.errors import CodecError, SignatureMismatchError, VersionError
from pypatcher.keys import SIGNATURE_SIZE, KeyPair, OwnerKey, verify_signature
from pypatcher.version import Version

__all__ = ["HASH_SIZE", "MAX_FILE_SIZE", "REGION_SIZE", "Patch", "PatchInfo", "make_info"]

HASH_SIZE = 32
REGION_SIZE = 176
"""Bytes by which its region makes a signed file longer; what stands in them is in ``region``."""

MAX_FILE_SIZE = 1 << 32
"""Bytes of the largest signed file that we handle, region included: 4 GiB."""


@dataclass(frozen=True, slots=True)
class PatchInfo:
    """What the owner says about one release.

    Attributes:
        version: the application's version.
        size: bytes of the file WITHOUT its region; the whole file has 176 more.
        hash: the first 32 bytes of SHA-512 over the file without its region.
        signature: 64 bytes, by the owner over ``digest()``.

    Raises:
        CodecError: a field is not of its size.
    """

    version: Version
    size: int
    hash: bytes
    signature: bytes

    def __post_init__(self) -> None:
        if len(self.hash) != HASH_SIZE or len(self.signature) != SIGNATURE_SIZE or not 0 <= self.size < 1 << 64:
            raise CodecError("a PatchInfo holds a size of 64 bits, a hash of 32 bytes and a signature of 64 bytes")

    @property
    def file_size(self) -> int:
        """Bytes of the whole signed file."""
        return self.size + REGION_SIZE

    @property
    def release_id(self) -> bytes:
        """The 32 bytes by which nodes name this release: an old build signed again as a higher version has another."""
        return hashlib.sha512(self.to_postcard()).digest()[:32]

    def digest(self) -> bytes:
        """The 64 bytes that the owner signs."""
        return _digest(self.version, self.hash, self.size)

    @property
    def is_signed(self) -> bool:
        """Whether somebody signed it; a region that a build or ``embed`` made has no signature yet."""
        return any(self.signature)

    def is_signed_by(self, owner: OwnerKey) -> bool:
        """Whether ``owner`` signed this."""
        return verify_signature(owner, self.digest(), self.signature)

    def verify(self, owner: OwnerKey) -> None:
        """Check the owner's signature.

        Raises:
            SignatureMismatchError: ``owner`` did not sign this.
        """
        if not self.is_signed_by(owner):
            raise SignatureMismatchError(
                f"version {self.version} is not signed by the owner of this public key: another key signed it, "
                "or this one is of another program"
            )

    def to_postcard(self) -> bytes:
        """The bytes on the wire, 100 and a few more for larger numbers."""
        version = self.version
        numbers = b"".join(encode_signed(number) for number in (version.major, version.minor, version.patch))
        return numbers + encode_unsigned(self.size) + self.hash + self.signature

    @classmethod
    def from_postcard(cls, data: bytes) -> tuple[PatchInfo, bytes]:
        """Read a PatchInfo and return it with the bytes that follow it.

        Raises:
            CodecError: the bytes are no PatchInfo; a version that is negative or too long for a region is none either.
        """
        reader = Reader(data)
        return cls.read(reader), reader.rest()

    @classmethod
    def read(cls, reader: Reader) -> PatchInfo:
        """Read a PatchInfo from where ``reader`` stands.

        Raises:
            CodecError: as ``from_postcard``.
        """
        numbers = reader.signed(), reader.signed(), reader.signed()
        try:
            version = Version(*numbers)
        except VersionError as error:
            raise CodecError(f"a PatchInfo with an impossible version: {error}") from None
        size = reader.unsigned()
        return cls(version, size, reader.raw(HASH_SIZE), reader.raw(SIGNATURE_SIZE))


@dataclass(frozen=True, slots=True)
class Patch:
    """A release with its data: the whole signed file, region included."""

    info: PatchInfo
    data: bytes

    def to_postcard(self) -> bytes:
        """The bytes on the wire."""
        return self.info.to_postcard() + encode_bytes(self.data)

    @classmethod
    def from_postcard(cls, data: bytes) -> tuple[Patch, bytes]:
        """Read a Patch of at most MAX_FILE_SIZE and return it with the bytes that follow it. Nothing is verified.

        Raises:
            CodecError: the bytes are no Patch.
        """
        reader = Reader(data)
        patch = cls(PatchInfo.read(reader), reader.byte_string(MAX_FILE_SIZE))
        return patch, reader.rest()


def make_info(version: Version, digest: bytes, size: int, key: KeyPair) -> PatchInfo:
    """Sign a release: ``digest`` is its 32-byte hash, ``size`` its length without the region."""
    return PatchInfo(version, size, digest, key.sign(_digest(version, digest, size)))


def _digest(version: Version, digest: bytes, size: int) -> bytes:
    return hashlib.sha512(str(version).encode("ascii") + digest + size.to_bytes(8, "little")).digest()
