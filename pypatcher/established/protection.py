"""Packet protection of 1-RTT packets (RFC 9001 sections 5 and 6): seal, open, header masks, key updates.

A batch of packets shares one call for the masks of their headers, where the cipher allows that. The next keys are
always ready, because a flipped key phase is not authenticated: who forges one must not make us derive keys.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from .octets import joined, nonce, packet_header, samples, samples_of

__all__ = ["SAMPLE", "TAG", "Opener", "Sealer"]

SAMPLE = TAG = 16
AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305 = 0x1301, 0x1302, 0x1303
"""The suites of TLS 1.3 (RFC 8446 appendix B.4)."""

_TRAIN_DATAGRAMS, _TRAIN_BYTES = 60, 65000
"""What Linux takes and gives in one call (``UDP_SEGMENT``, ``UDP_GRO``): 64, and a UDP payload."""

_KEY_SIZE = {AES_128_GCM: 16, AES_256_GCM: 32, CHACHA20_POLY1305: 32}


class _Masks(Protocol):
    def update(self, samples: bytes) -> bytes: ...


class _ChaChaMasks:
    """ChaCha20 needs a nonce of its own for each packet (RFC 9001 section 5.4.4)."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._context = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._reset = getattr(self._context, "reset_nonce", None)

    def update(self, samples: bytes) -> bytes:
        """16 bytes for each 16 of ``samples``, of which the first 5 count."""
        masks = []
        for start in range(0, len(samples), SAMPLE):
            sample = samples[start : start + SAMPLE]
            if self._reset is None:  # before cryptography 43
                context = Cipher(algorithms.ChaCha20(self._key, sample), mode=None).encryptor()
            else:
                self._reset(sample)
                context = self._context
            masks.append(context.update(bytes(SAMPLE)))
        return b"".join(masks)


class Key:
    """Keys of one direction in one key phase."""

    __slots__ = ("decrypt", "encrypt", "iv", "secret", "suite")

    def __init__(self, suite: int, secret: bytes) -> None:
        """Derive them."""
        self.suite = suite
        self.secret = secret
        key = _expand(suite, secret, b"quic key", _KEY_SIZE[suite])
        aead = ChaCha20Poly1305(key) if suite == CHACHA20_POLY1305 else AESGCM(key)
        self.encrypt, self.decrypt = aead.encrypt, aead.decrypt
        self.iv = _expand(suite, secret, b"quic iv", 12)

    def next(self) -> Key:
        """Those of the next phase."""
        return Key(self.suite, _expand(self.suite, self.secret, b"quic ku", len(self.secret)))


class Sealer:
    """Protects what this side sends."""

    def __init__(self, suite: int, secret: bytes) -> None:
        """From the traffic secret of TLS."""
        self._masks = _masks(suite, secret)
        self._key = Key(suite, secret)
        self.phase = 0
        self.sealed = 0
        """Packets under the present keys."""

    def seal(self, prefix: bytes, number: int, payload: bytes) -> tuple[bytes, bytes]:
        """The header of a packet, which is ``prefix`` (first byte, connection id) and 4 bytes of packet number, and its
        protected payload."""
        key = self._key
        self.sealed += 1
        header = packet_header(prefix, number)
        return header, key.encrypt(nonce(key.iv, number), payload, header)

    def finish(self, headers: list[bytes], sealed: list[bytes]) -> list[tuple[bytes, int]]:
        """Packets as ``seal`` gave them, joined: all of a train have so many bytes, or the last one fewer."""
        masks = self._masks.update(samples(sealed))
        trains = []
        first, count = 0, len(sealed)
        while first < count:
            size = len(headers[first]) + len(sealed[first])
            most = min(count, first + _TRAIN_DATAGRAMS, first + max(1, _TRAIN_BYTES // size))
            end, last = first + 1, size
            while end < most and last == size:
                last = len(headers[end]) + len(sealed[end])
                if last > size:
                    break
                end += 1
            trains.append((joined(headers, sealed, masks, first, end), size))
            first = end
        return trains

    def update(self) -> None:
        """Go on with the next keys."""
        self._key = self._key.next()
        self.phase ^= 1
        self.sealed = 0


class Opener:
    """Opens what the peer sends."""

    def __init__(self, suite: int, secret: bytes) -> None:
        """From the traffic secret of TLS."""
        self._masks = _masks(suite, secret)
        self._key = Key(suite, secret)
        self._next = self._key.next()
        self._old: Key | None = None
        self.phase = 0
        self.failed = 0
        """Packets that were not genuine, under all keys (RFC 9001 section 6.6)."""
        self.flipped_at = 0
        """The packet number with which the present phase began."""

    def masks(self, train: bytes, size: int, offset: int, count: int) -> bytes:
        """16 bytes of mask for each of the first ``count`` packets of ``size`` bytes, whose numbers start at ``offset``
        and which are long enough."""
        return self._masks.update(samples_of(train, size, offset + 4, count))

    def open(self, header: bytes, number: int, sealed: bytes, phase: int) -> tuple[bytes | None, bool]:
        """The payload, or None if it is not genuine; and whether it is the first one of the next phase."""
        key = self._key
        flips = phase != self.phase
        if flips:
            if self._old is not None and number < self.flipped_at:
                key, flips = self._old, False
            else:
                key = self._next
        try:
            return key.decrypt(nonce(key.iv, number), sealed, header), flips
        except InvalidTag:
            self.failed += 1
            return None, False

    def update(self, number: int) -> None:
        """A genuine packet with that number came in the next phase, or this side goes there itself."""
        self._old, self._key = self._key, self._next
        self._next = self._key.next()
        self.phase ^= 1
        self.flipped_at = number

    def forget_old(self) -> None:
        """Late packets of the last phase count as lost."""
        self._old = None


def _masks(suite: int, secret: bytes) -> _Masks:
    key = _expand(suite, secret, b"quic hp", _KEY_SIZE[suite])
    if suite == CHACHA20_POLY1305:
        return _ChaChaMasks(key)
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - RFC 9001 section 5.4.3


def _expand(suite: int, secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label (RFC 8446 section 7.1) of at most one hash."""
    name = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
    return hmac.digest(secret, info + b"\x01", "sha384" if suite == AES_256_GCM else "sha256")[:size]
