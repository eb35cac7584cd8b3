"""What files that are here hold of a release: cut once, for all peers that are asked for it.

Not here: which files (``Parts``), and the table of their chunks (``artifact.old_chunks``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pypatcher.artifact import PatchInfo, chunks
from pypatcher.artifact.chunks import PARAMETERS, Parameters, parameters_for
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.artifact.opened import Streams, open_file
from pypatcher.artifact.patch import MAX_FILE_SIZE
from pypatcher.errors import ArtifactError
from pypatcher.tasks import in_thread
from pypatcher.transfer.exchange import Sink

__all__ = ["Files", "OldFiles", "OldOpened", "is_cut_soon"]

Files = Sequence[tuple[int, int]]
"""Descriptors and sizes of open files."""
_PLAIN_LIMIT = 16 << 20
"""Bytes of a file that are cut without the compiled code: more would take a small device minutes."""


class OldFiles:
    """One node's; it knows those of one release."""

    def __init__(self) -> None:
        self._known: tuple[object, OldChunks] | None = None
        self._opened: tuple[object, OldOpened | None] | None = None

    async def look(self, info: PatchInfo, sink: Sink, opened: int | None = None) -> None:
        """Find it out before somebody is dialed, who waits for nobody that cuts a large file.

        Args:
            opened: the number of the parameters of its opened content's tree.
        """
        with sink.parts.old_files() as files:
            await self.chunks(info, files)
            if opened is not None:
                await self.opened(info, files, opened)

    async def chunks(self, info: PatchInfo, files: Files) -> OldChunks:
        """Their chunks; each file's number is its place in ``files``."""
        key = info.release_id, tuple(_what_it_is(fd) for fd, _ in files)
        if self._known is None or self._known[0] != key:
            self._known = key, await in_thread(partial(_cut, files, parameters_for(info.file_size)))
        return self._known[1]

    async def opened(self, info: PatchInfo, files: Files, parameters: int) -> OldOpened | None:
        """The opened content of the first of them, the program; None where it has none."""
        key = info.release_id, parameters, *(_what_it_is(fd) for fd, _ in files[:1])
        if self._opened is None or self._opened[0] != key:
            self._opened = key, await in_thread(partial(_open, files, PARAMETERS[parameters]))
        return self._opened[1]

    def forget(self) -> None:
        """The release is here."""
        self._known = self._opened = None


class OldOpened(NamedTuple):
    """The streams of the program, and the chunks of its opened content."""

    streams: Streams
    chunks: OldChunks


def is_cut_soon(size: int) -> bool:
    """Whether a file of that size is cut here at all."""
    return 0 < size <= (MAX_FILE_SIZE if chunks.COMPILED else _PLAIN_LIMIT)


def _what_it_is(fd: int) -> tuple[int, ...]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _cut(files: Files, parameters: Parameters) -> OldChunks:
    old = OldChunks(parameters)
    for number, (fd, size) in enumerate(files):
        if is_cut_soon(size):
            # What cannot be read, or changes meanwhile, is no source.
            with contextlib.suppress(ArtifactError, OSError):
                old.add(fd, size, number)
    return old


def _open(files: Files, parameters: Parameters) -> OldOpened | None:
    if not files or not is_cut_soon(files[0][1]):
        return None
    try:
        streams, tree = open_file(*files[0], parameters)
    except (ArtifactError, OSError):
        return None
    old = OldChunks(parameters)
    old.add_tree(tree, 0)
    return OldOpened(streams, old)
