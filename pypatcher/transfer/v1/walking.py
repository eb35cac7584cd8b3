"""Learns a release's chunk tree from the peers that have it: node by node, none of which is believed.

protocol.md "Only what is new", "Opened streams". Not here: what a tree is (``artifact.tree``), and whom of the peers a
question goes to (``asking``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from pypatcher.artifact.chunks import parameters_for
from pypatcher.artifact.opened import CONTENT_LIMIT, TABLE_LIMIT
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.tree import TreeNode, Walk
from pypatcher.errors import CodecError, PeerError
from pypatcher.transfer.v1.answers import ABSENT
from pypatcher.transfer.v1.asking import Asking, NoTreeError
from pypatcher.transfer.v1.member import SwarmMember
from pypatcher.transfer.v1.messages import NODES_LIMIT

__all__ = ["Roots", "Walking", "WrongTreeError"]


class Roots(NamedTuple):
    """What the owner states of a release: the root of its tree, 16 bytes; and of its opened content's, behind the
    number of that tree's parameters."""

    tree: bytes
    opened: bytes | None = None


class WrongTreeError(Exception):
    """What is below the root that the owner signed is no tree of such a file."""


class Walking:
    """One tree of a release.

    Args:
        root: its id, as the owner states it.
        opened: the parameters' number, of the tree over the opened content; None for the file's own.
        most: bytes of nodes for which it is worth it.
    """

    def __init__(
        self, info: PatchInfo, root: bytes, asking: Asking, *, opened: int | None = None, most: int | None = None
    ) -> None:
        self._info, self._root, self._asking, self._opened, self._most = info, root, asking, opened, most
        self._told: set[SwarmMember] = set()

    async def walk(self, known: Mapping[bytes, bytes]) -> Walk:
        """Every node of the tree; those that are known here are not asked for.

        Raises:
            NoTreeError: nobody has it, or it is not worth it.
            WrongTreeError: it is none.
            PeerBusyError, NobodyLeftError: nobody is left to ask.
        """
        if self._root not in known:
            known = {self._root: (await self._ask([self._root]))[0], **known}
        try:
            size = self._content_size(known[self._root])
            walk = Walk(self._root, size, known.get, opened=self._opened is not None)
            while missing := walk.missing:
                if self._most is not None and walk.received > self._most:
                    raise NoTreeError("its nodes are more than it spares")
                for node in await self._ask(missing[:NODES_LIMIT]):
                    walk.add(node)
        except CodecError as error:
            raise WrongTreeError(str(error)) from None
        return walk

    def _content_size(self, root: bytes) -> int:
        """Bytes below the root.

        Raises:
            CodecError: no file opens to so much, or its tree is another one.
        """
        if self._opened is None:
            return self._info.file_size
        size = sum(TreeNode.decode(root).sizes)
        if size > CONTENT_LIMIT + TABLE_LIMIT or parameters_for(size, opened=True).number != self._opened:
            raise CodecError("a tree of more opened content than a file has")
        return size

    async def _ask(self, names: Sequence[bytes]) -> list[bytes]:
        return await self._asking.ask(partial(self._nodes, names))

    async def _nodes(self, names: Sequence[bytes], member: SwarmMember) -> list[bytes] | None:
        """These nodes, each the one that was asked for; None where that peer has none of the tree."""
        parameters = self._opened or parameters_for(self._info.file_size).number
        nodes = await member.nodes(self._info, parameters, names)
        if ABSENT not in nodes:
            self._told.add(member)
            return nodes
        if member in self._told or any(nodes):
            raise PeerError("the peer has a part of a tree and not all of it")
        # One that cuts no file as large as this one has none of it, and gives the file all the same.
        return None
