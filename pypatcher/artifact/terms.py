"""What the signed value of a manifest says: which release, who may take it, and whether devices go on with it.

protocol.md "The manifest". Pure, and no signature over the value is checked here, only those of the releases in it.
A device reads leniently, so that an owner can state more than an old device knows; what is written is checked strictly.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pypatcher.artifact.patch import PatchInfo
from pypatcher.bencode import Value, decode, encode
from pypatcher.errors import CodecError, ManifestError, VersionError
from pypatcher.keys import SIGNATURE_SIZE, OwnerKey
from pypatcher.mutable_item import MAX_VALUE
from pypatcher.version import REVISION_LIMIT

__all__ = ["ALL", "KEYS", "Hold", "Terms", "write_terms"]

ALL = 10_000
"""A share of all devices."""
_NOTE_LIMIT = 80
_COSIGNATURE_SIZE = 1 + SIGNATURE_SIZE
_COSIGNATURES = 5
_ROOT_SIZE = 1 + 16
_MUST_LIMIT = 32
_TREES = (b"tree", b"stree", b"otree")
_NUMBERS = {b"share": range(ALL + 1), b"hold": range(1, 3), b"made": range(1 << 53)}
KEYS = frozenset((b"i", b"stable", b"share", b"hold", b"must", b"made", b"note", b"co", *_TREES))
"""Those that are understood here."""


class Hold(enum.IntEnum):
    """Whether devices go on with a release."""

    GO_ON = 0
    HELD = 1
    """Nobody fetches, stages or activates it, and no trial of it is confirmed by time."""
    RECALLED = 2
    """Held, and who is on trial of it goes back."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the signed value of a manifest says.

    Attributes:
        info: the release.
        stable: an older one, for who does not take part in ``info``; None: they stay where they are.
        share: of 10,000 devices, how many may take ``info`` now.
        hold: HELD at least where the terms ask for something that is not understood here.
        trees: key -> the parameters' number and the root of a chunk tree, 17 bytes; asked of peers where absent.
        made: unix time of the revision; None in revision 0.
        note: for people, at most 80 bytes of UTF-8.
        not_understood: why ``hold`` was raised; empty: all is understood.
        keys: everything as it was signed, keys that are not known here included.
    """

    info: PatchInfo
    stable: PatchInfo | None
    share: int
    hold: Hold
    trees: Mapping[bytes, bytes]
    made: int | None
    note: str
    not_understood: str
    keys: Mapping[bytes, Value]

    @classmethod
    def read(cls, value: bytes, owner: OwnerKey, seq: int) -> Terms:
        """What ``value`` says. The signature over it is the caller's to check.

        A key that is out of range, or that ``must`` names and nobody here knows, holds the release: the owner asks for
        something that this device cannot do, so it does less, not more.

        Raises:
            ManifestError: it names no release that ``owner`` signed, of the version that ``seq`` is of.
        """
        try:
            keys = decode(value)
        except CodecError as error:
            raise ManifestError(f"the manifest's value is not bencoded: {error}") from None
        if not isinstance(keys, dict):
            raise ManifestError("the manifest's value is no dictionary")
        info = _release(keys.get(b"i"), owner)
        if info is None:
            raise ManifestError("the manifest names no release that its owner signed")
        if seq < 0 or info.version.seq() != seq - seq % REVISION_LIMIT:
            raise ManifestError(f"the manifest names version {info.version}, but its seq {seq} is of another")
        wrong = sorted(key for key in keys if key in KEYS and not _in_range(key, keys[key], info, owner))
        must = keys.get(b"must", [])
        unknown = [name for name in must if not _is_known(name)] if isinstance(must, list) else []
        reasons = [f"{_text(key)} is out of range" for key in wrong] + [
            f"{_text(name)} is not known" for name in unknown
        ]
        good = {key: found for key, found in keys.items() if key not in wrong}
        asked = Hold(_number(good.get(b"hold"), 0))
        return cls(
            info=info,
            stable=_release(good.get(b"stable"), owner),
            share=_number(good.get(b"share"), ALL),
            hold=max(asked, Hold.HELD) if reasons else asked,
            trees={key: root for key in _TREES if isinstance(root := good.get(key), bytes)},
            made=_number(good[b"made"], 0) if b"made" in good else None,
            note=note.decode() if isinstance(note := good.get(b"note"), bytes) else "",
            not_understood=", ".join(reasons),
            keys=keys,
        )


def write_terms(keys: Mapping[bytes, Value], owner: OwnerKey, seq: int) -> bytes:
    """The value that states these keys, after every check that a reader makes.

    Raises:
        ManifestError: a key is out of range, or all together are more than 996 bytes.
    """
    value = encode(keys)
    if len(value) > MAX_VALUE:
        raise ManifestError(
            f"the manifest would have {len(value)} bytes, more than the {MAX_VALUE} that a DHT node keeps"
        )
    terms = Terms.read(value, owner, seq)
    if terms.not_understood:
        raise ManifestError(f"the manifest would hold its own release: {terms.not_understood}")
    return value


def _release(found: Value | None, owner: OwnerKey) -> PatchInfo | None:
    """The release that the bytes are, if the owner signed it and it can be announced."""
    if not isinstance(found, bytes):
        return None
    try:
        info, rest = PatchInfo.from_postcard(found)
        info.version.seq()
    except (CodecError, VersionError):
        return None
    return info if not rest and info.is_signed_by(owner) else None


def _in_range(key: bytes, found: Value, info: PatchInfo, owner: OwnerKey) -> bool:
    """Whether a known key has a value that the protocol page allows."""
    match found:
        case bytes() if key == b"stable":
            stable = _release(found, owner)
            return stable is not None and stable.version < info.version
        case bytes():
            return key in _BYTES and _BYTES[key](found)
        case int():
            return key in _NUMBERS and found in _NUMBERS[key]
        case list():
            return key == b"must" and len(found) <= _MUST_LIMIT and all(isinstance(name, bytes) for name in found)
    return False


def _is_known(name: Value) -> bool:
    return isinstance(name, bytes) and name in KEYS


def _is_text(data: bytes) -> bool:
    try:
        return data.decode().isprintable()
    except UnicodeDecodeError:
        return False


_BYTES: dict[bytes, Callable[[bytes], bool]] = {
    b"i": lambda _: True,
    b"note": lambda text: len(text) <= _NOTE_LIMIT and _is_text(text),
    b"co": lambda found: len(found) % _COSIGNATURE_SIZE == 0 and len(found) <= _COSIGNATURES * _COSIGNATURE_SIZE,
} | dict.fromkeys(_TREES, lambda root: len(root) == _ROOT_SIZE)


def _number(found: Value | None, absent: int) -> int:
    return found if isinstance(found, int) else absent


def _text(name: Value) -> str:
    return repr(name.decode("ascii", "backslashreplace")[:_MUST_LIMIT]) if isinstance(name, bytes) else "a key"
