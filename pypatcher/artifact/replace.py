"""Writes a new file beside the old one and renames it over: how ``sign`` and ``embed`` change a program.

After a crash either the old file is there, untouched, or the whole new one, with the old one's mode, owner and extended
attributes. Not here: how a device replaces its own program (``install.operations``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from pypatcher.artifact.hashing import feed
from pypatcher.errors import ArtifactError, CannotReplaceError, ContentMismatchError

__all__ = ["open_program", "replacing", "write_at"]


@contextlib.contextmanager
def open_program(path: Path) -> Iterator[int]:
    """A descriptor of a regular file for reading.

    Raises:
        ArtifactError: it is missing, unreadable or no regular file.
    """
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ArtifactError(f"{path} is not a regular file")
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def replacing(path: Path, out: Path | None = None) -> Iterator[int]:
    """A descriptor of a private copy of ``path``, to be changed; after the block it replaces the file by one rename.

    With ``out`` it is renamed to that path instead, and ``path`` stays as it is. A symbolic link stays one: the file
    that it points to is replaced. If the block raises, nothing has changed.

    Raises:
        ArtifactError: the file cannot be read.
        CannotReplaceError: the copy cannot be written beside it, or mode, owner or attributes cannot be kept.
    """
    real = Path(os.path.realpath(out or path))
    with open_program(path) as source:
        temporary = real.with_name(f".pypatcher-{secrets.token_hex(8)}.tmp")
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise CannotReplaceError(f"cannot write beside {out or path}: {error.strerror}") from None
        try:
            try:
                _copy(source, fd)
                yield fd
                _keep_attributes(source, fd)
                os.fsync(fd)
                temporary.rename(real)
            except OSError as error:
                raise CannotReplaceError(f"cannot replace {out or path}: {error.strerror}") from None
            _sync_folder(real.parent)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            os.close(fd)


def write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        OSError: writing failed.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view = view[written:]
        offset += written


def _copy(source: int, fd: int) -> None:
    size = os.fstat(source).st_size
    offset = 0

    def append(piece: memoryview) -> None:
        nonlocal offset
        write_at(fd, piece, offset)
        offset += len(piece)

    if feed(append, source, 0, size) != size:
        raise ContentMismatchError("the file became shorter while it was read: wait until the build is done")


def _keep_attributes(source: int, fd: int) -> None:
    old, new = os.fstat(source), os.fstat(fd)
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, stat.S_IMODE(old.st_mode))
    try:
        names = os.listxattr(source)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return
        raise
    for name in names:
        value = os.getxattr(source, name)
        if name not in os.listxattr(fd) or os.getxattr(fd, name) != value:
            os.setxattr(fd, name, value)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
