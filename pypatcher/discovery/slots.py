"""Minute slots: where in the DHT the devices of a namespace meet, minute by minute.

protocol.md "Minute slots". A slot is a BEP 44 mutable item whose key pair, salt and encryption key follow from the
topic and the minute, so that everybody who knows the topic finds it and nobody has to be asked. Pure derivation, byte
for byte distributed-topic-tracker's. Everything about a slot is public to who knows the owner's public key: slots hide
records from those who store them, and prove nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from pypatcher.discovery.namespace import Namespace
from pypatcher.keys import KeyPair

__all__ = ["Slot", "pack_minute", "unix_minute"]

_MINUTE_LIMIT = 1 << 64


def unix_minute(now: float) -> int:
    """Whole minutes since 1970; 0 for a clock that is before it."""
    return max(0, int(now // 60))


def pack_minute(minute: int) -> bytes:
    """The minute as it is hashed and sent: u64 little-endian."""
    return minute.to_bytes(8, "little")


@dataclass(frozen=True)
class Slot:
    """The slot of a namespace in one minute (0 to 2**64 - 1)."""

    namespace: Namespace
    minute: int

    def __post_init__(self) -> None:
        if not 0 <= self.minute < _MINUTE_LIMIT:
            raise ValueError(f"a minute is a u64, not {self.minute}")

    @cached_property
    def topic_hash(self) -> bytes:
        """The 32 bytes that its records open with."""
        return self.namespace.topic_hash

    @cached_property
    def key_pair(self) -> KeyPair:
        """Signs the slot's items, whoever writes them; its public key and the salt say where the slot is."""
        return KeyPair.from_seed(_hash(self.topic_hash + pack_minute(self.minute)))

    @cached_property
    def salt(self) -> bytes:
        """The items' BEP 44 salt, 32 bytes."""
        return _hash(self.namespace.rules.salt_prefix + self.topic_hash + pack_minute(self.minute))

    @cached_property
    def encryption_key_pair(self) -> KeyPair:
        """What records are sealed to. The minute is big-endian here, as the Rust crate has it."""
        secret_hash = _hash(hashlib.sha512(self.topic_hash + b"v1").digest())
        return KeyPair.from_seed(_hash(self.topic_hash + self.minute.to_bytes(8, "big") + secret_hash))


def _hash(data: bytes) -> bytes:
    return hashlib.sha512(data).digest()[:32]
