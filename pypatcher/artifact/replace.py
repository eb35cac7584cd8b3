"""Writes a new file beside the old one and renames it over: how every command writes to a file that a person named.

After a crash either the old file is there, untouched, or the whole new one. Nothing is replaced but what the command
itself makes: a typing error costs nobody a key. Not here: how a device replaces its own program
(``install.operations``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pypatcher.artifact.hashing import feed
from pypatcher.artifact.sections import ELF_MAGIC
from pypatcher.artifact.zipapp import looks_like_zipapp
from pypatcher.errors import ArtifactError, CannotReplaceError, ContentMismatchError
from pypatcher.regular_file import open_regular
from pypatcher.trusted_path import open_folder, resolve

__all__ = ["check_place", "check_replaceable", "open_program", "replacing", "write_at", "write_file"]

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}
"""What fsync says where there is nothing that it could make durable."""


@contextlib.contextmanager
def open_program(path: Path) -> Iterator[int]:
    """A descriptor of a regular file for reading.

    Raises:
        ArtifactError: it is missing, unreadable or no regular file.
    """
    try:
        fd = open_regular(path)
    except OSError as error:
        raise ArtifactError(f"cannot read {path}: {error.strerror}") from None
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def replacing(path: Path, out: Path | None = None) -> Iterator[int]:
    """A descriptor of a private copy of ``path``, to be changed; after the block it replaces the file by one rename.

    With ``out`` it is renamed to that path instead, and ``path`` stays as it is. A symbolic link stays one: the file
    that it points to is replaced; but root follows none that another user can change. If the block raises, nothing has
    changed.

    Raises:
        ArtifactError: the file cannot be read.
        CannotReplaceError: the copy cannot be written beside it, or mode, owner or attributes cannot be kept.
    """
    named = out or path
    real = resolve(named)
    with open_program(path) as source, _folder_of(real, named) as folder:
        check_replaceable(real.name, folder, named, _is_program, "program")
        if out is None and not _is_entry(source, real.name, folder):
            raise CannotReplaceError(f"{path} is a link that another user can change, and root follows none")
        with _renamed(real.name, folder, named) as fd:
            _copy(source, fd)
            yield fd
            _keep_attributes(source, fd)


def write_file(path: Path, data: bytes, ours: Callable[[int], bool], what: str, *, replace: bool = True) -> None:
    """Write ``data`` as a whole, readable for all; it outlives a power cut when this returns.

    Args:
        ours: see `check_replaceable`.
        what: what ``ours`` knows, in words.
        replace: whether a file that is there goes.

    Raises:
        CannotReplaceError: it cannot be written, or something is there that stays.
    """
    real = resolve(path)
    with _folder_of(real, path) as folder:
        check_replaceable(real.name, folder, path, ours, what)
        with _renamed(real.name, folder, path, replace=replace) as fd:
            write_at(fd, data, 0)
            os.fchmod(fd, 0o644)


def check_place(path: Path, ours: Callable[[int], bool], what: str) -> None:
    """Whether `write_file` would find a place: to be asked before anything that cannot be undone.

    Raises:
        CannotReplaceError: something is there that stays, or the folder cannot be opened.
    """
    real = resolve(path)
    with _folder_of(real, path) as folder:
        check_replaceable(real.name, folder, path, ours, what)


def check_replaceable(name: str, folder: int, named: Path, ours: Callable[[int], bool], what: str) -> None:
    """Nothing is replaced but what ``ours`` knows in an open file, an empty file or nothing at all.

    Args:
        name: the file's, in the open ``folder``.
        named: how the person calls it.
        what: what ``ours`` knows, in words.

    Raises:
        CannotReplaceError: it is something else.
    """
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as error:
        raise CannotReplaceError(f"cannot replace {named}: {error.strerror}") from None
    if not stat.S_ISREG(found.st_mode):
        raise CannotReplaceError(f"cannot replace {named}: it is there, and is no regular file")
    if not found.st_size:
        return
    try:
        fd = open_regular(name, folder=folder, follow=False)
    except OSError as error:
        raise CannotReplaceError(f"cannot replace {named}: cannot read it: {error.strerror}") from None
    try:
        if not ours(fd):
            raise CannotReplaceError(
                f"cannot replace {named}: it is there, and is no {what}: choose another name, or move it away"
            )
    finally:
        os.close(fd)


@contextlib.contextmanager
def _renamed(name: str, folder: int, named: Path, *, replace: bool = True) -> Iterator[int]:
    """A descriptor of a new private file in the open ``folder``, which gets its name after the block."""
    temporary = f".pypatcher-{secrets.token_hex(8)}.tmp"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        fd = os.open(temporary, flags, 0o600, dir_fd=folder)
    except OSError as error:
        raise CannotReplaceError(f"cannot write beside {named}: {error.strerror}") from None
    try:
        try:
            yield fd
            os.fsync(fd)
            if replace:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            else:
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            raise CannotReplaceError(f"cannot replace {named}: {error.strerror}") from None
        _sync_folder(folder, named)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        os.close(fd)


@contextlib.contextmanager
def _folder_of(path: Path, named: Path) -> Iterator[int]:
    """A descriptor of the folder, opened before anything is changed: all that follows happens in this one."""
    try:
        folder = open_folder(path.parent)
    except OSError as error:
        raise CannotReplaceError(f"cannot write beside {named}: {error.strerror}") from None
    try:
        yield folder
    finally:
        os.close(folder)


def _is_program(fd: int) -> bool:
    return os.pread(fd, len(ELF_MAGIC), 0) == ELF_MAGIC or looks_like_zipapp(fd)


def _is_entry(fd: int, name: str, folder: int) -> bool:
    """Whether the open file is the one of that name in the folder."""
    opened, entry = os.fstat(fd), os.stat(name, dir_fd=folder, follow_symlinks=False)
    return (opened.st_dev, opened.st_ino) == (entry.st_dev, entry.st_ino)


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


def _sync_folder(folder: int, named: Path) -> None:
    try:
        os.fsync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise CannotReplaceError(
                f"{named} IS replaced, but the disk does not say that this would outlive a power cut: {error.strerror}"
            ) from None
