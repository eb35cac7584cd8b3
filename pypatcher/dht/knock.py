"""Knocks: pings by which two nodes that share a secret know each other, and which tell everybody else nothing.

Pure. DHT nodes answer whoever pings them; only who proves to know the secret is worth a connection, so whoever names
a stranger's DHT node costs it one ping and no more. Everybody who has a copy of the program knows the secret; but no
host gives the proof unless such a program runs there. A knock is an ordinary ping with one more argument, ``knock`` of
16 bytes; the answer has ``knock`` of 8 bytes beside its id.

    ask     nonce (8 random bytes) || BLAKE2b-64(key: secret, "ask" || nonce)
    answer  BLAKE2b-64(key: secret, "answer" || nonce)
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping

from pypatcher.addresses import Address, machine_of
from pypatcher.bencode import Value
from pypatcher.bounded import bound

__all__ = ["FIELD", "NONCE_SIZE", "Answered", "SeenKnocks", "answer_knock", "ask", "is_proven"]

_ANSWERS = 3
"""To one knock: a packet is sent twice at most, and may be doubled on its way."""

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


class SeenKnocks:
    """Which knocks were answered, and to whom: who saw one on its way learns nothing by sending it from elsewhere.

    A knock is answered to the host that it came from first, with its repetitions; 4096 are remembered.
    """

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[str, int]] = OrderedDict()

    def admits(self, arguments: Mapping[bytes, Value], source: Address) -> bool:
        """Whether a valid knock from there is to be answered with the proof; if so it is counted."""
        asked, host = arguments.get(FIELD), machine_of(source)
        if not isinstance(asked, bytes):
            return False
        first, answers = self._seen.get(asked, (host, 0))
        if first != host or answers >= _ANSWERS:
            return False
        self._seen[asked] = first, answers + 1
        self._seen.move_to_end(asked)
        bound(self._seen)
        return True


def is_proven(secret: bytes, nonce: bytes, values: Mapping[bytes, Value]) -> bool:
    """Whether who answered the knock with that nonce knows the secret."""
    proof = values.get(FIELD)
    return isinstance(proof, bytes) and hmac.compare_digest(proof, _mac(secret, b"answer" + nonce))


def _mac(secret: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=secret, digest_size=8).digest()
