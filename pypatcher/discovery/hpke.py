"""Sealing a message to an ed25519 public key: HPKE base mode, one message per seal.

RFC 9180 with DHKEM(X25519, HKDF-SHA256), HKDF-SHA256 and ChaCha20-Poly1305; ed25519 keys are converted to X25519.
protocol.md "Records" fixes the frame, ``info`` and ``aad``. Only what records need: no PSK, no sender authentication,
no second message under one key. Primitives are libsodium's; this module only puts them together.

    seal(pk, m) = u64_le(32) || enc || ciphertext        56 bytes more than m
"""

from __future__ import annotations

import hmac
import os

import nacl.bindings
import nacl.exceptions

from pypatcher.errors import CodecError
from pypatcher.keys import KEY_SIZE, KeyPair

__all__ = ["SEAL_OVERHEAD", "open_seal", "seal"]

SEAL_OVERHEAD = 56
"""Bytes that a seal adds to its message: frame 8, encapsulated key 32, tag 16."""

_FRAME = KEY_SIZE.to_bytes(8, "little")
_HEADER_SIZE = len(_FRAME) + KEY_SIZE
_INFO = b"arbitrary_info_bytes"
_AAD = b"arbitrary_seal_bytes"

_KEM_SUITE = b"KEM" + b"\x00\x20"
_HPKE_SUITE = b"HPKE" + b"\x00\x20" + b"\x00\x01" + b"\x00\x03"
_MODE_BASE = b"\x00"
_NONCE_SIZE = 12


def seal(public: bytes, message: bytes) -> bytes:
    """Seal ``message`` so that only the secret of ``public`` (32 bytes, ed25519) opens it.

    Raises:
        CodecError: ``public`` is no key that can be sealed to.
    """
    try:
        recipient = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(public)
        ephemeral = os.urandom(KEY_SIZE)
        encapsulated = nacl.bindings.crypto_scalarmult_base(ephemeral)
        shared = nacl.bindings.crypto_scalarmult(ephemeral, recipient)
    except nacl.exceptions.CryptoError:
        raise CodecError(f"{public.hex()} is no ed25519 key that could be sealed to") from None
    key, nonce = _key_schedule(shared, encapsulated, recipient)
    ciphertext = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt(message, _AAD, nonce, key)
    return _FRAME + encapsulated + ciphertext


def open_seal(seed: bytes, sealed: bytes) -> bytes:
    """Open what was sealed to the ed25519 key of ``seed`` (32 bytes).

    Raises:
        CodecError: it is no seal, is sealed to another key, or was changed on the way.
    """
    if len(sealed) < SEAL_OVERHEAD or not sealed.startswith(_FRAME):
        raise CodecError("not a seal: too short, or another frame")
    encapsulated, ciphertext = sealed[len(_FRAME) : _HEADER_SIZE], sealed[_HEADER_SIZE:]
    pair = KeyPair.from_seed(seed)
    secret = nacl.bindings.crypto_sign_ed25519_sk_to_curve25519(pair.seed + pair.public)
    try:
        shared = nacl.bindings.crypto_scalarmult(secret, encapsulated)
        key, nonce = _key_schedule(shared, encapsulated, nacl.bindings.crypto_scalarmult_base(secret))
        message: bytes = nacl.bindings.crypto_aead_chacha20poly1305_ietf_decrypt(ciphertext, _AAD, nonce, key)
    except nacl.exceptions.CryptoError:
        raise CodecError("the seal does not open: made for another key, or changed on the way") from None
    return message


def _key_schedule(shared: bytes, encapsulated: bytes, recipient: bytes) -> tuple[bytes, bytes]:
    """RFC 9180 sections 4.1 (DHKEM) and 5.1 (KeySchedule, base mode): the AEAD's key and first nonce."""
    prk = _extract(_KEM_SUITE, b"", b"eae_prk", shared)
    secret = _expand(_KEM_SUITE, prk, b"shared_secret", encapsulated + recipient, 32)
    context = (
        _MODE_BASE + _extract(_HPKE_SUITE, b"", b"psk_id_hash", b"") + _extract(_HPKE_SUITE, b"", b"info_hash", _INFO)
    )
    prk = _extract(_HPKE_SUITE, secret, b"secret", b"")
    return (
        _expand(_HPKE_SUITE, prk, b"key", context, 32),
        _expand(_HPKE_SUITE, prk, b"base_nonce", context, _NONCE_SIZE),
    )


def _extract(suite: bytes, salt: bytes, label: bytes, material: bytes) -> bytes:
    """RFC 9180 section 4, LabeledExtract."""
    return hmac.digest(salt, b"HPKE-v1" + suite + label + material, "sha256")


def _expand(suite: bytes, prk: bytes, label: bytes, info: bytes, size: int) -> bytes:
    """RFC 9180 section 4, LabeledExpand, for the one HMAC block (at most 32 bytes) that we ever need."""
    labelled = size.to_bytes(2, "big") + b"HPKE-v1" + suite + label + info
    return hmac.digest(prk, labelled + b"\x01", "sha256")[:size]
