"""BEP 44 mutable items whose value is a byte string: what is signed, where it is stored, whether it is valid.

Pure. The value goes on the wire as ``v``, a bencoded byte string of at most 1000 bytes, hence 996 of payload. Not here:
what a value means, and which of two items a node keeps (``dht.storage``).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1

from pypatcher.errors import CodecError
from pypatcher.keys import KEY_SIZE, SIGNATURE_SIZE, KeyPair, verify_signature

__all__ = ["MAX_SALT", "MAX_SEQ", "MAX_VALUE", "MutableItem", "mutable_target"]

MAX_VALUE = 996
"""Bytes of payload: ``996:`` before them makes the 1000 bytes that BEP 44 allows."""
MAX_SALT = 64
MAX_SEQ = (1 << 63) - 1
MIN_SEQ = -(1 << 63)


def mutable_target(public_key: bytes, salt: bytes) -> bytes:
    """The 20 bytes under which the item of a key (32 bytes) and a salt (0 to 64 bytes) is stored."""
    return sha1(public_key + salt, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True)
class MutableItem:
    """A signed value.

    Attributes:
        public_key: 32 bytes, ed25519.
        salt: 0 to 64 bytes.
        seq: i64; of two items the higher one replaces the other.
        value: 0 to 996 bytes of payload.
        signature: 64 bytes.
    """

    public_key: bytes
    salt: bytes
    seq: int
    value: bytes
    signature: bytes

    @classmethod
    def sign(cls, key: KeyPair, salt: bytes, seq: int, value: bytes) -> MutableItem:
        """Make the item that the holder of ``key`` publishes.

        Raises:
            CodecError: value, salt or seq is beyond what BEP 44 carries.
        """
        item = cls(key.public, salt, seq, value, bytes(SIGNATURE_SIZE))
        if not item.fits():
            raise CodecError(f"a mutable item carries {MAX_VALUE} bytes, {MAX_SALT} of salt and a 64-bit seq at most")
        return cls(key.public, salt, seq, value, key.sign(item.signed_bytes()))

    @property
    def target(self) -> bytes:
        """The 20 bytes under which it is stored."""
        return mutable_target(self.public_key, self.salt)

    def signed_bytes(self) -> bytes:
        """What the signature covers: salt (if any), seq and v, as they stand in the bencoded message."""
        salt = b"4:salt%d:%s" % (len(self.salt), self.salt) if self.salt else b""
        return salt + b"3:seqi%de1:v%d:%s" % (self.seq, len(self.value), self.value)

    def fits(self) -> bool:
        """Whether every field has a size that BEP 44 allows."""
        return (
            len(self.public_key) == KEY_SIZE
            and len(self.signature) == SIGNATURE_SIZE
            and len(self.salt) <= MAX_SALT
            and len(self.value) <= MAX_VALUE
            and MIN_SEQ <= self.seq <= MAX_SEQ
        )

    def verify(self) -> bool:
        """Whether the fields fit and the signature over them is that of the key."""
        return self.fits() and verify_signature(self.public_key, self.signed_bytes(), self.signature)
