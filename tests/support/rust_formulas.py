"""A second reader of slots and records, straight from the formulas, sharing no line and no library with the package.

Primitives are those of ``cryptography``, where the package uses libsodium's. It reads what distributed-topic-tracker
wrote (the vectors) and, in tests, what we wrote.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

__all__ = ["OpenedRecord", "open_record", "public_of", "read_patch_info", "slot_of", "unseal"]


def _sha512(*parts: bytes) -> bytes:
    return hashlib.sha512(b"".join(parts)).digest()


def public_of(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def slot_of(topic: str, minute: int, salt_word: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Slot seed, salt, encryption seed and topic hash; ``salt_word`` is empty in the namespace rustpatcher."""
    topic_hash = _sha512(topic.encode())[:32]
    little, big = minute.to_bytes(8, "little"), minute.to_bytes(8, "big")
    secret_hash = _sha512(_sha512(topic_hash, b"v1"))[:32]
    return (
        _sha512(topic_hash, little)[:32],
        _sha512(salt_word, topic_hash, little)[:32],
        _sha512(topic_hash, big, secret_hash)[:32],
        topic_hash,
    )


def unseal(seed: bytes, sealed: bytes) -> bytes:
    """RFC 9180, base mode, X25519 / HKDF-SHA256 / ChaCha20-Poly1305; raises whatever the primitives raise."""
    if sealed[:8] != (32).to_bytes(8, "little"):
        raise ValueError("another frame")
    enc, ciphertext = sealed[8:40], sealed[40:]
    secret = X25519PrivateKey.from_private_bytes(hashlib.sha512(seed).digest()[:32])
    shared = secret.exchange(X25519PublicKey.from_public_bytes(enc))
    kem, suite = b"KEM\x00\x20", b"HPKE\x00\x20\x00\x01\x00\x03"

    def extract(salt: bytes, suite_id: bytes, label: bytes, material: bytes) -> bytes:
        return hmac.new(salt or bytes(32), b"HPKE-v1" + suite_id + label + material, "sha256").digest()

    def expand(key: bytes, suite_id: bytes, label: bytes, info: bytes, size: int) -> bytes:
        info = size.to_bytes(2, "big") + b"HPKE-v1" + suite_id + label + info
        return hmac.new(key, info + b"\x01", "sha256").digest()[:size]

    prk = extract(b"", kem, b"eae_prk", shared)
    context = enc + secret.public_key().public_bytes_raw()
    shared_secret = expand(prk, kem, b"shared_secret", context, 32)
    psk_hash = extract(b"", suite, b"psk_id_hash", b"")
    info_hash = extract(b"", suite, b"info_hash", b"arbitrary_info_bytes")
    prk = extract(shared_secret, suite, b"secret", b"")
    key = expand(prk, suite, b"key", b"\x00" + psk_hash + info_hash, 32)
    nonce = expand(prk, suite, b"base_nonce", b"\x00" + psk_hash + info_hash, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, ciphertext, b"arbitrary_seal_bytes")


@dataclass(frozen=True)
class OpenedRecord:
    topic_hash: bytes
    minute: int
    node_id: bytes
    content: bytes


def open_record(encryption_seed: bytes, value: bytes) -> OpenedRecord:
    """Open and verify one value of a slot; raises when the record is not signed by its node id."""
    size = int.from_bytes(value[:4], "little")
    sealed, sealed_seed = value[4 : 4 + size], value[4 + size :]
    if len(sealed_seed) != 88:
        raise ValueError("another length")
    record = unseal(unseal(encryption_seed, sealed_seed), sealed)
    Ed25519PublicKey.from_public_bytes(record[40:72]).verify(record[-64:], record[:-64])
    return OpenedRecord(record[:32], int.from_bytes(record[32:40], "little"), record[40:72], record[72:-64])


def read_patch_info(content: bytes) -> tuple[tuple[int, int, int], int, bytes, bytes, bytes]:
    """Version, size, hash, signature and whatever follows, as postcard's from_bytes reads a PatchInfo."""
    numbers = []
    for _ in range(4):
        value = shift = 0
        while True:
            byte, content = content[0], content[1:]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        numbers.append(value)
    major, minor, patch = (number >> 1 ^ -(number & 1) for number in numbers[:3])
    return (major, minor, patch), numbers[3], content[:32], content[32:96], content[96:]
