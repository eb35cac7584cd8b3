"""``FILE.manifest``: where a file's manifest lies, how it is read, and that it is never half written.

Not here: what it says (``manifest``, ``terms``), and what a device believes of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

from pypatcher.artifact.manifest import FILE_LIMIT, ManifestFile
from pypatcher.errors import CannotReplaceError, ManifestError

__all__ = ["manifest_path", "read_manifest", "write_manifest"]

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def manifest_path(file: Path) -> Path:
    """``FILE.manifest``, beside ``FILE``."""
    return file.with_name(f"{file.name}.manifest")


def read_manifest(path: Path, *, trusted: int | None = None) -> ManifestFile | None:
    """The manifest in a file; None where there is no such file.

    Args:
        trusted: a user whose files count, beside root's; links are not followed then. None: everybody's do.

    Raises:
        ManifestError: it is none, or another user's.
        OSError: it cannot be read.
    """
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
        while len(data) <= FILE_LIMIT and (piece := os.read(fd, FILE_LIMIT + 1 - len(data))):
            data += piece
    finally:
        os.close(fd)
    try:
        return ManifestFile.decode(data)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def write_manifest(path: Path, word: ManifestFile, *, replace: bool) -> None:
    """Write it as a whole; it outlives a power cut when this returns.

    Args:
        replace: whether a file that is there goes.

    Raises:
        CannotReplaceError: it cannot be written, or is there.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(word.encode())
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
