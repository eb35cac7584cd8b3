"""Ed25519 keys: text, files, signatures. The one module that touches key files.

protocol.md "Keys and targets": on disk and at the edges keys are z-base-32 text (52 characters for 32 bytes),
inside they are bytes. A key file is created with mode 0600 and never overwritten; ``KEY.pub`` beside it holds
``<target or any> <public key>``. A secret never appears in a message, a repr or a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import NewType

import nacl.bindings
import nacl.exceptions

from pypatcher import zbase32
from pypatcher.errors import KeyFileError
from pypatcher.regular_file import read_regular

__all__ = [
    "ANY_TARGET",
    "KEY_SIZE",
    "SIGNATURE_SIZE",
    "KeyPair",
    "OwnerKey",
    "check_secret",
    "decode_key",
    "encode_key",
    "is_read_by_others",
    "looks_public",
    "parse_public_key",
    "public_key_path",
    "read_key_file",
    "read_public_file",
    "read_secret_file",
    "verify_signature",
    "write_key_file",
]

OwnerKey = NewType("OwnerKey", bytes)
"""The 32 bytes of the ed25519 public key that a program trusts."""

KEY_SIZE = 32
SIGNATURE_SIZE = 64
ANY_TARGET = "any"

_TEXT_SIZE = 52
_FILE_LIMIT = 4096
_OF_A_SHELL = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))
"""Where what was piped in has a name; nobody else can put anything there."""
_ALPHABET = "ybndrfg8ejkmcpqxot1uwisza345h769"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An ed25519 key pair made from its 32-byte seed; the seed is kept out of every repr."""

    seed: bytes = field(repr=False)
    public: bytes

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair from the system's randomness, whose seed cannot be taken for a public key (`looks_public`)."""
        seed = os.urandom(KEY_SIZE)
        while looks_public(seed):
            seed = os.urandom(KEY_SIZE)
        return cls.from_seed(seed)

    @classmethod
    def from_seed(cls, seed: bytes) -> KeyPair:
        """The pair that RFC 8032 derives from a 32-byte seed."""
        public, _ = nacl.bindings.crypto_sign_seed_keypair(seed)
        return cls(seed, public)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte ed25519 signature over ``message``."""
        return nacl.bindings.crypto_sign(message, self.seed + self.public)[:SIGNATURE_SIZE]


def looks_public(key: bytes) -> bool:
    """Whether 32 bytes could be a public key: every one is a point of the curve, and of other bytes one in 16."""
    return nacl.bindings.crypto_core_ed25519_is_valid_point(key)


def verify_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether ``signature`` (64 bytes) over ``message`` was made with the key of ``public`` (32 bytes)."""
    if len(signature) != SIGNATURE_SIZE or len(public) != KEY_SIZE:
        return False
    try:
        nacl.bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def encode_key(key: bytes) -> str:
    """z-base-32 text of 32 bytes: 52 characters."""
    return zbase32.encode(key)


def decode_key(text: str, what: str) -> bytes:
    """Read 52 characters of canonical z-base-32; ``what`` names the source for the message, never the content.

    Raises:
        KeyFileError: the text is not a key.
    """
    try:
        key = zbase32.decode(text) if len(text) == _TEXT_SIZE else b""
    except ValueError:
        key = b""
    if len(key) != KEY_SIZE:
        raise KeyFileError(f"{what} is not a key: {_why_no_key(text)}")
    return key


def _why_no_key(text: str) -> str:
    """What is wrong with a key's text, without quoting any of it."""
    if len(text) != _TEXT_SIZE:
        return f"it has {len(text)} characters, and a key has {_TEXT_SIZE}: is a part missing, or something added?"
    for place, character in enumerate(text, 1):
        if character not in _ALPHABET:
            capital = "a capital letter" if character.lower() in _ALPHABET else "no character of z-base-32"
            return f"its character {place} is {capital}: a typo?"
    return f"its last character cannot be one of a key: a typo, or only the first {_TEXT_SIZE} characters of something"


def parse_public_key(text: str) -> OwnerKey:
    """Read an owner's public key. What is long enough is not quoted in an error: a secret key looks just like one.

    Raises:
        KeyFileError: the text is not 52 characters of z-base-32, or no point of the curve.
    """
    key = decode_key(text, f"public key {text!r}" if len(text) < _TEXT_SIZE // 2 else "the public key")
    if not looks_public(key):
        raise KeyFileError("the public key is no valid ed25519 key: paste the one that 'pypatcher gen' printed")
    return OwnerKey(key)


def public_key_path(path: Path) -> Path:
    """``KEY.pub`` beside ``KEY``."""
    return path.with_name(path.name + ".pub")


def _read_small(path: Path) -> str:
    try:
        if path.parent in _OF_A_SHELL:
            with path.open("rb") as file:
                data = file.read(_FILE_LIMIT)
        else:
            data = read_regular(path, _FILE_LIMIT)
    except OSError as error:
        raise KeyFileError(f"cannot read {path}: {error.strerror}") from None
    try:
        return data.decode("ascii").strip()
    except UnicodeDecodeError:
        raise KeyFileError(f"{path} is not a key file: it holds more than ASCII text") from None


def read_key_file(path: Path) -> KeyPair:
    """Read a secret key file, with or without a trailing newline.

    Raises:
        KeyFileError: the file is missing, unreadable or holds no key.
    """
    text = _read_small(path)
    match text.split():
        case [name, key] if len(key) == _TEXT_SIZE != len(name):
            secret = path.with_suffix("") if path.suffix == ".pub" else "the one without .pub"
            raise KeyFileError(f"{path} holds a public key, which signs nothing: give the secret key's file, {secret}")
    return KeyPair.from_seed(decode_key(text, str(path)))


def read_secret_file(path: Path, *, is_checked: bool = False) -> tuple[KeyPair, str]:
    """A key to sign with, held against ``KEY.pub`` beside it; and the target that this says, empty without such a file.

    Args:
        is_checked: the caller holds it against a public key himself.

    Raises:
        KeyFileError: the file holds no key or seems to hold the public one, or ``KEY.pub`` is another's.
    """
    key, public_path = read_key_file(path), public_key_path(path)
    if not public_path.exists():
        if not is_checked:
            check_secret(key, str(path))
        return key, ""
    name, public = read_public_file(public_path)
    if public != key.public:
        raise KeyFileError(f"{public_path} is not of the key in {path}: put the right one beside it, or none")
    return key, name


def check_secret(key: KeyPair, where: str) -> None:
    """Tell a public key that was put where the secret one belongs: it would sign, and nobody would believe it.

    Raises:
        KeyFileError: it looks like one.
    """
    if looks_public(key.seed):
        raise KeyFileError(
            f"{where} seems to hold the public key instead of the secret one. If it is the secret one, give the "
            "public one too: its file KEY.pub beside the key file, or to `sign` --public-key K"
        )


def is_read_by_others(path: Path) -> bool:
    """Whether more than the owner's user may read a file."""
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def read_public_file(path: Path) -> tuple[str, OwnerKey]:
    """Read ``KEY.pub``: the target's name (or ``any``) and the public key.

    Raises:
        KeyFileError: the file is missing, unreadable or of another form.
    """
    match _read_small(path).split():
        case [target, key]:
            return target, parse_public_key(key)
    raise KeyFileError(f"{path} is not a public key file: expected '<target or any> <public key>'")


def write_key_file(path: Path, pair: KeyPair, target: str = ANY_TARGET) -> None:
    """Write ``path`` (mode 0600, the secret) and ``path.pub`` (mode 0644); neither may exist.

    Raises:
        KeyFileError: one of them exists or cannot be written; nothing is overwritten or left half-written.
    """
    public_path = public_key_path(path)
    if public_path.exists() or public_path.is_symlink():
        raise KeyFileError(f"{public_path} exists and is never overwritten: choose another name")
    _write_new(path, encode_key(pair.seed), 0o600)
    try:
        _write_new(public_path, f"{target} {encode_key(pair.public)}\n", 0o644)
    except KeyFileError:
        path.unlink()
        raise


def _write_new(path: Path, text: str, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    except FileExistsError:
        raise KeyFileError(f"{path} exists and is never overwritten: choose another name") from None
    except OSError as error:
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        path.unlink()
        raise KeyFileError(f"cannot write {path}: {error.strerror}") from None
