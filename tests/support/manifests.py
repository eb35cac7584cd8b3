"""Releases and manifests that an owner signed, without files."""

from __future__ import annotations

from collections.abc import Sequence

from pypatcher.artifact import PatchInfo, make_info
from pypatcher.artifact.manifest import POSITIONS, Manifest, ManifestFile, pointer_salt
from pypatcher.artifact.rollout import Change, first_word
from pypatcher.bencode import Value, encode
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.mutable_item import MutableItem
from pypatcher.version import Version

__all__ = ["OWNER", "OWNER_KEY", "STRANGER", "TARGET", "file_word", "release", "unchecked", "word", "word_of"]

OWNER = KeyPair.from_seed(bytes(range(32)))
STRANGER = KeyPair.from_seed(bytes(range(1, 33)))
OWNER_KEY = OwnerKey(OWNER.public)
TARGET = "armv7"


def release(version: str, *, content: int = 0, key: KeyPair = OWNER) -> PatchInfo:
    """A signed release; ``content`` tells builds of one version apart."""
    return make_info(Version.parse(version), bytes([content]) * 32, 10_000, key)


def word(version: str = "1.2.0", *, content: int = 0, revision: int = 0, **keys: Value) -> Manifest:
    """A device's form of a word with these keys, revision 0 unless told; ``i`` is the release of that version."""
    info = release(version, content=content)
    return word_of(
        {b"i": info.to_postcard()} | {name.encode(): value for name, value in keys.items()}, version, revision
    )


def word_of(keys: dict[bytes, Value], version: str, revision: int = 0) -> Manifest:
    """A device's form of exactly these keys, signed whatever they say."""
    signed = unchecked(keys, Version.parse(version).seq(revision))
    return Manifest.decode(signed, OWNER_KEY, TARGET)


def unchecked(keys: Value, seq: int, key: KeyPair = OWNER, target: str = TARGET) -> bytes:
    """The bytes of a device's form whose value nobody checked before it was signed."""
    value = encode(keys)
    signatures = [MutableItem.sign(key, pointer_salt(target, at), seq, value).signature for at in range(POSITIONS)]
    return encode({b"k": key.public, b"s": signatures, b"seq": seq, b"v": value})


def file_word(version: str = "1.2.0", targets: Sequence[str] = (TARGET,), change: Change | None = None) -> ManifestFile:
    """The form of a file, as ``sign`` writes it."""
    return first_word(OWNER, release(version), targets, change or Change())
