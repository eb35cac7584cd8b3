"""A release on its way to ``staged``: the download, and what it becomes (install.md "Stage").

`Partial` is the file that a download is written to. It is nobody's program until `Installation.stage` has verified it
from its descriptor. Whether a release is wanted is decided in ``decide``.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pypatcher.errors import CannotReplaceError, SignatureMismatchError, StateError
from pypatcher.install.decide import check_stageable
from pypatcher.install.files import Files
from pypatcher.install.layout import Entry, Layout
from pypatcher.install.operations import Operations
from pypatcher.install.state_folder import OpenFolders, StateFolder
from pypatcher.install.transaction import Session
from pypatcher.install.trial import ProgramId

if TYPE_CHECKING:
    from pypatcher.artifact import VerifiedRelease

__all__ = ["Partial", "Partials", "place", "stage"]


class Partial:
    """A download in the state folder: new, mode 0600, gone unless it is staged.

    Use it as a context manager: what was not staged is discarded at its end.
    """

    def __init__(self, fd: int, files: Files, entry: Entry, path: Path, discard: Callable[[int], None]) -> None:
        self._fd = fd
        self._files = files
        self._discard = discard
        self._open = True
        self.entry = entry
        self.path = path

    @property
    def fd(self) -> int:
        """Its descriptor, for reading and, until it is sealed, for writing."""
        return self._fd

    @property
    def is_open(self) -> bool:
        """Whether it was neither staged nor discarded yet."""
        return self._open

    def write(self, data: bytes) -> None:
        """Append ``data``.

        Raises:
            OSError: the disk is full or broken.
        """
        self._files.write(self._fd, data)

    def close(self) -> None:
        """Give up the descriptor and leave the file, which has another name by now."""
        if self._open:
            self._open = False
            self._files.close(self._fd)

    def discard(self) -> None:
        """Remove the file. Once is enough, more does nothing."""
        if self._open:
            self._open = False
            self._discard(self._fd)

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Partials:
    """The downloads of one process: several may be under way, and none takes another's for a stale one."""

    def __init__(self, layout: Layout, folders: OpenFolders) -> None:
        self._layout = layout
        self._folders = folders
        self._lock = threading.Lock()
        self._open: list[Partial] = []

    def new(self) -> Partial:
        """An empty file; what an earlier process left is removed. Any thread may ask.

        Raises:
            CannotReplaceError: the state folder cannot be used.
            OSError: the disk is full or broken.
        """
        entry = self._layout.partial(secrets.token_hex(8))

        def discard(fd: int) -> None:
            with self._folders(self._layout, StateFolder.IF_THERE) as files:
                files.close(fd)
                files.unlink(entry)

        with self._lock, self._folders(self._layout, StateFolder.MADE) as files:
            self._open = [partial for partial in self._open if partial.is_open]
            Operations(files, self._layout).remove_stale_partials([partial.entry.name for partial in self._open])
            partial = Partial(files.create(entry), files, entry, self._layout.path(entry), discard)
            self._open.append(partial)
        return partial


def stage(session: Session, partial: Partial, release: VerifiedRelease) -> None:
    """Give a download that was verified, and synced, the name ``staged``; see `Installation.stage`.

    Where the owner's word forbids it by now it waits, for it may be allowed again.
    """
    if not session.may_stay_staged(release.info, release.sha512):
        session.operations.keep_waiting(partial.entry)
        partial.close()
    elif place(session, partial.entry, release):
        partial.close()


def place(session: Session, entry: Entry, release: VerifiedRelease) -> bool:
    """Give a file in the state folder that name, if this device wants it and does not have it there already.

    Raises:
        As `Installation.stage`.
    """
    session.operations.begin()
    state = session.operations.read_state()
    program = session.examine(session.layout.target)
    if program.id is None:
        raise CannotReplaceError(f"{session.layout.program} cannot be updated: {program.reason}")
    if release.rank > program.rank:
        raise SignatureMismatchError(f"version {release.info.version} is signed by a key that was replaced")
    staged = session.examine(session.layout.staged).id
    offered = ProgramId(release.sha512, release.info.version)
    check_stageable(offered, program.id.version, state, staged)
    if staged is not None and staged.sha512 == offered.sha512:
        return False
    trial = None if state is None else state.trial
    if staged is not None and trial is not None and trial.idle and trial.program.sha512 == staged.sha512:
        raise StateError(f"version {staged.version} is being activated: the next start finishes that first")
    session.operations.place_partial(entry)
    return True
