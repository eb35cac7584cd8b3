"""The downloads of a device on its disk: those under way, and what an earlier process left of one (install.md "Stage").

`Partial` is the file that a download is written to. It is nobody's program until it was verified and staged
(``staging``). Nothing that is in one that was left is believed.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import threading
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from pypatcher.errors import PatcherError, VersionError
from pypatcher.install.file_stat import FileStat
from pypatcher.install.files import Files
from pypatcher.install.layout import PARTIAL_PREFIX, Entry, Folder, Layout
from pypatcher.install.operations import Operations
from pypatcher.install.state_folder import OpenFolders, StateFolder
from pypatcher.version import Version

if TYPE_CHECKING:
    from pypatcher.artifact import PatchInfo

__all__ = ["Partial", "Partials", "name_start"]

_ID_DIGITS = 32
_BEHIND = 1 << 20
"""Bytes that may be behind a file that is fetched: nodes of its tree."""
_NONE = Version(0, 0, 0)


class Partial:
    """A download in the state folder: mode 0600, gone unless it is staged, or left for a later one to go on with.

    Use it as a context manager: what was not staged is discarded at its end.
    """

    def __init__(self, fd: int, files: Files, entry: Entry, layout: Layout, folders: OpenFolders) -> None:
        self._fd = fd
        self._files = files
        self._layout = layout
        self._folders = folders
        self._open = True
        self.entry = entry
        self.path = layout.path(entry)

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

    def read(self, size: int, offset: int) -> bytes:
        """``size`` bytes from ``offset`` on, fewer at its end.

        Raises:
            OSError: the disk is broken.
        """
        return self._files.read(self._fd, size, offset)

    def write_part(self, data: bytes, offset: int) -> None:
        """Write ``data`` where it belongs.

        Raises:
            OSError: the disk is full or broken.
        """
        self._files.write_part(self._fd, data, offset)

    def cut(self, size: int) -> None:
        """Nothing is behind the first ``size`` bytes any more.

        Raises:
            OSError: the disk is broken.
        """
        if self.size > size:
            self._files.truncate(self._fd, size)

    def copy_part(self, source: int, start: int, offset: int, size: int) -> None:
        """``size`` bytes of an open file from ``start`` on, to where they belong.

        Raises:
            OSError: the disk is full or broken.
        """
        self._files.copy_part(source, start, self._fd, offset, size)

    @contextlib.contextmanager
    def old_files(self) -> Iterator[Sequence[tuple[int, int]]]:
        """What is beside the program, and the program: descriptors and sizes, whatever they hold."""
        layout, found = self._layout, dict[int, tuple[int, int]]()
        try:
            with contextlib.suppress(PatcherError, OSError), self._folders(layout, StateFolder.IF_THERE) as files:
                for entry in (layout.target, layout.previous, layout.staged, layout.waiting):
                    with contextlib.suppress(OSError):
                        fd = files.open(entry)
                        what = files.fstat(fd)
                        if not what.regular or what.inode in found:
                            files.close(fd)
                        else:
                            found[what.inode] = fd, what.size
            yield list(found.values())
        finally:
            for fd, _ in found.values():
                self._files.close(fd)

    def open_again(self) -> int:
        """A descriptor for reading alone, for who gives parts of it to others.

        Raises:
            OSError: another file has its name now.
        """
        with self._folders(self._layout, StateFolder.IF_THERE) as files:
            fd = files.open(self.entry)
            if files.fstat(fd).inode != files.fstat(self._fd).inode:
                files.close(fd)
                raise FileNotFoundError(errno.ENOENT, "a download was moved away", self.entry.name)
            return fd

    @property
    def size(self) -> int:
        """Bytes that are there; of one that goes on, whatever they are.

        Raises:
            OSError: the disk is broken.
        """
        return self._files.fstat(self._fd).size

    def sync(self) -> None:
        """What was written outlives a power cut.

        Raises:
            OSError: the disk is full or broken.
        """
        self._files.sync(self._fd)

    def close(self) -> None:
        """Give up the descriptor and leave the file: it has another name by now, or a later download goes on."""
        if self._open:
            self._open = False
            self._files.close(self._fd)

    def leave(self) -> None:
        """See `close`; an empty one is of no use to anybody."""
        if self._open and not self.size:
            self.discard()
        self.close()

    def discard(self) -> None:
        """Remove the file. Once is enough, more does nothing."""
        if self._open:
            self._open = False
            with self._folders(self._layout, StateFolder.IF_THERE) as files:
                files.close(self._fd)
                files.unlink(self.entry)

    def __enter__(self) -> Partial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


class Partials:
    """The downloads of one process: several may be under way, and none takes another's for a stale one.

    What an earlier one left stays until another begins: the largest one of the same release goes on, all else goes.
    """

    def __init__(self, layout: Layout, folders: OpenFolders) -> None:
        self._layout = layout
        self._folders = folders
        self._lock = threading.Lock()
        self._open: list[Partial] = []

    def new(self, info: PatchInfo | None = None) -> Partial:
        """A file for that release, with what an earlier download of it left, or an empty one. Any thread may ask.

        Raises:
            CannotReplaceError: the state folder cannot be used.
            OSError: the disk is full or broken.
        """
        start = "" if info is None else name_start(info)
        with self._lock, self._folders(self._layout, StateFolder.MADE) as files:
            left = self._left(files)
            found = None if info is None else self._go_on(files, left, start, info.file_size + _BEHIND)
            under_way = [partial.entry.name for partial in self._open]
            Operations(files, self._layout).remove_stale_partials([*under_way, *([found[0].name] if found else ())])
            entry = self._layout.partial(start + secrets.token_hex(8))
            entry, fd = found or (entry, files.create(entry))
            partial = Partial(fd, files, entry, self._layout, self._folders)
            self._open.append(partial)
        return partial

    def left_bytes(self) -> int:
        """Bytes on disk of what is left, all of which the next download takes over or removes."""
        with self._lock, self._folders(self._layout, StateFolder.IF_THERE) as files:
            return sum(found.size_on_disk for found in self._left(files).values())

    def tidy(self, staged: Version | None = None) -> None:
        """Remove what is left of releases that are not newer than what was staged, or ever confirmed here, and what is
        a program under another name.

        No failure of that matters.
        """
        with (
            contextlib.suppress(PatcherError, OSError),
            self._lock,
            self._folders(self._layout, StateFolder.IF_THERE) as files,
        ):
            state = Operations(files, self._layout).read_state()
            newest = max(staged or _NONE, _NONE if state is None else state.newest)
            programs = self._programs(files)
            for name, what in self._left(files).items():
                if _version_of(name) <= newest or what.inode in programs:
                    files.unlink(Entry(Folder.STATE, name))

    def _left(self, files: Files) -> dict[str, FileStat]:
        """What is not under way in this process."""
        self._open = [partial for partial in self._open if partial.is_open]
        under_way = {partial.entry.name for partial in self._open}
        names = [name for name in files.names() if name.startswith(PARTIAL_PREFIX) and name not in under_way]
        found = {name: files.stat(Entry(Folder.STATE, name)) for name in names}
        return {name: what for name, what in found.items() if what is not None}

    def _go_on(self, files: Files, left: dict[str, FileStat], start: str, most: int) -> tuple[Entry, int] | None:
        """The largest on disk that is left of a release, opened: a few bytes that came later take nothing away.

        The folders are synced in between, or a cut gives the program's name back to what is written from now on.
        """
        programs = self._programs(files)
        found = {
            name: what
            for name, what in left.items()
            if name.startswith(PARTIAL_PREFIX + start) and what.inode not in programs
        }
        for name in sorted(found, key=lambda name: (found[name].size_on_disk, found[name].mtime_ns))[-1:]:
            with contextlib.suppress(OSError):
                files.sync_folder(Folder.STATE)
                files.sync_folder(Folder.PROGRAM)
                entry = Entry(Folder.STATE, name)
                return (entry, files.reopen(entry)) if found[name].size <= most else None
        return None

    def _programs(self, files: Files) -> set[int]:
        """Inodes that no download may have: one that a cut hit in the midst of a rename may have both names."""
        layout = self._layout
        entries = (layout.target, layout.staged, layout.waiting, layout.previous, layout.previous_new, layout.by_hand)
        return {what.inode for entry in entries if (what := files.stat(entry)) is not None}


def name_start(info: PatchInfo) -> str:
    """With what the name of a release's download begins, behind what all names do."""
    return f"{info.version}-{info.release_id.hex()[:_ID_DIGITS]}-"


def _version_of(name: str) -> Version:
    """Of the release that a partial download is of; 0.0.0 where its name does not tell."""
    try:
        return Version.parse(name.removeprefix(PARTIAL_PREFIX).partition("-")[0])
    except VersionError:
        return _NONE
