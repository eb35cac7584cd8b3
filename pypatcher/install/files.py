"""The small interface through which every file of an installation is touched, and the real disk behind it.

Each method is one operation of the operating system, or as near as it gets, so that a simulated file system can stop
before any of them (install.md). Names are relative to the descriptors of the two folders, and symbolic links are never
followed. Not here: which operation comes when (``operations``), and which folders are used (``state_folder``).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from typing import Protocol

from pypatcher.file_parts import copy_part, write_part
from pypatcher.install.file_stat import FileStat, file_stat
from pypatcher.install.layout import Entry, Folder
from pypatcher.install.sealing import copy_apart, is_written
from pypatcher.process import record_locks

__all__ = ["Files", "OsFiles", "give_to_owner_of"]

_CHUNK = 1 << 20
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REOPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}
"""What fsync says where there is nothing that it could make durable."""


_forks_wait = threading.RLock()
_written: set[int] = set()
"""Descriptors of what may become a program: while a child holds one that forked without exec, nobody can execute it."""


def _close_in_child() -> None:
    for descriptor in _written:
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _written.clear()
    _forks_wait.release()


os.register_at_fork(before=_forks_wait.acquire, after_in_parent=_forks_wait.release, after_in_child=_close_in_child)


class Files(Protocol):
    """One operation a method; all raise OSError and what is absent raises FileNotFoundError unless said otherwise."""

    def stat(self, entry: Entry) -> FileStat | None:
        """The entry itself, no link followed; None when it is absent."""

    def open(self, entry: Entry) -> int:
        """A descriptor for reading; refuses symbolic links."""

    def create(self, entry: Entry) -> int:
        """A descriptor of a new file, mode 0600; refuses what exists."""

    def reopen(self, entry: Entry) -> int:
        """A descriptor for reading and writing of what `create` made once, mode 0600 again; refuses all else."""

    def fstat(self, fd: int) -> FileStat:
        """The open file."""

    def read(self, fd: int, limit: int, offset: int = 0) -> bytes:
        """``limit`` bytes from ``offset`` on, fewer at the file's end."""

    def write(self, fd: int, data: bytes) -> None:
        """All of ``data``, at the descriptor's position."""

    def write_part(self, fd: int, data: bytes, offset: int) -> None:
        """All of ``data`` from ``offset`` on; a gap before it reads as zeros."""

    def truncate(self, fd: int, size: int) -> None:
        """Cut off what is behind the first ``size`` bytes of an open file."""

    def copy(self, source: int, target: int) -> None:
        """All content of one open file into another, empty one."""

    def copy_part(self, source: int, start: int, target: int, offset: int, size: int) -> None:
        """``size`` bytes of one open file from ``start`` on into another from ``offset`` on."""

    def seal(self, fd: int, entry: Entry) -> None:
        """Write no more to what was created as ``entry``: from now on the descriptor is for reading, and nobody has
        the file open for writing. It is another inode, a copy, where somebody else holds the first one.
        """

    def copy_attributes(self, source: int, target: int) -> None:
        """Owner, extended attributes and mode."""

    def make_executable(self, fd: int) -> None:
        """Mode 0755, as a program's is that was not there before."""

    def sync(self, fd: int) -> None:
        """fsync of an open file."""

    def close(self, fd: int) -> None:
        """Close a descriptor."""

    def sync_folder(self, folder: Folder) -> None:
        """fsync of a folder."""

    def rename(self, source: Entry, target: Entry) -> None:
        """Atomic; replaces the target."""

    def link(self, source: Entry, target: Entry) -> None:
        """A second name for a file; refuses what exists."""

    def unlink(self, entry: Entry) -> None:
        """Remove a name; what is absent is no error."""

    def names(self) -> list[str]:
        """What is in the state folder."""

    def lock(self, entry: Entry, *, shared: bool = False, held: int | None = None) -> int | None:
        """flock without waiting, on a descriptor that is returned; None when somebody else holds it.

        ``held`` is a descriptor of an earlier call, whose lock is converted; it keeps what it had where that fails.
        """

    def mark(self, fd: int, offset: int, *, on: bool = True) -> None:
        """Lock a byte of an open file, or unlock it: a record lock, of this process and not of its forks.

        Closing any descriptor of that file unlocks all that this process has.
        """

    def marks(self, fd: int, first: int, after: int) -> dict[int, int]:
        """Which bytes from ``first`` on, and before ``after``, other processes marked: the offset, and by whom."""


class OsFiles:
    """The disk, through descriptors of the two folders. The state folder's is None where there is none."""

    write_part = staticmethod(write_part)
    copy_part = staticmethod(copy_part)

    def __init__(self, program_folder: int, state_folder: int | None) -> None:
        self._folders = {Folder.PROGRAM: program_folder, Folder.STATE: state_folder}

    def _at(self, folder: Folder) -> int:
        descriptor = self._folders[folder]
        if descriptor is None:
            raise FileNotFoundError(errno.ENOENT, "there is no state folder")
        return descriptor

    def stat(self, entry: Entry) -> FileStat | None:
        """See `Files`."""
        try:
            return file_stat(os.stat(entry.name, dir_fd=self._at(entry.folder), follow_symlinks=False))
        except FileNotFoundError:
            return None

    def open(self, entry: Entry) -> int:
        """See `Files`."""
        return os.open(entry.name, _READ, dir_fd=self._at(entry.folder))

    def create(self, entry: Entry) -> int:
        """See `Files`. What root makes belongs to the owner of its folder, or the service could not use it."""
        folder = self._at(entry.folder)
        with _forks_wait:
            descriptor = os.open(entry.name, _CREATE, 0o600, dir_fd=folder)
            _written.add(descriptor)
        try:
            give_to_owner_of(folder, descriptor)
        except OSError:
            self.close(descriptor)
            raise
        return descriptor

    def reopen(self, entry: Entry) -> int:
        """See `Files`. Nobody else's file is written to, whatever name somebody gave it."""
        folder = self._at(entry.folder)
        with _forks_wait:
            descriptor = os.open(entry.name, _REOPEN, dir_fd=folder)
            _written.add(descriptor)
        try:
            found, owners = os.fstat(descriptor), (os.geteuid(), os.fstat(folder).st_uid)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1 or found.st_uid not in owners:
                raise PermissionError(errno.EPERM, "not a file of ours alone", entry.name)
            os.fchmod(descriptor, 0o600)
        except OSError:
            self.close(descriptor)
            raise
        return descriptor

    def fstat(self, fd: int) -> FileStat:
        """See `Files`."""
        return file_stat(os.fstat(fd))

    def read(self, fd: int, limit: int, offset: int = 0) -> bytes:
        """See `Files`."""
        data = b""
        while len(data) < limit and (chunk := os.pread(fd, limit - len(data), offset + len(data))):
            data += chunk
        return data

    def write(self, fd: int, data: bytes) -> None:
        """See `Files`."""
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def truncate(self, fd: int, size: int) -> None:
        """See `Files`."""
        os.ftruncate(fd, size)

    def copy(self, source: int, target: int) -> None:
        """See `Files`."""
        offset = 0
        while chunk := os.pread(source, _CHUNK, offset):
            self.write(target, chunk)
            offset += len(chunk)

    def seal(self, fd: int, entry: Entry) -> None:
        """See `Files`."""
        self._read_only(fd, entry)
        if is_written(fd):
            self.unlink(entry)
            copy_apart(fd, lambda: self.create(entry))
            self._read_only(fd, entry)

    def _read_only(self, fd: int, entry: Entry) -> None:
        """Let the descriptor be one of what has that name."""
        found = self.open(entry)
        try:
            with _forks_wait:
                os.dup2(found, fd, inheritable=False)
                _written.discard(fd)
        finally:
            os.close(found)

    def copy_attributes(self, source: int, target: int) -> None:
        """See `Files`. The mode comes last: changing the owner clears bits of it. It is never setuid."""
        wanted, found = os.fstat(source), os.fstat(target)
        if (wanted.st_uid, wanted.st_gid) != (found.st_uid, found.st_gid):
            os.fchown(target, wanted.st_uid, wanted.st_gid)
        present = _attributes(target)
        for name, value in _attributes(source).items():
            if present.get(name) != value:
                os.setxattr(target, name, value)
        os.fchmod(target, wanted.st_mode & 0o777)

    def make_executable(self, fd: int) -> None:
        """See `Files`."""
        os.fchmod(fd, 0o755)

    def sync(self, fd: int) -> None:
        """See `Files`."""
        _sync(fd)

    def close(self, fd: int) -> None:
        """See `Files`."""
        with _forks_wait:
            _written.discard(fd)
            os.close(fd)

    def sync_folder(self, folder: Folder) -> None:
        """See `Files`."""
        _sync(self._at(folder))

    def rename(self, source: Entry, target: Entry) -> None:
        """See `Files`."""
        os.rename(source.name, target.name, src_dir_fd=self._at(source.folder), dst_dir_fd=self._at(target.folder))

    def link(self, source: Entry, target: Entry) -> None:
        """See `Files`."""
        os.link(
            source.name,
            target.name,
            src_dir_fd=self._at(source.folder),
            dst_dir_fd=self._at(target.folder),
            follow_symlinks=False,
        )

    def unlink(self, entry: Entry) -> None:
        """See `Files`."""
        try:
            os.unlink(entry.name, dir_fd=self._at(entry.folder))
        except FileNotFoundError:
            return

    def set_time(self, entry: Entry, seconds: float) -> None:
        """Its modification time (unix time)."""
        os.utime(entry.name, (seconds, seconds), dir_fd=self._at(entry.folder), follow_symlinks=False)

    def names(self) -> list[str]:
        """See `Files`; nothing is in a folder that is not there."""
        if self._folders[Folder.STATE] is None:
            return []
        return sorted(os.listdir(self._at(Folder.STATE)))  # noqa: PTH208 - a folder's descriptor, not its path

    def lock(self, entry: Entry, *, shared: bool = False, held: int | None = None) -> int | None:
        """See `Files`."""
        descriptor = held
        if descriptor is None:
            folder = self._at(entry.folder)
            descriptor = os.open(entry.name, os.O_CREAT | _READ, 0o600, dir_fd=folder)
        try:
            if held is None:
                give_to_owner_of(folder, descriptor)
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if held is None:
                os.close(descriptor)
            else:
                # A failed conversion may have dropped what was held (flock(2)).
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            return None
        except OSError:
            if held is None:
                os.close(descriptor)
            raise
        return descriptor

    def mark(self, fd: int, offset: int, *, on: bool = True) -> None:
        """See `Files`."""
        record_locks.mark(fd, offset, on=on)

    def marks(self, fd: int, first: int, after: int) -> dict[int, int]:
        """See `Files`."""
        return record_locks.marks(fd, first, after)


def give_to_owner_of(folder: int, descriptor: int) -> None:
    """What root made in a folder belongs to the folder's owner; nothing happens where we are not root."""
    if os.geteuid() != 0:
        return
    owner, found = os.fstat(folder), os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
        return  # a link that the service's user made, perhaps to a file of root's
    if (owner.st_uid, owner.st_gid) != (found.st_uid, found.st_gid):
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _attributes(fd: int) -> dict[str, bytes]:
    try:
        return {name: os.getxattr(fd, name) for name in os.listxattr(fd)}
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return {}
        raise


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
