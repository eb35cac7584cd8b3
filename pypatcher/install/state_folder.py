"""The two folders of an installation, opened for one transaction: the state folder only if nobody else can change it.

What is done in them is `Files`'s; here they are found, made and checked.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import Enum
from pathlib import Path
from typing import Protocol

from pypatcher.errors import CannotReplaceError
from pypatcher.install.files import Files, OsFiles, give_to_owner_of
from pypatcher.install.layout import Layout
from pypatcher.trusted_path import open_folder

__all__ = ["OpenFolders", "StateFolder", "open_folders"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class StateFolder(Enum):
    """What is wanted of the folder beside the program."""

    IGNORED = "only the program is looked at"
    IF_THERE = "opened where there is one"
    MADE = "made where there is none"


class OpenFolders(Protocol):
    """How a transaction gets its `Files`; `open_folders` is the real one."""

    def __call__(self, layout: Layout, wanted: StateFolder, /) -> AbstractContextManager[Files]:
        """The files of one transaction."""


@contextmanager
def open_folders(layout: Layout, wanted: StateFolder) -> Iterator[OsFiles]:
    """The real disk for one transaction.

    Raises:
        CannotReplaceError: the state folder belongs to somebody else, is a link, or others can use it.
        OSError: a folder cannot be opened.
    """
    try:
        program_folder = open_folder(layout.folder)
    except PermissionError:
        raise _no_permission(layout.folder, layout) from None
    try:
        state_folder = None if wanted is StateFolder.IGNORED else _open_state_folder(layout, program_folder, wanted)
        try:
            yield OsFiles(program_folder, state_folder)
        finally:
            if state_folder is not None:
                os.close(state_folder)
    finally:
        os.close(program_folder)


def _open_state_folder(layout: Layout, program_folder: int, wanted: StateFolder) -> int | None:
    path = layout.state_folder
    try:
        descriptor = _find_or_make(path.name, program_folder, wanted)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR}:
            raise CannotReplaceError(f"{path} is not a folder: remove it") from None
        if isinstance(error, PermissionError):
            raise _no_permission(path, layout) from None
        raise
    if descriptor is None:
        return None
    try:
        _check_state_folder(layout, descriptor, program_folder)
    except (OSError, CannotReplaceError):
        os.close(descriptor)
        raise
    return descriptor


def _no_permission(path: Path, layout: Layout) -> CannotReplaceError:
    return CannotReplaceError(
        f"user {os.geteuid()} cannot use {path}: be root or the service's user, to whom {layout.folder} must belong"
    )


def _find_or_make(name: str, program_folder: int, wanted: StateFolder) -> int | None:
    try:
        return os.open(name, _FOLDER, dir_fd=program_folder)
    except FileNotFoundError:
        if wanted is not StateFolder.MADE:
            return None
    os.mkdir(name, 0o700, dir_fd=program_folder)
    descriptor = os.open(name, _FOLDER, dir_fd=program_folder)
    give_to_owner_of(program_folder, descriptor)
    return descriptor


def _check_state_folder(layout: Layout, descriptor: int, program_folder: int) -> None:
    path, found, parent = layout.state_folder, os.fstat(descriptor), os.fstat(program_folder)
    user = os.geteuid()
    if found.st_uid not in {user, 0} and not (user == 0 and found.st_uid == parent.st_uid):
        raise CannotReplaceError(
            f"{path} belongs to user {found.st_uid}, not to this one ({user}): chown it or remove it"
        )
    if found.st_mode & 0o022:
        raise CannotReplaceError(f"others can write in {path}: check what is in it, then chmod 700 it")
    if found.st_mode & 0o077 and user in {found.st_uid, 0}:
        os.fchmod(descriptor, 0o700)
    if found.st_dev != parent.st_dev:
        raise CannotReplaceError(f"{path} is on another filesystem than the program: remove the mount")
