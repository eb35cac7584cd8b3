"""How an owner's tool states terms and changes them: revision 0 of a release, later revisions, steps and their brake.

protocol.md "The manifest". Pure: keys and times are passed in. What the words mean is ``terms``', their bytes are
``manifest``'s; every function here leaves fields that it does not know as they were signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pypatcher.artifact.manifest import Manifest, ManifestFile
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.terms import ALL, Hold
from pypatcher.bencode import Value
from pypatcher.errors import SettingError
from pypatcher.keys import KeyPair
from pypatcher.version import REVISION_LIMIT

__all__ = [
    "FIRST",
    "KEEP",
    "STEPS_LIMIT",
    "Change",
    "describe",
    "first_word",
    "next_word",
    "parse_share",
    "steps_and_brake",
]

FIRST = 1
"""The share that only devices told to be first take part in (and one of 10,000 others)."""
KEEP = object()
"""Leave ``stable`` as it is; None takes it away."""
STEPS_LIMIT = 64
"""Steps that are signed ahead at most."""
_BRAKE_STEP = 256
_PERCENT = re.compile(r"(\d{1,3})(?:\.(\d{1,2}))?%", re.ASCII)


@dataclass(frozen=True, slots=True)
class Change:
    """What the next revision changes; None leaves it as it is.

    Attributes:
        share: of 10,000 devices.
        hold: GO_ON ends a hold.
        stable: an older release, None for none, or KEEP.
        note: text for people; empty takes it away.
        tree: the root of the release's chunk tree, as it is stated.
        opened_tree: that of its opened content's.
        stable_tree: that of ``stable``, which goes and comes with it.
        must: names of keys without which devices shall not go on; none takes the demand away.
    """

    share: int | None = None
    hold: Hold | None = None
    stable: PatchInfo | object | None = KEEP
    note: str | None = None
    tree: bytes | None = None
    opened_tree: bytes | None = None
    stable_tree: bytes | None = None
    must: tuple[bytes, ...] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it says everything that matters, so that it needs no earlier word to build on."""
        return self.share is not None and self.hold is not None and self.stable is not KEEP


def parse_share(text: str) -> int:
    """``25%``, ``0.5%``, ``first`` or ``all`` as a share of 10,000.

    Raises:
        SettingError: it is none of these.
    """
    if text in ("all", "first"):
        return ALL if text == "all" else FIRST
    match = _PERCENT.fullmatch(text)
    share = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else ALL + 1
    if share > ALL:
        raise SettingError(f"a share is a percentage with two decimals at most, 'first' or 'all', not {text!r}")
    return share


def first_word(key: KeyPair, info: PatchInfo, targets: Iterable[str], change: Change) -> ManifestFile:
    """Revision 0 of a release: the same arguments give the same bytes, so it has no time in it.

    Raises:
        ManifestError: a term is out of range.
        VersionError: the version cannot be announced.
    """
    keys: dict[bytes, Value] = {b"i": info.to_postcard()}
    _apply(keys, change)
    return ManifestFile.sign(key, targets, info.version.seq(), keys)


def next_word(known: ManifestFile, key: KeyPair, change: Change, made: int, above: int | None = None) -> ManifestFile:
    """The next revision of ``known``, for the same targets.

    Args:
        made: unix time.
        above: the seq that the network has; ``known`` is then of that seq, or ``change`` is whole.

    Raises:
        SettingError: it would not follow the word that the network has, or the version has no revision left.
        ManifestError: a term is out of range.
    """
    seq = known.seq if above is None else above
    version_seq = known.terms.info.version.seq()
    if seq - seq % REVISION_LIMIT != version_seq:
        raise SettingError(f"seq {seq} is not of version {known.terms.info.version}: use the manifest of that release")
    if known.seq > seq:
        raise SettingError(f"the manifest is at seq {known.seq} already, above {seq}")
    if known.seq != seq and not change.is_whole:
        raise SettingError(
            f"the manifest is at seq {known.seq}, the network at {seq}: what changed between is not known here, "
            "so say share, hold (--go or --hold) and stable, all three"
        )
    return _revision(known, key, change, made, seq + 1)


def steps_and_brake(
    known: ManifestFile, key: KeyPair, shares: Sequence[int], change: Change, made: int
) -> tuple[list[ManifestFile], ManifestFile]:
    """One revision for each share, in turn, and a hold that stands above all of them.

    The brake is at the next multiple of 256, so that it wins over every step, and over a few words in between.

    Raises:
        SettingError: there are no steps or too many, they do not grow, or the version has no revisions left.
        ManifestError: a term is out of range.
    """
    if not shares or list(shares) != sorted(set(shares)) or len(shares) > STEPS_LIMIT:
        raise SettingError(f"steps are shares that grow, such as 1%,10%,50%,all, and {STEPS_LIMIT} at most")
    steps = []
    word = known
    for share in shares:
        step = replace(change, share=share, hold=Hold.GO_ON)
        word = _revision(word, key, step, made, word.seq + 1)
        steps.append(word)
    brake = _revision(word, key, Change(hold=Hold.HELD), made, (word.seq // _BRAKE_STEP + 1) * _BRAKE_STEP)
    return steps, brake


def describe(word: ManifestFile | Manifest) -> str:
    """In one line: which release, who may take it now, and what everybody else may take."""
    terms = word.terms
    if terms.hold is Hold.RECALLED:
        who = "nobody takes it, and who is on trial of it goes back"
    elif terms.hold is Hold.HELD:
        who = "nobody takes it now"
    elif terms.share == ALL:
        who = "all may take it, as soon as it runs anywhere"
    elif terms.share == FIRST:
        who = "only devices with PYPATCHER_ROLLOUT=first take it"
    else:
        who = f"{terms.share / 100:g} % of the devices may take it"
    rest = ""
    if terms.stable is not None:
        rest = f"; the others may take {terms.stable.version}"
    elif terms.share < ALL or terms.hold:
        rest = "; the others stay where they are"
    return f"version {terms.info.version}, revision {word.revision}: {who}{rest}"


def _revision(known: ManifestFile, key: KeyPair, change: Change, made: int, seq: int) -> ManifestFile:
    if seq % REVISION_LIMIT <= known.revision:
        raise SettingError(
            f"version {known.terms.info.version} has no revision left above {known.revision}: sign a higher version"
        )
    keys = {**known.terms.keys, b"made": made}
    _apply(keys, change)
    return ManifestFile.sign(key, known.signatures, seq, keys)


def _apply(keys: dict[bytes, Value], change: Change) -> None:
    if change.share is not None:
        _put(keys, b"share", change.share, absent=ALL)
    if change.hold is not None:
        _put(keys, b"hold", int(change.hold), absent=Hold.GO_ON)
    if change.tree is not None:
        keys[b"tree"] = change.tree
    if change.opened_tree is not None:
        keys[b"otree"] = change.opened_tree
    if change.stable is not KEEP:
        keys.pop(b"stable", None)
        keys.pop(b"stree", None)
    if isinstance(change.stable, PatchInfo):
        keys[b"stable"] = change.stable.to_postcard()
        if change.stable_tree is not None:
            keys[b"stree"] = change.stable_tree
    if change.note is not None:
        _put(keys, b"note", change.note.encode(), absent=b"")
    if change.must is not None:
        keys.pop(b"must", None)
        if change.must:
            keys[b"must"] = [*change.must]


def _put(keys: dict[bytes, Value], key: bytes, value: int | bytes, absent: int | bytes) -> None:
    """State a value; the one that an absent key means is stated by its absence, so that a word has one encoding."""
    if value == absent:
        keys.pop(key, None)
    else:
        keys[key] = value
