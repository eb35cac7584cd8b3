"""``FILE.manifest``, ``FILE.steps`` and ``FILE.hold``: where words lie beside a file, and how they are kept there.

A manifest and a hold are one word each; steps are a bencoded list of byte strings, each a manifest, the seq growing.
Not here: what it says (``manifest``, ``terms``), and what a device believes of it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pypatcher.artifact.manifest import FILE_LIMIT, Manifest, ManifestFile
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.replace import check_place, write_file
from pypatcher.artifact.rollout import STEPS_LIMIT
from pypatcher.bencode import decode, encode
from pypatcher.errors import CodecError, ManifestError
from pypatcher.keys import OwnerKey
from pypatcher.regular_file import open_regular

__all__ = [
    "add_word",
    "beside",
    "check_manifest_place",
    "check_steps_place",
    "manifest_path",
    "read_manifest",
    "read_steps",
    "word_about",
    "write_manifest",
    "write_steps",
]

_STEPS = "list of steps"
_STEPS_SIZE = STEPS_LIMIT * FILE_LIMIT


def manifest_path(file: Path) -> Path:
    """``FILE.manifest``, beside ``FILE``."""
    return file.with_name(f"{file.name}.manifest")


def beside(manifest: Path, ending: str) -> Path:
    """``FILE.steps`` or ``FILE.hold`` of ``FILE.manifest``."""
    return manifest.with_name(f"{manifest.name.removesuffix('.manifest')}.{ending}")


def read_manifest(path: Path, *, trusted: int | None = None) -> ManifestFile | None:
    """The manifest in a file; None where there is no such file.

    Args:
        trusted: a user whose files count, beside root's; links are not followed then. None: everybody's do.

    Raises:
        ManifestError: it is none, or another user's.
        OSError: it cannot be read.
    """
    data = _read(path, FILE_LIMIT, trusted)
    if data is None:
        return None
    try:
        return ManifestFile.decode(data)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def word_about(file: Path, info: PatchInfo, owner: OwnerKey | None = None) -> tuple[ManifestFile | None, str]:
    """The manifest beside a file, if it is about that release, else why it is of no use; neither where there is none.

    Args:
        owner: who has to have said it; None: whoever did.

    Raises:
        ManifestError: what is there is no manifest.
        OSError: it cannot be read.
    """
    path = manifest_path(file)
    word = read_manifest(path)
    if word is None:
        return None, ""
    if owner is not None and word.owner != owner:
        return None, f"{path} is another owner's"
    if word.terms.info != info:
        return None, f"{path} is about another file, of version {word.terms.info.version}"
    return word, ""


def read_steps(path: Path) -> list[ManifestFile]:
    """The revisions in ``FILE.steps``, in turn.

    Raises:
        ManifestError: they are none, of several releases, or do not follow each other.
        OSError: the file cannot be read.
    """
    data = _read(path, _STEPS_SIZE, None)
    if data is None:
        raise ManifestError(f"{path}: there is no such file")
    try:
        steps = _decode_steps(data)
    except ManifestError as error:
        raise ManifestError(f"{path} holds no steps: {error}") from None
    seqs = [step.seq for step in steps]
    same = {(step.owner, step.terms.info) for step in steps}
    if seqs != sorted(set(seqs)) or len(same) != 1:
        raise ManifestError(f"{path} holds steps that do not follow each other")
    return steps


def _decode_steps(data: bytes) -> list[ManifestFile]:
    try:
        found = decode(data)
    except CodecError as error:
        raise ManifestError(str(error)) from None
    if not isinstance(found, list) or not 0 < len(found) <= STEPS_LIMIT:
        raise ManifestError("it is no list of steps")
    return [ManifestFile.decode(each if isinstance(each, bytes) else b"") for each in found]


def write_steps(path: Path, steps: Sequence[ManifestFile]) -> None:
    """Write them as a whole, over those of an earlier plan.

    Raises:
        CannotReplaceError: the file cannot be written.
    """
    write_file(path, encode([step.encode() for step in steps]), _are_steps, _STEPS)


def check_steps_place(path: Path) -> None:
    """Whether steps can be written there; see `check_manifest_place`."""
    check_place(path, _are_steps, _STEPS)


def check_manifest_place(path: Path) -> None:
    """Whether a manifest can be written there: to be asked before anything that cannot be undone.

    Raises:
        CannotReplaceError: something else is there, or the folder cannot be opened.
    """
    check_place(path, _is_manifest, "manifest")


def write_manifest(path: Path, word: ManifestFile, *, replace: bool) -> None:
    """Write it as a whole; it outlives a power cut when this returns.

    Args:
        replace: whether a manifest that is there goes.

    Raises:
        CannotReplaceError: it cannot be written, or one is there, or something else.
    """
    write_file(path, word.encode(), _is_manifest, "manifest", replace=replace)


def add_word(path: Path, word: Manifest) -> None:
    """Keep one target's word in a file's manifest: an older one goes, of the same one no signature is lost.

    Raises:
        ManifestError: what is there is none.
        CannotReplaceError, OSError: it cannot be written, or what is there cannot be read.
    """
    known = read_manifest(path)
    if known is not None and known.seq > word.seq:
        return
    is_same = known is not None and (known.seq, known.value) == (word.seq, word.value)
    merged = known.merged(word) if known is not None and is_same else ManifestFile.of(word)
    if merged != known:
        write_manifest(path, merged, replace=True)


def _is_manifest(fd: int) -> bool:
    try:
        ManifestFile.decode(os.pread(fd, FILE_LIMIT + 1, 0))
    except ManifestError:
        return False
    return True


def _are_steps(fd: int) -> bool:
    try:
        _decode_steps(os.pread(fd, _STEPS_SIZE + 1, 0))
    except ManifestError:
        return False
    return True


def _read(path: Path, limit: int, trusted: int | None) -> bytes | None:
    try:
        fd = open_regular(path, follow=trusted is None)
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if trusted is not None and found.st_uid not in (0, trusted):
            raise ManifestError(
                f"{path} belongs to user {found.st_uid}: it has to be root's, or of who owns the program"
            )
        data = b""
        while len(data) <= limit and (piece := os.read(fd, limit + 1 - len(data))):
            data += piece
    finally:
        os.close(fd)
    return data
