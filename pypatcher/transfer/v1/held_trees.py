"""The trees of the releases that a node holds, each built once, when somebody asks for it; and their opened content.

protocol.md "The chunk tree", "Opened streams". Not here: who may ask for how much (``giving``).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from pypatcher.artifact import PatchInfo, chunks
from pypatcher.artifact.chunks import PARAMETERS
from pypatcher.artifact.opened import Content, Streams, open_file
from pypatcher.artifact.tree import Tree, build_tree
from pypatcher.errors import ArtifactError, PatcherError
from pypatcher.install.local_release import LocalRelease
from pypatcher.regular_file import open_regular
from pypatcher.tasks import in_thread
from pypatcher.transfer.giving import OpenRelease
from pypatcher.transfer.shelf import Shelf

__all__ = ["HeldOpened", "HeldTrees", "OpenContent"]

_PLAIN_LIMIT = 16 << 20
"""Bytes of a file that is cut without the compiled cuts: a stranger's question would cost a small device minutes."""
_PATIENCE = 5.0
"""Seconds for which who asks waits until a file is opened; later it is told that there is nothing."""
_Result = TypeVar("_Result")


class HeldOpened(NamedTuple):
    """The opened content of a release: its bytes, the nodes of its tree by id, the root's, and the streams."""

    size: int
    nodes: Mapping[bytes, bytes]
    root: bytes
    streams: Streams


class HeldTrees:
    """Those of one node.

    Args:
        opened_root: as the owner states it of a release; where he does not, nothing is opened.
    """

    def __init__(self, shelf: Shelf, opened_root: Callable[[PatchInfo], bytes | None]) -> None:
        self._shelf, self._opened_root = shelf, opened_root
        self._building: dict[tuple[bytes, bytes], asyncio.Task[Any]] = {}

    async def plain(self, held: LocalRelease) -> Tree | None:
        """The tree of a file; None where this node cuts none as large.

        Raises:
            PatcherError, OSError: the file cannot be read, or was changed.
        """
        return await self._once(held, b"", partial(_build, held)) if _is_cut(held) else None

    async def opened(self, held: LocalRelease, parameters: int) -> HeldOpened | None:
        """Its opened content; None where it has none under the owner's root, or not yet.

        Raises:
            PatcherError, OSError: the file cannot be read, or was changed.
        """
        stated = self._opened_root(held.info)
        if stated is None or stated[0] != parameters or not _is_cut(held):
            return None
        try:
            async with asyncio.timeout(_PATIENCE):
                return await self._once(held, stated, partial(_open, held, stated))
        except TimeoutError:
            return None

    def known_opened(self, held: LocalRelease) -> HeldOpened | None:
        """The same, if somebody asked for its tree before."""
        stated = self._opened_root(held.info)
        building = None if stated is None else self._building.get((held.info.release_id, stated))
        if building is None or not building.done() or building.cancelled() or building.exception() is not None:
            return None
        opened: HeldOpened | None = building.result()
        return opened

    async def _once(self, held: LocalRelease, stated: bytes, build: Callable[[], _Result]) -> _Result:
        key = held.info.release_id, stated
        if key not in self._building:
            there = {info.release_id for info in self._shelf.held}
            self._building = {each: task for each, task in self._building.items() if each[0] in there}
            self._building[key] = asyncio.create_task(self._build(held, build))
        building = self._building[key]
        try:
            result: _Result = await asyncio.shield(building)
            return result
        except BaseException:
            # Others may have waited for it as well, or have built another one since.
            if building.done() and self._building.get(key) is building:
                del self._building[key]
            raise

    async def _build(self, held: LocalRelease, build: Callable[[], _Result]) -> _Result:
        result = await in_thread(build)
        if self._shelf.find(held.info.release_id) != held:
            raise PatcherError(f"{held.path} was changed while its tree was built")
        return result


class OpenContent:
    """The opened content of a release for one answer, whose ranges ascend; see ``OpenRelease``."""

    def __init__(self, file: OpenRelease, opened: HeldOpened) -> None:
        self._file = file
        self._content = Content(file.whole, opened.streams)
        self._counted = -1

    def has(self, _size: int, _offset: int) -> bool:
        """Whether these bytes are there."""
        return True

    def whole(self, size: int, offset: int) -> bytes:
        """All of the ``size`` bytes from there; blocks.

        Raises:
            PatcherError: the file was changed.
        """
        return self._content.read(size, offset)

    def cost(self, size: int, offset: int) -> int:
        """Bytes that are inflated for it, beside those that were for what was asked before it."""
        streams, cost = self._content.streams, 0
        for number, _, _ in streams.parts(offset, min(offset + size, streams.body)):
            if number is not None and number > self._counted:
                self._counted = number
                cost += streams.stream(number).opened
        return cost

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _is_cut(held: LocalRelease) -> bool:
    return chunks.COMPILED or held.info.file_size <= _PLAIN_LIMIT


def _build(held: LocalRelease) -> Tree:
    descriptor = open_regular(held.path)
    try:
        return build_tree(descriptor, held.info.file_size)
    finally:
        os.close(descriptor)


def _open(held: LocalRelease, stated: bytes) -> HeldOpened | None:
    """None where it opens to more than it may, or to something else than the owner says."""
    descriptor = open_regular(held.path)
    try:
        streams, tree = open_file(descriptor, held.info.file_size, PARAMETERS[stated[0]])
    except ArtifactError:
        return None
    finally:
        os.close(descriptor)
    return HeldOpened(tree.file_size, tree.nodes, tree.root, streams) if tree.root == stated[1:] else None
