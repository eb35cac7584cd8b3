"""Whether a release could be installed here at all: asked before a download, answered with one clear line.

design.md "Staging, activating, restarting, going back", last point: writable, room, no overlay, tmpfs or ramfs (an
update would be lost at the next boot), no setuid, no folder that others than root and the service's user can write,
and owner, mode and extended attributes that can be kept. The kind of filesystem comes from a probe that is passed in.
All that it may make is the state folder and a probe file in it. Nothing is known of releases here.
"""

from __future__ import annotations

import array
import errno
import fcntl
import grp
import os
import pwd
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pypatcher.errors import CannotReplaceError
from pypatcher.install.files import Files
from pypatcher.install.layout import Layout
from pypatcher.install.state_folder import OpenFolders, StateFolder

__all__ = ["FilesystemType", "Preflight", "filesystem_type"]

FilesystemType = Callable[[Path], str]
"""Tells the type of the filesystem that a folder is on, such as ``ext4``; empty when it cannot be told."""

_VOLATILE = {"overlay", "aufs", "tmpfs", "ramfs", "rootfs", "unionfs", "fuse.fuse-overlayfs", "fuse.unionfs"}
_MARGIN = 1 << 20
_FREE_INODES = 8
_GET_FLAGS = 2 << 30 | struct.calcsize("l") << 16 | ord("f") << 8 | 1
"""FS_IOC_GETFLAGS of ioctl_iflags(2)."""
_IMMUTABLE, _APPEND_ONLY = 0x10, 0x20
_UNKEEPABLE = {"security.ima", "security.evm"}


def filesystem_type(folder: Path) -> str:
    """The type of the filesystem that ``folder`` is on, from ``/proc/self/mountinfo`` (proc(5)); empty if unknown."""
    mounts = _mounts()
    path = os.path.realpath(folder)
    best = ("", "")
    for point, kind in mounts:
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best[0]):
            best = (point, kind)
    return best[1]


def _mounts() -> list[tuple[str, str]]:
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    mounts = []
    for line in lines:
        before, separator, after = line.partition(" - ")
        if separator and len(fields := before.split(" ")) > 4:
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            mounts.append((point, after.split(" ")[0]))
    return mounts


@dataclass(frozen=True, slots=True)
class Preflight:
    """The checks for one installation.

    Attributes:
        layout: where it lives.
        folders: how to open it.
        kind: the probe for the filesystem's type.
    """

    layout: Layout
    folders: OpenFolders
    kind: FilesystemType = filesystem_type

    def check(
        self,
        size: int,
        allow_volatile: bool,
        *,
        change_nothing: bool = False,
        for_owner: bool = False,
        left: Callable[[], int] = lambda: 0,
    ) -> None:
        """Check everything for a release whose file has ``size`` bytes.

        Args:
            allow_volatile: install on an overlay, tmpfs or ramfs too, where updates are lost at the next boot.
            change_nothing: make no state folder; without one, what can only be tried in it is taken for possible.
            left: bytes on disk that a download takes over, or that are removed when it begins.
            for_owner: root asks for the user to whom the folder belongs, as a person who helps out.

        Raises:
            CannotReplaceError: it could not be installed; one line says why and what would help.
        """
        user = os.geteuid()
        if for_owner and user == 0:
            user = self.layout.folder.stat().st_uid
        program = self._check_program(user)
        self._check_folder(user)
        self._check_filesystem(allow_volatile)
        needed = size + _MARGIN
        try:
            if not change_nothing or self.layout.state_folder.exists():
                with self.folders(self.layout, StateFolder.MADE) as files:
                    self._check_attributes(files)
                    needed += 0 if self._can_link(files) else program.st_size
            self._check_room(needed - left())
        except OSError as error:
            raise CannotReplaceError(
                f"cannot write beside {self.layout.program} as user {os.geteuid()}: {error.strerror}"
            ) from None

    def _check_program(self, user: int) -> os.stat_result:
        path = self.layout.program
        try:
            program = path.lstat()
        except OSError as error:
            raise CannotReplaceError(f"{path}: {error.strerror}") from None
        if not stat.S_ISREG(program.st_mode):
            raise CannotReplaceError(f"{path} is not a regular file: give the path of the program's file itself")
        if program.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise CannotReplaceError(f"{path} is setuid or setgid, and such programs are never replaced: chmod ug-s")
        if str(path) in {point for point, _ in _mounts()}:
            raise CannotReplaceError(f"{path} is a mount point of its own: mount its folder instead")
        _check_writers(path, program, user)
        _check_flags(path)
        return program

    def _check_folder(self, user: int) -> None:
        folder = self.layout.folder
        _check_writers(folder, folder.stat(), user)
        _check_flags(folder)
        if os.statvfs(folder).f_flag & os.ST_RDONLY:
            raise CannotReplaceError(f"{folder} is on a filesystem that is mounted read-only")
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            raise CannotReplaceError(f"user {os.geteuid()} cannot write in {folder}: chown it to the service's user")

    def _check_filesystem(self, allow_volatile: bool) -> None:
        kind = self.kind(self.layout.folder)
        if kind in _VOLATILE and not allow_volatile:
            raise CannotReplaceError(
                f"{self.layout.folder} is on {kind}, so an update would be lost at the next boot: put the program on "
                f"a disk, or allow volatile filesystems if that is what you want"
            )

    def _check_attributes(self, files: Files) -> None:
        """Try them on a new file beside the program: nothing else tells what this user may set here."""
        path, probe = self.layout.program, self.layout.partial("probe")
        unkeepable = _UNKEEPABLE.intersection(_attribute_names(path))
        if unkeepable:
            raise CannotReplaceError(f"{path} has {', '.join(sorted(unkeepable))}, which fits this one file alone")
        files.unlink(probe)
        source = files.open(self.layout.target)
        try:
            target = files.create(probe)
            try:
                files.copy_attributes(source, target)
            except OSError as error:
                names = ", ".join(_attribute_names(path)) or "none"
                raise CannotReplaceError(
                    f"owner, mode or extended attributes of {path} cannot be kept by user {os.geteuid()}: "
                    f"{error.strerror} (its attributes: {names})"
                ) from None
            finally:
                files.close(target)
                files.unlink(probe)
        finally:
            files.close(source)

    def _can_link(self, files: Files) -> bool:
        probe = self.layout.partial("link")
        files.unlink(probe)
        try:
            files.link(self.layout.target, probe)
        except OSError:
            return False
        files.unlink(probe)
        return True

    def _check_room(self, needed: int) -> None:
        room = os.statvfs(self.layout.folder)
        free = room.f_bavail * room.f_frsize
        if free < needed:
            raise CannotReplaceError(
                f"{self.layout.folder} has {free >> 10} KiB free and the update needs {-(-needed >> 10)} KiB"
            )
        if room.f_files and room.f_favail < _FREE_INODES:
            raise CannotReplaceError(f"{self.layout.folder} has no free inodes")


def _check_writers(path: Path, found: os.stat_result, user: int) -> None:
    if found.st_uid not in {user, 0}:
        raise CannotReplaceError(f"{path} belongs to user {found.st_uid}, who could change it: chown it to {user}")
    if found.st_mode & stat.S_IWOTH:
        raise CannotReplaceError(f"everybody can write to {path}: chmod o-w it")
    if found.st_mode & stat.S_IWGRP and not _private_group(path, found.st_gid, {user, found.st_uid, 0}):
        raise CannotReplaceError(f"group {found.st_gid} can write to {path}: chmod g-w it")


def _private_group(path: Path, gid: int, users: set[int]) -> bool:
    """Whether a group is a user's own (Debian's user private groups) and no access list lets others in."""
    if "system.posix_acl_access" in _attribute_names(path):
        return False
    try:
        group = grp.getgrgid(gid)
        members = {pwd.getpwnam(name).pw_uid for name in group.gr_mem}
        return pwd.getpwnam(group.gr_name).pw_uid in users and members <= users
    except KeyError:
        return False


def _attribute_names(path: Path) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []


def _check_flags(path: Path) -> None:
    """Refuse what ``chattr`` protects; filesystems without such flags have nothing to say."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CannotReplaceError(f"cannot read {path}: {error.strerror}") from None
    try:
        flags = array.array("l", [0])
        fcntl.ioctl(fd, _GET_FLAGS, flags, True)
    except OSError as error:
        if error.errno in {errno.ENOTTY, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.EPERM}:
            return
        raise CannotReplaceError(f"cannot read {path}: {error.strerror}") from None
    finally:
        os.close(fd)
    if flags[0] & (_IMMUTABLE | _APPEND_ONLY):
        raise CannotReplaceError(f"{path} is immutable or append-only: chattr -ia it")
