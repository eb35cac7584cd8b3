"""A file system in memory that forgets what a power cut forgets: the other `Files` for the code of ``install/``.

What is written is visible at once and durable only after the right fsync. A cut keeps any subset, in order, of the
folder operations that were not synced, and leaves a file that was not synced old, new or torn. A rename between two
folders is one operation, of which a cut may keep both halves, none, or the new name alone, never the removal alone:
so an fsync of the folder that lost the name makes that durable only when the new name is (as with soft updates).
A kill keeps everything visible. Before every operation that changes something the disk notes what it looks like, so
that one run gives every point at which it could have been interrupted, and which operations need room.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

from pypatcher.install.file_stat import FileStat
from pypatcher.install.layout import PARTIAL_PREFIX, Entry, Folder, Layout
from pypatcher.install.state_folder import StateFolder

__all__ = ["TORN", "FolderOperation", "Image", "SimDisk", "cut_images"]

TORN = b"\x7ftorn"
"""Content of a file of which a part reached the disk."""

_REGULAR = 0o100755
_MOST_COMBINATIONS = 1024


class FolderOperation(NamedTuple):
    """A change of names that is visible and not yet durable; a half that is durable is marked."""

    added: str | None
    inode: int
    removed: str | None
    added_durable: bool
    removed_durable: bool


class Image:
    """A disk at rest, in canonical form: inodes are numbered as they are first named. It knows its hash.

    ``inodes`` holds (visible content, durable content); ``names`` and ``durable`` are (name, inode).
    """

    __slots__ = ("_hash", "durable", "inodes", "names", "pending")

    def __init__(
        self,
        names: tuple[tuple[str, int], ...],
        durable: tuple[tuple[str, int], ...],
        pending: tuple[FolderOperation, ...],
        inodes: tuple[tuple[bytes, bytes], ...],
    ) -> None:
        self.names, self.durable, self.pending, self.inodes = names, durable, pending, inodes
        self._hash = hash((names, durable, pending, inodes))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Image) or self._hash != other._hash:
            return False
        return self._all() == other._all()

    def _all(self) -> tuple[object, ...]:
        return self.names, self.durable, self.pending, self.inodes

    def visible(self) -> dict[str, bytes]:
        """What is there to see."""
        return {name: self.inodes[inode][0] for name, inode in self.names}

    def content(self, name: str) -> bytes | None:
        """The visible content of a file."""
        for known, inode in self.names:
            if known == name:
                return self.inodes[inode][0]
        return None


def _folder(name: str) -> Folder:
    return Folder.PROGRAM if name == "P" else Folder.STATE


class SimDisk:
    """One installation's two folders. Names are those of its layout, the program is ``P``."""

    def __init__(self, image: Image | None = None) -> None:
        self.visible: dict[str, int] = {}
        self.durable: dict[str, int] = {}
        self.pending: list[FolderOperation] = []
        self.visible_content: dict[int, bytes] = {}
        self.durable_content: dict[int, bytes] = {}
        self.changes: dict[int, int] = {}
        self.images: list[Image] = []
        self.writes: list[int] = []
        self.syncs: set[str] = set()
        self.without_sync: str | None = None
        self.full_from: int | None = None
        self.after_begin: Callable[[], None] | None = None
        self.before_operation: Callable[[int], None] | None = None
        self.others_run = False
        self.partial_is_of = ""
        """What the name of a download begins with: whatever it is of, the next one goes on with it."""
        self.links = True
        self._operations = 0
        self._next_inode = 1000
        self._open: dict[int, int] = {}
        self._positions: dict[int, int] = {}
        if image is not None:
            self.visible = dict(image.names)
            self.durable = dict(image.durable)
            self.pending = list(image.pending)
            for inode, (visible, durable) in enumerate(image.inodes):
                self.visible_content[inode], self.durable_content[inode] = visible, durable

    @contextmanager
    def folders(self, layout: Layout, wanted: StateFolder, /) -> Iterator[SimDisk]:
        """`OpenFolders` for this disk."""
        yield self

    def image(self) -> Image:
        """The disk as it is now."""
        numbers: dict[int, int] = {}

        def number(inode: int) -> int:
            return numbers.setdefault(inode, len(numbers))

        names = tuple((name, number(inode)) for name, inode in sorted(self.visible.items()))
        durable = tuple((name, number(inode)) for name, inode in sorted(self.durable.items()))
        pending = tuple(
            operation if operation.added is None else operation._replace(inode=number(operation.inode))
            for operation in self.pending
        )
        inodes = tuple((self.visible_content[inode], self.durable_content[inode]) for inode in numbers)
        return Image(names, durable, pending, inodes)

    def put(self, name: str, data: bytes) -> None:
        """A person's mv: complete content under the name, the folder not synced."""
        inode = self._new_inode(data, data)
        self._rename_in(name, inode, None)

    def overwrite(self, name: str, data: bytes) -> None:
        """Somebody writes into the file that has the name, as scp does; a part of it reached the disk."""
        inode = self.visible[name]
        self.visible_content[inode], self.durable_content[inode] = data, TORN
        self.changes[inode] = self.changes.get(inode, 0) + 1

    def content(self, fd: int) -> bytes:
        """What an open file holds."""
        return self.visible_content[self._open[fd]]

    def stat(self, entry: Entry) -> FileStat | None:
        """See `Files`."""
        inode = self.visible.get(_name(entry))
        return None if inode is None else self._stat(inode)

    def open(self, entry: Entry) -> int:
        """See `Files`."""
        if entry.name == "trial.json" and self.after_begin is not None and sys._getframe(1).f_code.co_name != "_sync":
            then, self.after_begin = self.after_begin, None
            then()
        inode = self.visible.get(_name(entry))
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", entry.name)
        return self._descriptor(inode)

    def create(self, entry: Entry) -> int:
        """See `Files`."""
        self._about_to_change(needs_room=True)
        name = _name(entry)
        if name in self.visible:
            raise FileExistsError(errno.EEXIST, "file exists", entry.name)
        inode = self._new_inode(b"", b"")
        self._rename_in(name, inode, None)
        return self._descriptor(inode)

    def reopen(self, entry: Entry) -> int:
        """See `Files`."""
        return self.open(entry)

    def fstat(self, fd: int) -> FileStat:
        """See `Files`."""
        return self._stat(self._open[fd])

    def read(self, fd: int, limit: int, offset: int = 0) -> bytes:
        """See `Files`."""
        return self.content(fd)[offset : offset + limit]

    def write(self, fd: int, data: bytes) -> None:
        """See `Files`; a disk that fills up takes the first half."""
        inode = self._open[fd]
        try:
            self._about_to_change(needs_room=True)
        except OSError:
            data = data[: len(data) // 2]
            raise
        finally:
            before, at = self.visible_content[inode], self._positions[fd]
            self.visible_content[inode] = before[:at] + data + before[at + len(data) :]
            self._positions[fd] += len(data)
            self.changes[inode] = self.changes.get(inode, 0) + 1

    def write_part(self, fd: int, data: bytes, offset: int) -> None:
        """See `Files`; a disk that fills up takes the first half."""
        inode = self._open[fd]
        try:
            self._about_to_change(needs_room=True)
        except OSError:
            data = data[: len(data) // 2]
            raise
        finally:
            before = self.visible_content[inode]
            self.visible_content[inode] = before[:offset].ljust(offset, b"\0") + data + before[offset + len(data) :]
            self.changes[inode] = self.changes.get(inode, 0) + 1

    def truncate(self, fd: int, size: int) -> None:
        """See `Files`."""
        self._about_to_change()
        inode = self._open[fd]
        self.visible_content[inode] = self.visible_content[inode][:size]
        self.changes[inode] = self.changes.get(inode, 0) + 1

    def copy(self, source: int, target: int) -> None:
        """See `Files`."""
        self.write(target, self.content(source))

    def copy_part(self, source: int, start: int, target: int, offset: int, size: int) -> None:
        """See `Files`."""
        self.write_part(target, self.content(source)[start : start + size], offset)

    def seal(self, fd: int, entry: Entry) -> None:
        """See `Files`; who has a file open is no part of the model."""

    def copy_attributes(self, source: int, target: int) -> None:
        """See `Files`; attributes are no part of the model."""

    def make_executable(self, fd: int) -> None:
        """See `Files`; modes are no part of the model."""

    def sync(self, fd: int) -> None:
        """See `Files`."""
        inode = self._open[fd]
        if self._synced(lambda: next((name for name, known in self.visible.items() if known == inode), "?")):
            self._about_to_change()
            self.durable_content[inode] = self.visible_content[inode]

    def close(self, fd: int) -> None:
        """See `Files`."""
        self._open.pop(fd, None)

    def sync_folder(self, folder: Folder) -> None:
        """See `Files`."""
        if not self._synced(lambda: folder.value):
            return
        self._about_to_change()
        self.pending = [_synced(operation, folder) for operation in self.pending]
        while self.pending and self.pending[0].added_durable and self.pending[0].removed_durable:
            _apply(self.durable, self.pending.pop(0), removal=True)

    def rename(self, source: Entry, target: Entry) -> None:
        """See `Files`."""
        self._about_to_change()
        inode = self.visible.get(_name(source))
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", source.name)
        if self.visible.get(_name(target)) != inode:
            self._rename_in(_name(target), inode, _name(source))

    def link(self, source: Entry, target: Entry) -> None:
        """See `Files`."""
        self._about_to_change(needs_room=True)
        if not self.links:
            raise OSError(errno.EPERM, "no hard links here")
        self._rename_in(_name(target), self.visible[_name(source)], None)

    def unlink(self, entry: Entry) -> None:
        """See `Files`."""
        if _name(entry) in self.visible:
            self._about_to_change()
            del self.visible[_name(entry)]
            self.pending.append(FolderOperation(None, 0, _name(entry), True, False))

    def names(self) -> list[str]:
        """See `Files`."""
        return [
            PARTIAL_PREFIX + self.partial_is_of + "0" if name == "partial" else name
            for name in self.visible
            if name != "P"
        ]

    def lock(self, entry: Entry, *, shared: bool = False, held: int | None = None) -> int | None:
        """See `Files`; only other processes of the program are modelled."""
        return None if entry.name == "instances" and not shared and self.others_run else -1

    def mark(self, fd: int, offset: int, *, on: bool = True) -> None:
        """See `Files`; nobody waits for another here."""

    def marks(self, fd: int, first: int, after: int) -> dict[int, int]:
        """See `Files`."""
        return {}

    def _stat(self, inode: int) -> FileStat:
        size, time = len(self.visible_content[inode]), self.changes.get(inode, 0)
        return FileStat(1, inode, size, time, time, _REGULAR)

    def _descriptor(self, inode: int) -> int:
        fd = len(self._positions) + 3
        self._positions[fd] = 0
        self._open[fd] = inode
        return fd

    def _new_inode(self, visible: bytes, durable: bytes) -> int:
        inode, self._next_inode = self._next_inode, self._next_inode + 1
        self.visible_content[inode], self.durable_content[inode] = visible, durable
        return inode

    def _rename_in(self, name: str, inode: int, source: str | None) -> None:
        if source is not None:
            del self.visible[source]
        self.visible[name] = inode
        self.pending.append(FolderOperation(name, inode, source, False, source is None))

    def _about_to_change(self, *, needs_room: bool = False) -> None:
        self.images.append(self.image())
        self._operations += 1
        if needs_room:
            self.writes.append(self._operations)
        if self.before_operation is not None:
            self.before_operation(self._operations)
        if needs_room and self.full_from is not None and self._operations >= self.full_from:
            raise OSError(errno.ENOSPC, "no space left on device")

    def _synced(self, what: Callable[[], str]) -> bool:
        """Note which fsync of the code under test this is, and whether it was taken away."""
        frame = sys._getframe(2)
        while frame.f_code.co_name in {"_sync", "_replace"} and frame.f_back is not None:
            frame = frame.f_back
        site = f"{frame.f_code.co_name}: fsync {what()}"
        self.syncs.add(site)
        return site != self.without_sync


@lru_cache(maxsize=1 << 16)
def cut_images(image: Image) -> tuple[Image, ...]:
    """Every disk that a power cut can leave; all of it is durable."""
    return tuple(dict.fromkeys(_cut_images(image)))


def _cut_images(image: Image) -> Iterator[Image]:
    choices: list[tuple[int, ...]] = [
        tuple(kept for kept in (0, 1, 2) if _can_keep(operation, kept)) for operation in image.pending
    ]
    for kept in _combinations(choices):
        names = dict(image.durable)
        for operation, much in zip(image.pending, kept, strict=True):
            if much:
                _apply(names, operation, removal=much == 2)
        yield from _contents(image, tuple(sorted(names.items())))


def _combinations(choices: list[tuple[int, ...]]) -> Iterable[tuple[int, ...]]:
    """Every combination; where there are too many: all, none, and all but one."""
    if prod(len(choice) for choice in choices) <= _MOST_COMBINATIONS:
        return product(*choices)
    everything = tuple(choice[-1] for choice in choices)
    one_lost = ((*everything[:place], choice[0], *everything[place + 1 :]) for place, choice in enumerate(choices))
    return (everything, tuple(choice[0] for choice in choices), *one_lost)


def _can_keep(operation: FolderOperation, kept: int) -> bool:
    """Whether a cut may keep 0: nothing, 1: the new name alone, 2: all of an operation."""
    if operation.added is None or operation.removed is None:
        return kept == 2 or (kept == 0 and not (operation.added_durable and operation.removed_durable))
    if operation.added_durable:
        return kept == 2 or (kept == 1 and not operation.removed_durable)
    return True


def _contents(image: Image, names: tuple[tuple[str, int], ...]) -> Iterator[Image]:
    numbers: dict[int, int] = {}
    for _, inode in names:
        numbers.setdefault(inode, len(numbers))
    choices = []
    for inode in numbers:
        visible, durable = image.inodes[inode]
        choices.append((visible,) if visible == durable else (visible, durable, TORN))
    named = tuple((name, numbers[inode]) for name, inode in names)
    for contents in product(*choices):
        yield Image(named, named, (), tuple((content, content) for content in contents))


def _apply(names: dict[str, int], operation: FolderOperation, *, removal: bool) -> None:
    if operation.added is not None:
        names[operation.added] = operation.inode
    if removal and operation.removed is not None:
        names.pop(operation.removed, None)


def _synced(operation: FolderOperation, folder: Folder) -> FolderOperation:
    added = operation.added_durable or operation.added is None or _folder(operation.added) is folder
    removed = operation.removed_durable or (
        added and operation.removed is not None and _folder(operation.removed) is folder
    )
    return operation._replace(added_durable=added, removed_durable=removed)


def _name(entry: Entry) -> str:
    if entry.folder is Folder.PROGRAM:
        return "P"
    return "partial" if entry.name.startswith(PARTIAL_PREFIX) else entry.name
