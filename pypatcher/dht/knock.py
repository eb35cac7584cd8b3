"""Knocks: pings by which two nodes that share a secret know each other, and which tell everybody else nothing.

Pure. DHT nodes answer whoever pings them; only who proves to know the secret is worth a connection, so whoever names
a stranger's DHT node costs it one ping and no more. What is secret here is known to everybody who has a copy of the
program: a host can only be made to prove itself by its own doing. An ordinary ping with one more argument, 16 bytes
``knock``; the answer has 8 bytes ``knock`` beside its id.

    ask     nonce (8 random bytes) || BLAKE2b-64(key: secret, "ask" || nonce)
    answer  BLAKE2b-64(key: secret, "answer" || nonce)
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Mapping

from pypatcher.bencode import Value

__all__ = ["FIELD", "NONCE_SIZE", "Answered", "answer_knock", "ask", "is_proven"]

FIELD = b"knock"
"""The field of questions and answers."""
NONCE_SIZE = 8


class Answered(enum.Enum):
    """Who answered a knock."""

    NOBODY = enum.auto()
    STRANGER = enum.auto()
    MEMBER = enum.auto()


def ask(secret: bytes, nonce: bytes) -> bytes:
    """What a ping carries; ``secret`` has 1 to 64 bytes."""
    return nonce + _mac(secret, b"ask" + nonce)


def answer_knock(secret: bytes, arguments: Mapping[bytes, Value]) -> dict[bytes, Value]:
    """What the answer to a ping carries: nothing, unless who asked knows the secret."""
    asked = arguments.get(FIELD)
    if not secret or not isinstance(asked, bytes) or len(asked) != 2 * NONCE_SIZE:
        return {}
    nonce = asked[:NONCE_SIZE]
    if not hmac.compare_digest(ask(secret, nonce), asked):
        return {}
    return {FIELD: _mac(secret, b"answer" + nonce)}


def is_proven(secret: bytes, nonce: bytes, values: Mapping[bytes, Value]) -> bool:
    """Whether who answered the knock with that nonce knows the secret."""
    proof = values.get(FIELD)
    return isinstance(proof, bytes) and hmac.compare_digest(proof, _mac(secret, b"answer" + nonce))


def _mac(secret: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=secret, digest_size=8).digest()
