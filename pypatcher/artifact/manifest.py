"""The manifest: the owner's word about a release, signed so that DHT nodes keep it as it is.

protocol.md "The manifest". What lives here: its two forms (of a file, with every target; of a device, with its own),
whose signature is checked how, and which of two words counts. Pure: no file is opened and no clock is read. What the
signed value says is ``terms``'; what a device does about it is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

from pypatcher.artifact.terms import Hold, Terms, write_terms
from pypatcher.bencode import Value, decode, encode
from pypatcher.errors import CodecError, ManifestError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.mutable_item import MutableItem
from pypatcher.version import REVISION_LIMIT

__all__ = [
    "FILE_LIMIT",
    "MANIFEST_LIMIT",
    "POSITIONS",
    "Manifest",
    "ManifestFile",
    "newer_word",
    "pointer_salt",
]

POSITIONS = 4
"""Places in the DHT that keep the same word: one static name could be besieged."""
MANIFEST_LIMIT = 4096
"""Bytes of a device's form at most."""
FILE_LIMIT = 1 << 16
"""Bytes of a file's form at most."""
_NONE = b""
_TARGET_NAME = re.compile(rb"[a-z0-9_]{1,32}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The owner's word for one target, as a device keeps it and hands it on.

    Made by ``decode``, ``from_item`` or ``ManifestFile.for_target``, which verify it; at least one signature is there.

    Attributes:
        owner: who signed it.
        target: the target's name, part of what each position's signature covers.
        seq: the version's, with the revision in the 12 low bits.
        value: the signed bytes, at most 996.
        signatures: of each position, 64 bytes, or none where that signature is not known here.
        terms: what ``value`` says.
        is_contested: the owner signed another release under this version, too; a device's own note, handed to nobody.
    """

    owner: OwnerKey
    target: str
    seq: int
    value: bytes
    signatures: tuple[bytes, ...]
    terms: Terms
    is_contested: bool = False

    @classmethod
    def from_item(cls, item: MutableItem, owner: OwnerKey, target: str) -> Self:
        """The word that a DHT node keeps at one of the positions.

        Raises:
            ManifestError: it is not the owner's word for this target.
        """
        salts = [pointer_salt(target, position) for position in range(POSITIONS)]
        if item.public_key != owner or item.salt not in salts:
            raise ManifestError("the item is not of this owner and target")
        signatures = tuple(item.signature if salt == item.salt else _NONE for salt in salts)
        return cls._verified(owner, target, item.seq, item.value, signatures)

    @classmethod
    def decode(cls, data: bytes, owner: OwnerKey, target: str) -> Self:
        """Read a device's form, whoever sent it; signatures that do not verify are dropped.

        Raises:
            ManifestError: it is none, or of another owner or target, or no signature verifies.
        """
        seq, value, signatures, _ = _read_form(data, MANIFEST_LIMIT, owner)
        return cls._verified(owner, target, seq, value, _signatures(signatures))

    @classmethod
    def decode_kept(cls, data: bytes, owner: OwnerKey, target: str) -> Self:
        """The same of this device's own disk, with its note, which nobody signed: from nobody else may it come.

        Raises:
            ManifestError: as ``decode``.
        """
        _, _, _, keys = _read_form(data, MANIFEST_LIMIT, owner)
        return replace(cls.decode(data, owner, target), is_contested=keys.get(b"contested") == 1)

    def encode(self) -> bytes:
        """The bytes that are handed to others."""
        return encode(self._form())

    def encode_kept(self) -> bytes:
        """The bytes that a device keeps, for ``decode_kept``: what it hands on, and its own note beside it."""
        return encode(self._form() | ({b"contested": 1} if self.is_contested else {}))

    @property
    def hold(self) -> Hold:
        """Whether this device goes on with the release; a contested one is held."""
        return max(self.terms.hold, Hold.HELD) if self.is_contested else self.terms.hold

    @property
    def revision(self) -> int:
        """How often the owner changed the terms of this version."""
        return self.seq % REVISION_LIMIT

    @property
    def digest(self) -> bytes:
        """The 8 bytes by which nodes tell each other which value they know (``h`` of HELLO)."""
        return hashlib.sha512(self.value).digest()[:8]

    @property
    def mask(self) -> int:
        """A bit for each position whose signature is here (``g`` of HELLO)."""
        return sum(1 << position for position, signature in enumerate(self.signatures) if signature)

    def item(self, position: int) -> MutableItem | None:
        """What a DHT node keeps at that position; None where its signature is not known here."""
        signature = self.signatures[position]
        salt = pointer_salt(self.target, position)
        return MutableItem(self.owner, salt, self.seq, self.value, signature) if signature else None

    def _form(self) -> dict[bytes, Value]:
        return {b"k": self.owner, b"s": list(self.signatures), b"seq": self.seq, b"v": self.value}

    @classmethod
    def _verified(cls, owner: OwnerKey, target: str, seq: int, value: bytes, signatures: tuple[bytes, ...]) -> Self:
        good = _verified_signatures(owner, target, seq, value, signatures)
        if not any(good):
            raise ManifestError("no signature of the manifest is its owner's for this target")
        return cls(owner, target, seq, value, good, Terms.read(value, owner, seq))


def newer_word(known: Manifest | None, heard: Manifest) -> Manifest:
    """Which of two words of one owner for one target counts; the same word twice has the signatures of both.

    The higher seq. Of two with the same seq (the owner signed twice) the one that holds more, then the higher
    SHA-512 of its value, so that all devices agree. Two releases under one version contest each other, whatever the
    revisions: nobody goes on until the owner signs a higher version.
    """
    if known is None:
        return heard
    if known.seq == heard.seq and known.value == heard.value:
        both = tuple(mine or theirs for mine, theirs in zip(known.signatures, heard.signatures, strict=True))
        return replace(known, signatures=both, is_contested=known.is_contested or heard.is_contested)
    chosen = max(known, heard, key=lambda word: (word.seq, word.terms.hold, hashlib.sha512(word.value).digest()))
    if known.terms.info.version != heard.terms.info.version:
        return chosen
    contested = known.is_contested or heard.is_contested or known.terms.info != heard.terms.info
    return replace(chosen, is_contested=contested)


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """The form of ``FILE.manifest``: one word, with four signatures for each target that the file is for.

    Attributes:
        owner, seq, value, terms: as of ``Manifest``.
        signatures: target's name -> those of its positions.
    """

    owner: OwnerKey
    seq: int
    value: bytes
    signatures: Mapping[str, tuple[bytes, ...]]
    terms: Terms

    @classmethod
    def sign(cls, key: KeyPair, targets: Iterable[str], seq: int, keys: Mapping[bytes, Value]) -> Self:
        """State these keys for the targets; the same arguments give the same bytes.

        Raises:
            ManifestError: a key is out of range, or they are too many.
        """
        owner = OwnerKey(key.public)
        value = write_terms(keys, owner, seq)
        signatures = {
            target: tuple(
                MutableItem.sign(key, pointer_salt(target, position), seq, value).signature
                for position in range(POSITIONS)
            )
            for target in sorted(targets)
        }
        return cls(owner, seq, value, signatures, Terms.read(value, owner, seq))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read the form of a file; signatures that do not verify are dropped.

        Raises:
            ManifestError: it is none, or no signature verifies.
        """
        seq, value, found, keys = _read_form(data, FILE_LIMIT, None)
        owner = OwnerKey(_bytes(keys[b"k"]))
        if not isinstance(found, dict):
            raise ManifestError("the manifest is not that of a file: its signatures name no targets")
        terms = Terms.read(value, owner, seq)
        signatures = {}
        for name, each in found.items():
            if not _TARGET_NAME.fullmatch(name):
                continue
            target = name.decode("ascii")
            good = _verified_signatures(owner, target, seq, value, _signatures(each))
            if any(good):
                signatures[target] = good
        if not signatures:
            raise ManifestError("no signature of the manifest is its owner's")
        return cls(owner, seq, value, signatures, terms)

    def encode(self) -> bytes:
        """The bytes of the file."""
        by_name = {target.encode("ascii"): signatures for target, signatures in self.signatures.items()}
        return encode({b"k": self.owner, b"s": by_name, b"seq": self.seq, b"v": self.value})

    @classmethod
    def of(cls, word: Manifest) -> Self:
        """The form of a file that holds one target's word."""
        return cls(word.owner, word.seq, word.value, {word.target: word.signatures}, word.terms)

    @property
    def revision(self) -> int:
        """How often the owner changed the terms of this version."""
        return self.seq % REVISION_LIMIT

    def for_target(self, target: str) -> Manifest | None:
        """The word for one target; None where it has none."""
        signatures = self.signatures.get(target)
        if signatures is None:
            return None
        return Manifest(self.owner, target, self.seq, self.value, signatures, self.terms)

    def merged(self, manifest: Manifest) -> Self:
        """With the signatures that ``manifest``, the same word for one target, has besides."""
        mine = self.signatures.get(manifest.target, (_NONE,) * POSITIONS)
        both = tuple(own or other for own, other in zip(mine, manifest.signatures, strict=True))
        return replace(self, signatures={**self.signatures, manifest.target: both})


def pointer_salt(target: str, position: int) -> bytes:
    """The BEP 44 salt of one position, such as ``pypatcher:armv7:0``."""
    return b"pypatcher:%s:%d" % (target.encode("ascii"), position)


def _read_form(data: bytes, limit: int, owner: OwnerKey | None) -> tuple[int, bytes, Value, dict[bytes, Value]]:
    """seq, v, s and all keys of either form, of the owner if one is given."""
    if len(data) > limit:
        raise ManifestError(f"a manifest has {limit} bytes at most")
    try:
        keys = decode(data)
    except CodecError as error:
        raise ManifestError(f"the manifest is not bencoded: {error}") from None
    if not isinstance(keys, dict) or not {b"k", b"seq", b"v", b"s"} <= keys.keys():
        raise ManifestError("the manifest lacks one of k, seq, v and s")
    seq = keys[b"seq"]
    if not isinstance(seq, int):
        raise ManifestError("the manifest's seq is no number")
    if owner is not None and keys[b"k"] != owner:
        raise ManifestError("the manifest is another owner's")
    return seq, _bytes(keys[b"v"]), keys[b"s"], keys


def _signatures(found: Value) -> tuple[bytes, ...]:
    if not isinstance(found, list) or len(found) != POSITIONS or not all(isinstance(each, bytes) for each in found):
        raise ManifestError(f"a manifest has {POSITIONS} signatures for each target")
    return tuple(_bytes(each) for each in found)


def _verified_signatures(
    owner: OwnerKey, target: str, seq: int, value: bytes, signatures: tuple[bytes, ...]
) -> tuple[bytes, ...]:
    items = (
        MutableItem(owner, pointer_salt(target, position), seq, value, signature)
        for position, signature in enumerate(signatures)
    )
    return tuple(item.signature if item.signature and item.verify() else _NONE for item in items)


def _bytes(found: Value) -> bytes:
    if not isinstance(found, bytes):
        raise ManifestError("the manifest has something else where bytes belong")
    return found
