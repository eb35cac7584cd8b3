"""Knocks: pings by which two nodes that share a secret know each other, and which tell everybody else nothing.

Pure. DHT nodes answer whoever pings them; only who proves to know the secret is worth a connection, so whoever names
a stranger's DHT node costs it one ping and no more. Everybody who has a copy of the program knows the secret; but no
host gives the proof unless such a program runs there. A knock is an ordinary ping with one more argument, ``knock`` of
16 bytes; the answer has ``knock`` of 8 bytes beside its id. Who speaks
v1 says so where nobody can strip it, and older nodes see no difference.

    ask     nonce (8 bytes) || BLAKE2b-64(key: secret, "ask" || nonce)
    nonce   random; of who speaks v1: 4 random bytes || the first 4 of BLAKE2b-64(key: secret, "v1" || those)
    answer  BLAKE2b-64(key: secret, "answer" || nonce); "answer1" where both speak v1
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping

from pypatcher.addresses import Address, machine_of
from pypatcher.bencode import Value
from pypatcher.bounded import note

__all__ = ["FIELD", "NONCE_SIZE", "Answered", "SeenKnocks", "answer_knock", "ask", "nonce_v1", "who_answered"]

_ANSWERS = 3
"""To one knock: a packet is sent twice at most, and may be doubled on its way."""

FIELD = b"knock"
"""The field of questions and answers."""
NONCE_SIZE = 8
_ANSWER, _ANSWER_V1 = b"answer", b"answer1"


class Answered(enum.Enum):
    """Who answered a knock."""

    NOBODY = enum.auto()
    STRANGER = enum.auto()
    MEMBER = enum.auto()
    MEMBER_V1 = enum.auto()
    """It speaks the v1 exchange, too."""

    @property
    def is_member(self) -> bool:
        """Whether it knows our secret."""
        return self in (Answered.MEMBER, Answered.MEMBER_V1)


def nonce_v1(secret: bytes, random: bytes) -> bytes:
    """The nonce of somebody who speaks v1, from 4 random bytes; without a secret there is nobody to be told."""
    return random + _mac(secret, b"v1" + random)[: NONCE_SIZE - len(random)]


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
    speaks_v1 = hmac.compare_digest(nonce, nonce_v1(secret, nonce[: NONCE_SIZE // 2]))
    return {FIELD: _mac(secret, (_ANSWER_V1 if speaks_v1 else _ANSWER) + nonce)}


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
        note(self._seen, asked, (first, answers + 1))
        return True


def who_answered(secret: bytes, nonce: bytes, values: Mapping[bytes, Value]) -> Answered:
    """Whether who answered the knock with that nonce knows the secret, and speaks v1."""
    proof = values.get(FIELD)
    for word, answered in ((_ANSWER_V1, Answered.MEMBER_V1), (_ANSWER, Answered.MEMBER)):
        if isinstance(proof, bytes) and hmac.compare_digest(proof, _mac(secret, word + nonce)):
            return answered
    return Answered.STRANGER


def _mac(secret: bytes, data: bytes) -> bytes:
    return hashlib.blake2b(data, key=secret, digest_size=8).digest()
