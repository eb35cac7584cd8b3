"""``FILE.manifest``, ``FILE.steps`` and ``FILE.hold``: where words lie beside a file, and how they are kept there.

A manifest and a hold are one word each; steps are a bencoded list of byte strings, each a manifest, the seq growing.
Not here: what it says (``manifest``, ``terms``), and what a device believes of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from pypatcher.artifact.manifest import FILE_LIMIT, Manifest, ManifestFile
from pypatcher.artifact.patch import PatchInfo
from pypatcher.bencode import decode, encode
from pypatcher.errors import CannotReplaceError, CodecError, ManifestError
from pypatcher.keys import OwnerKey

__all__ = [
    "add_word",
    "beside",
    "manifest_path",
    "read_manifest",
    "read_steps",
    "word_about",
    "write_manifest",
    "write_steps",
]

_STEPS_LIMIT = 64
_STEPS_SIZE = _STEPS_LIMIT * FILE_LIMIT

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


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
        found = decode(data)
    except CodecError as error:
        raise ManifestError(f"{path} holds no steps: {error}") from None
    if not isinstance(found, list) or not 0 < len(found) <= _STEPS_LIMIT:
        raise ManifestError(f"{path} holds no steps")
    steps = [ManifestFile.decode(each) for each in found if isinstance(each, bytes)]
    seqs = [step.seq for step in steps]
    same = {(step.owner, step.terms.info) for step in steps}
    if len(steps) != len(found) or seqs != sorted(set(seqs)) or len(same) != 1:
        raise ManifestError(f"{path} holds steps that do not follow each other")
    return steps


def write_steps(path: Path, steps: Sequence[ManifestFile]) -> None:
    """Write them as a whole, over those of an earlier plan.

    Raises:
        CannotReplaceError: the file cannot be written.
    """
    _write(path, encode([step.encode() for step in steps]), replace=True)


def write_manifest(path: Path, word: ManifestFile, *, replace: bool) -> None:
    """Write it as a whole; it outlives a power cut when this returns.

    Args:
        replace: whether a file that is there goes.

    Raises:
        CannotReplaceError: it cannot be written, or is there.
    """
    _write(path, word.encode(), replace=replace)


def add_word(path: Path, word: Manifest) -> None:
    """Keep one target's word in a file's manifest: an older one goes, of the same one no signature is lost.

    Raises:
        CannotReplaceError: it cannot be written.
    """
    try:
        known = read_manifest(path)
    except (ManifestError, OSError):
        known = None
    if known is not None and known.seq > word.seq:
        return
    is_same = known is not None and (known.seq, known.value) == (word.seq, word.value)
    merged = known.merged(word) if known is not None and is_same else ManifestFile.of(word)
    if merged != known:
        write_manifest(path, merged, replace=True)


def _write(path: Path, data: bytes, *, replace: bool) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            if replace:
                temporary.replace(path)
            else:
                os.link(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CannotReplaceError(f"cannot write {path}: {error.strerror}") from None


def _read(path: Path, limit: int, trusted: int | None) -> bytes | None:
    try:
        fd = os.open(path, _READ | (0 if trusted is None else os.O_NOFOLLOW))
    except FileNotFoundError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise ManifestError(f"{path} is no regular file")
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
