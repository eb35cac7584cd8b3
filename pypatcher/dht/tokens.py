"""Write tokens (BEP 5): a node stores only for who was at that address a moment ago.

Pure; time and randomness are passed in. A token is bound to the asker's host and to the target, and lives between 5
and 10 minutes.
"""

from __future__ import annotations

import hmac
from hashlib import blake2b
from random import Random

__all__ = ["TOKEN_ROTATION", "Tokens"]

TOKEN_ROTATION = 300.0
_SIZE = 8


class Tokens:
    """Makes and checks tokens under a secret that changes every 5 minutes."""

    def __init__(self, random: Random, now: float) -> None:
        self._random = random
        self._secret = self._previous = random.randbytes(16)
        self._since = now

    def make(self, host: str, target: bytes, now: float) -> bytes:
        """The 8-byte token that ``host`` may write under ``target`` with."""
        self._rotate(now)
        return _token(self._secret, host, target)

    def check(self, token: object, host: str, target: bytes, now: float) -> bool:
        """Whether we gave ``host`` that token for ``target`` within the last 5 to 10 minutes."""
        self._rotate(now)
        if not isinstance(token, bytes):
            return False
        return any(
            hmac.compare_digest(token, _token(secret, host, target)) for secret in (self._secret, self._previous)
        )

    def _rotate(self, now: float) -> None:
        age = now - self._since
        if age < TOKEN_ROTATION:
            return
        fresh = self._random.randbytes(16)
        self._previous = self._secret if age < 2 * TOKEN_ROTATION else fresh
        self._secret = fresh
        self._since = now


def _token(secret: bytes, host: str, target: bytes) -> bytes:
    return blake2b(target + host.encode(), key=secret, digest_size=_SIZE).digest()
