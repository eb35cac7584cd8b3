"""Paths that root may use: never one that a lesser user can make lead elsewhere.

A name is only as good as everybody who can change it: the owners of the folders on the way, whoever may write in them,
and the links that they put there. Everybody else uses paths as they are; root follows no link but its own, and keeps
the folder that it arrived at as a descriptor, so that nothing on the way can be changed under it afterwards. What is
then done in the folder, relative to the descriptor and without following links, touches that folder alone.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from pypatcher.errors import CannotReplaceError

__all__ = ["open_folder", "others_can_rename_in", "resolve", "who_else_controls"]

_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ACCESS_LIST = "system.posix_acl_access"
_LINKS = 40
"""As many links as the kernel follows in one path."""


def resolve(path: Path) -> Path:
    """The absolute path with its links followed; for root only those that nobody else can change.

    Another's link stays in the path that is returned, and nothing opens it: `open_folder` refuses it in a folder's
    path, and whoever opens the last name refuses links.
    """
    if os.geteuid() != 0:
        return Path(os.path.realpath(path))
    return _follow(_absolute(path))[0]


def open_folder(folder: Path) -> int:
    """A descriptor of a folder, as `resolve` named it; for root, reached without following any link.

    Raises:
        CannotReplaceError: for root, a link of another user's is on the way.
        OSError: it cannot be opened.
    """
    if os.geteuid() != 0:
        return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    here = os.open("/", _WALK)
    try:
        for name in folder.parts[1:]:
            try:
                below = os.open(name, _WALK, dir_fd=here)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.ENOTDIR) and _is_link(name, here):
                    raise CannotReplaceError(
                        f"{folder}: {name} is a link that another user can change, and root follows none: give the "
                        "path where the file really is"
                    ) from None
                raise
            os.close(here)
            here = below
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=here)
    finally:
        os.close(here)


def who_else_controls(path: Path) -> str:
    """Who besides root can put another file at ``path``, or change it: such as ``user 1000``; empty for nobody.

    Raises:
        OSError: the path cannot be looked at.
    """
    _, controller = _follow(_absolute(path))
    if not controller and path.exists():
        controller = _who(path, path.stat())
    return controller


def others_can_rename_in(folder: Path) -> bool:
    """Whether anybody but root and this user could rename what this user makes in a folder, or the folder itself.

    Raises:
        OSError: it cannot be looked at.
    """
    path = Path(os.path.realpath(folder))
    for each in (path, *path.parents):
        found = each.stat()
        if found.st_uid not in (0, os.geteuid()):
            return True
        writable = found.st_mode & stat.S_IWOTH or _group_that_writes(each, found)
        if writable and not found.st_mode & stat.S_ISVTX:
            return True
    return False


def _absolute(path: Path) -> Path:
    """With every '..' in its place: behind a link it does not lead back to where the link is."""
    return path if path.is_absolute() else Path.cwd() / path


def _follow(path: Path) -> tuple[Path, str]:
    """Follow root's own links; returns where that leads, and who else can change a name on the way."""
    # Slices, and not reversed(), on which Nuitka 4.3 fails.
    names, done, controller = list(path.parts[:0:-1]), Path("/"), ""
    left = _LINKS
    while names:
        name = names.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = done.parent
            continue
        folder = done.stat() if done.exists() else None
        found = _lstat(done / name)
        if folder is not None:
            controller = controller or _who_changes_entry(done, folder, found)
        if found is None or not stat.S_ISLNK(found.st_mode) or controller or not left:
            done /= name
            continue
        left -= 1
        target = os.readlink(done / name)  # noqa: PTH115 - a link's text, with its '..'
        names += target.split("/")[::-1]
        if target.startswith("/"):
            done = Path("/")
    return done, controller


def _who_changes_entry(path: Path, folder: os.stat_result, entry: os.stat_result | None) -> str:
    """Who besides root can make the name of ``entry`` in ``folder``, which is at ``path``, another file."""
    if folder.st_uid == 0 and folder.st_mode & stat.S_ISVTX:
        # Only the owner of what is there can rename or remove it.
        return f"user {entry.st_uid}" if entry is not None and entry.st_uid != 0 else ""
    return _who(path, folder)


def _who(path: Path, found: os.stat_result) -> str:
    if found.st_uid != 0:
        return f"user {found.st_uid}"
    if found.st_mode & stat.S_IWOTH:
        return "everybody"
    return _group_that_writes(path, found)


def _group_that_writes(path: Path, found: os.stat_result) -> str:
    """Who besides root's group may write by the group's bits; with an access list they stand for all whom it names."""
    if not found.st_mode & stat.S_IWGRP:
        return ""
    try:
        has_list = _ACCESS_LIST in os.listxattr(path)
    except OSError:
        has_list = False
    if has_list:
        return "whom its access list names"
    return f"group {found.st_gid}" if found.st_gid != 0 else ""


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except OSError:
        return None


def _is_link(name: str, folder: int) -> bool:
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False
