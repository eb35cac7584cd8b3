"""TLS 1.3 for QUIC with raw public keys on both sides (RFC 7250): our key, and the check of the peer's.

design.md "Transport and transfer": ed25519 only, no certificates, no server name, no resumption. aioquic has no
parameter for any of it, so its TLS context is extended here. No socket, no clock; not here: which key is expected.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from pypatcher.transport.ciphers import order_for_client

if TYPE_CHECKING:
    from typing import Any

    from aioquic._buffer import Buffer

    from pypatcher.keys import KeyPair

__all__ = ["HANDSHAKE_LIMIT", "QuicIdentity", "RawKeyContext"]

HANDSHAKE_LIMIT = 16384
"""Most bytes of a handshake that wait for those before them, or that one message of it has."""

RAW_PUBLIC_KEY = 2
CLIENT_CERTIFICATE_TYPE, SERVER_CERTIFICATE_TYPE = 19, 20
OFFER, ANSWER = bytes([1, RAW_PUBLIC_KEY]), bytes([RAW_PUBLIC_KEY])

_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
"""DER of an ed25519 SubjectPublicKeyInfo (RFC 8410) up to the 32 bytes of the key."""


class _CertificateRequiredAlert(tls.Alert):
    description = tls.AlertDescription.certificate_required


@dataclass(frozen=True, slots=True)
class _RawKey:
    """Stands where aioquic expects a certificate."""

    key: bytes

    def public_bytes(self, _encoding: object) -> bytes:
        return _SPKI_PREFIX + self.key

    def public_key(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.key)


@dataclass(frozen=True, slots=True, repr=False)
class QuicIdentity:
    """A node's key in the forms that TLS wants."""

    node_id: bytes
    private_key: Ed25519PrivateKey
    certificate: _RawKey

    @classmethod
    def from_pair(cls, pair: KeyPair) -> QuicIdentity:
        """The identity whose node id is ``pair.public``."""
        return cls(pair.public, Ed25519PrivateKey.from_private_bytes(pair.seed), _RawKey(pair.public))


class RawKeyContext(tls.Context):
    """TLS 1.3 that knows ed25519 raw public keys and nothing else."""

    def __init__(self, like: tls.Context, configuration: QuicConfiguration, peer_id: bytes | None) -> None:
        super().__init__(
            is_client=configuration.is_client,
            alpn_protocols=configuration.alpn_protocols,
            cipher_suites=configuration.cipher_suites,
            verify_mode=ssl.CERT_NONE,
        )
        self.certificate = like.certificate
        self.certificate_private_key = like.certificate_private_key
        self.alpn_cb = like.alpn_cb
        self.update_traffic_key_cb = like.update_traffic_key_cb
        value = OFFER if configuration.is_client else ANSWER
        self.handshake_extensions = [
            *like.handshake_extensions,
            (CLIENT_CERTIFICATE_TYPE, value),
            (SERVER_CERTIFICATE_TYPE, value),
        ]
        self._request_client_certificate = True
        self._signature_algorithms = [tls.SignatureAlgorithm.ED25519]
        self._supported_groups = [tls.Group.X25519]
        self._expected_peer = peer_id
        self._peer_key: bytes | None = None

    @property
    def peer_id(self) -> bytes | None:
        """The key that the peer showed; proved once the handshake is complete."""
        return self._peer_key

    def check_certificate_types(self) -> None:
        """Refuse a peer that does not speak raw public keys both ways."""
        received = dict(self.received_extensions or ())
        for extension in (CLIENT_CERTIFICATE_TYPE, SERVER_CERTIFICATE_TYPE):
            value = received.get(extension, b"")
            # A server answers with one type, a client offers a list of them behind its length.
            if value != ANSWER if self._is_client else RAW_PUBLIC_KEY not in value[1:]:
                raise tls.AlertUnsupportedCertificate("Raw public keys are required (RFC 7250)")

    def handle_message(self, input_data: bytes, output_buf: dict[tls.Epoch, Buffer]) -> None:
        if len(self._receive_buffer) + len(input_data) > HANDSHAKE_LIMIT:
            raise tls.AlertDecodeError("Handshake message is too long")
        super().handle_message(input_data, output_buf)

    def _server_handle_hello(self, input_buf: Buffer, *arguments: Any, **named: Any) -> None:
        start = input_buf.tell()
        offered = tls.pull_client_hello(input_buf).cipher_suites
        input_buf.seek(start)
        self._cipher_suites = order_for_client(self._cipher_suites, offered)
        super()._server_handle_hello(input_buf, *arguments, **named)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        entries = certificate.certificates
        spki = entries[0][0] if len(entries) == 1 else b""
        if len(spki) != len(_SPKI_PREFIX) + 32 or not spki.startswith(_SPKI_PREFIX):
            raise tls.AlertUnsupportedCertificate("Only one ed25519 raw public key is accepted")
        self._peer_key = bytes(spki[len(_SPKI_PREFIX) :])
        if self._expected_peer not in (None, self._peer_key):
            raise tls.AlertBadCertificate("Another node answers at this address")
        self._peer_certificate = cast("Any", _RawKey(self._peer_key))

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_key is None:
            raise _CertificateRequiredAlert("The client must show its key")
